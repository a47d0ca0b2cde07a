from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from compressbert.errors import InputError, WorkError
from compressbert.measure.runners import config_folder, onnx_file, open_runner
from tests.measure.graphs import export_folder, write_config, write_graph
from tests.tiny import save_tiny, tiny_network


def ids(batch: int = 2, length: int = 5) -> np.ndarray:
    return np.arange(batch * length, dtype=np.int64).reshape(batch, length)


def test_export_folder_prefers_the_quantized_file(tmp_path: Path) -> None:
    export_folder(tmp_path)
    assert onnx_file(tmp_path) == tmp_path / "onnx" / "model.onnx"
    write_graph(tmp_path / "onnx" / "model_quantized.onnx", products=2)
    assert onnx_file(tmp_path) == tmp_path / "onnx" / "model_quantized.onnx"


def test_model_folder_with_exports_beside_stays_a_model_folder(tmp_path: Path) -> None:
    export_folder(tmp_path)
    (tmp_path / "model.safetensors").touch()
    assert onnx_file(tmp_path) is None


def test_file_and_folder_give_the_same_logits(tmp_path: Path) -> None:
    export_folder(tmp_path)
    answers = []
    for path in (tmp_path, tmp_path / "onnx" / "model.onnx"):
        runner = open_runner(path)
        assert (runner.runtime, runner.input_names) == ("onnxruntime", ("input_ids",))
        answers.append(runner.predict({"input_ids": ids(), "attention_mask": np.ones_like(ids())}))
        runner.close()
    assert answers[0].shape == (2, 2)
    assert (answers[0] == answers[1]).all()


def test_limits_come_from_the_config_beside_or_above(tmp_path: Path) -> None:
    export_folder(tmp_path, max_length=40)
    runner = open_runner(tmp_path / "onnx" / "model.onnx")
    assert (runner.limits.vocab_size, runner.limits.max_length, runner.limits.pad_id) == (50, 40, 0)
    assert config_folder(tmp_path / "onnx" / "model.onnx") == tmp_path


def test_positions_of_roberta_start_after_the_padding_index(tmp_path: Path) -> None:
    write_config(tmp_path, max_length=66, model_type="roberta", pad_id=1)
    write_graph(tmp_path / "model.onnx")
    runner = open_runner(tmp_path)
    assert (runner.limits.max_length, runner.limits.pad_id) == (64, 1)


def test_bare_file_has_no_limits(tmp_path: Path) -> None:
    runner = open_runner(write_graph(tmp_path / "a" / "b" / "x.onnx"))
    assert (runner.limits.vocab_size, runner.limits.max_length) == (None, None)


def test_missing_input_is_named(tmp_path: Path) -> None:
    runner = open_runner(write_graph(tmp_path / "x.onnx", inputs=("input_ids", "token_type_ids")))
    with pytest.raises(InputError, match="token_type_ids missing"):
        runner.predict({"input_ids": ids()})


def test_failing_run_says_the_shapes(tmp_path: Path) -> None:
    runner = open_runner(write_graph(tmp_path / "x.onnx"))
    with pytest.raises(WorkError, match=r"input_ids \(2, 5\)"):
        runner.predict({"input_ids": ids() + 10_000})


@pytest.mark.parametrize("content", [b"", b"not a graph", b"\x08\x07" * 40])
def test_unreadable_file_is_an_input_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.onnx"):
        open_runner(file)


def test_nothing_to_open_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No model at"):
        open_runner(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"found notes\.txt"):
        open_runner(tmp_path)
    with pytest.raises(InputError, match="found notes"):
        open_runner(tmp_path / "notes.txt")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_model_folder_gives_the_stock_logits(tmp_path: Path, family: str) -> None:
    save_tiny(tmp_path, family)
    threads = torch.get_num_threads()
    runner = open_runner(tmp_path)
    inputs = {name: ids() + 5 if name == "input_ids" else np.ones_like(ids()) for name in runner.input_names}
    assert runner.runtime == "pytorch"
    with torch.inference_mode():
        expected = tiny_network(family)(
            **{name: torch.from_numpy(array) for name, array in inputs.items()}
        ).logits
    np.testing.assert_allclose(runner.predict(inputs), expected.numpy(), atol=1e-6)
    runner.close()
    assert torch.get_num_threads() == threads


def test_onnx_is_run_without_torch_and_transformers(tmp_path: Path) -> None:
    file = export_folder(tmp_path)
    program = (
        "import sys, pathlib, compressbert.measure.worker as w\n"
        f"runner = w.open_runner(pathlib.Path({str(file)!r}))\n"
        "w.time_calls(runner, batch=1, lengths=[4], calls=1, seed=0)\n"
        "heavy = ('torch', 'transformers', 'datasets', 'onnx', 'pydantic', 'yaml', 'safetensors')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "[]"
