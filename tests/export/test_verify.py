"""`verify` opens what was written in every loader present, and does not run code it does not know."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from compressbert import save
from compressbert.config.schema import ExportConfig
from compressbert.errors import InputError
from compressbert.export import environments
from compressbert.export.form import Form
from compressbert.export.verify import LoaderCheck, verify
from compressbert.export.write import export_onnx
from compressbert.model.remote_code import FILE
from tests.export.stand import tiny_model, uneven_model


@pytest.fixture(autouse=True)
def loaders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of environments, whatever this machine has."""
    monkeypatch.setenv("COMPRESSBERT_LOADERS", str(tmp_path / "loaders"))
    return tmp_path / "loaders"


def fake_environment(folder: Path, program: str) -> None:
    """An environment whose interpreter is a shell script."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    (folder / environments.STAMP).write_text(environments.stamp_of(folder.name))


def statuses(folder: Path) -> dict[str, str]:
    return {check.loader: check.status for check in verify(folder)}


def check_of(loader: str, folder: Path) -> LoaderCheck:
    (check,) = [check for check in verify(folder) if check.loader == loader]
    return check


def test_an_export_folder_opens_in_onnxruntime(tmp_path: Path) -> None:
    export_onnx(uneven_model("bert"), tmp_path / "out", ExportConfig(precision="both"))
    found = statuses(tmp_path / "out")
    assert found["onnxruntime (model.onnx)"] == found["onnxruntime (model_quantized.onnx)"] == "ok"
    assert "transformers" not in found
    assert statuses(tmp_path / "out/onnx/model.onnx")["onnxruntime"] == "ok"


def test_what_is_not_installed_is_listed_as_absent_with_how_to_get_it(tmp_path: Path) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    found = {check.loader: check for check in verify(tmp_path / "out")}
    for loader, name in (
        ("oldest onnxruntime", "onnxruntime-oldest"),
        ("optimum", "optimum"),
        ("transformers.js", "transformers.js"),
    ):
        assert (found[loader].status, found[loader].max_difference) == ("absent", None)
        assert f"python -m compressbert.export.environments {name}" in found[loader].detail


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_an_environment_that_broke_fails_with_the_end_of_what_it_said(tmp_path: Path, loaders: Path) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    fake_environment(
        loaders / "optimum", "echo first >&2; echo 'ImportError: libfoo.so is missing' >&2; exit 1"
    )
    check = check_of("optimum", tmp_path / "out")
    assert (check.status, check.detail) == ("failed", "first\nImportError: libfoo.so is missing")
    (loaders / "optimum" / "bin" / "python").unlink()
    check = check_of("optimum", tmp_path / "out")
    assert check.status == "failed"
    assert "cannot be started" in check.detail


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_loader_that_crashes_or_writes_nonsense_fails(tmp_path: Path, loaders: Path) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    fake_environment(loaders / "optimum", "kill -SEGV $$")
    fake_environment(loaders / "onnxruntime-oldest", 'echo nonsense > "$5"')
    found = {check.loader: check for check in verify(tmp_path / "out")}
    assert (found["optimum"].status, found["optimum"].detail) == ("failed", "ended by signal 11")
    assert found["oldest onnxruntime"].status == "failed"
    assert "no readable answer" in found["oldest onnxruntime"].detail


def test_without_node_transformers_js_is_absent(
    tmp_path: Path, loaders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    (loaders / "transformers.js").mkdir(parents=True)
    (loaders / "transformers.js" / environments.STAMP).write_text(environments.stamp_of("transformers.js"))
    monkeypatch.setattr("shutil.which", lambda name: None)
    check = check_of("transformers.js", tmp_path / "out")
    assert (check.status, check.detail) == ("absent", "node is not on PATH; install Node.js 20")


def test_an_unfinished_environment_is_absent(tmp_path: Path, loaders: Path) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    (loaders / "optimum" / "bin").mkdir(parents=True)
    assert check_of("optimum", tmp_path / "out").status == "absent"


def another_answer(file: Path, loaders: Path, *, by: float) -> None:
    """Let the oldest onnxruntime open a copy of the file whose logits are ``by`` larger."""
    proto = onnx.load(str(file))
    (bias,) = [tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias"]
    bias.raw_data = (numpy_helper.to_array(bias) + np.float32(by)).tobytes()
    place = loaders.parent / "other.onnx"
    onnx.save(proto, str(place))
    script = f'shift 3; exec "{sys.executable}" "$SCRIPT" {place} "$@"'
    fake_environment(loaders / "onnxruntime-oldest", f'SCRIPT="$2"; {script}')


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_answers_that_differ_fail(tmp_path: Path, loaders: Path) -> None:
    folder = tmp_path / "out"
    another_answer(export_onnx(tiny_model("bert"), folder, ExportConfig()).files["fp32"], loaders, by=0.01)
    check = check_of("oldest onnxruntime", folder)
    assert (check.status, check.detail) == ("failed", "differs by more than 0.001")
    assert check.max_difference is not None
    assert 0.001 < check.max_difference <= 0.011


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
@pytest.mark.parametrize("texts", ["grouped", "together"])
def test_int8_files_may_differ_by_rounding(
    texts: Literal["grouped", "together"], tmp_path: Path, loaders: Path
) -> None:
    folder, settings = tmp_path / "out", ExportConfig(precision="int8")
    written = export_onnx(tiny_model("bert"), folder, settings, form=Form(texts=texts))
    another_answer(written.files["int8"], loaders, by=0.003)
    check = check_of("oldest onnxruntime", folder)
    assert check.status == "ok", check
    assert check.max_difference is not None
    assert check.max_difference > 0.001  # more than fp32 files may


def test_a_damaged_file_fails(tmp_path: Path) -> None:
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    proto = onnx.load(str(file))
    proto.graph.node[5].op_type = "NoSuchOperator"
    onnx.save(proto, str(file))
    check = check_of("onnxruntime", file)
    assert check.status == "failed"
    assert "NoSuchOperator" in check.detail
    assert "Traceback" not in check.detail
    file.write_bytes(file.read_bytes()[:-1000])
    found = {check.loader: check for check in verify(tmp_path / "out")}
    assert found["onnxruntime"].status == "failed"
    assert "model.onnx" in found["onnxruntime"].detail
    assert found["text-embeddings-inference (layout)"].status == "failed"


def test_a_file_that_answers_nan_fails(tmp_path: Path) -> None:
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    proto = onnx.load(str(file))
    (bias,) = [tensor for tensor in proto.graph.initializer if tensor.name == "classifier.bias"]
    bias.raw_data = (numpy_helper.to_array(bias) * np.float32("nan")).tobytes()
    onnx.save(proto, str(file))
    assert statuses(file)["onnxruntime"] == "failed"


def test_a_model_folder_with_code_opens_in_plain_transformers(tmp_path: Path) -> None:
    save(uneven_model("bert"), tmp_path / "model")
    assert (tmp_path / "model" / FILE).is_file()
    ours, theirs = verify(tmp_path / "model")
    assert (ours.loader, ours.status) == ("compressbert", "ok")
    assert (theirs.loader, theirs.status, theirs.detail) == ("transformers", "ok", version("transformers"))
    assert theirs.max_difference is not None
    assert theirs.max_difference < 1e-6


def test_code_that_was_changed_is_not_run(tmp_path: Path) -> None:
    save(uneven_model("bert"), tmp_path / "model")
    marker = tmp_path / "ran"
    with (tmp_path / "model" / FILE).open("a") as file:
        file.write(f"\nopen({str(marker)!r}, 'w').close()\n")
    ours, theirs = verify(tmp_path / "model")
    assert ours.status == "ok"
    assert theirs.status == "failed"
    assert "not run" in theirs.detail
    assert not marker.exists()


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a model nor an \.onnx or OpenVINO file"):
        verify(tmp_path)


def test_a_config_that_is_no_json_is_an_input_error(tmp_path: Path) -> None:
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    (tmp_path / "out" / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json is not JSON"):
        verify(tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_a_file_that_needs_a_newer_onnxruntime_is_not_judged_by_the_oldest(
    tmp_path: Path, loaders: Path
) -> None:
    fake_environment(loaders / "onnxruntime-oldest", "exit 1")
    facts = export_onnx(uneven_model("bert"), tmp_path / "out", ExportConfig(precision="int8"))
    (note,) = [text for text in facts.notes if "onnxruntime" in text]
    assert "width 24, 37" in note
    check = check_of("oldest onnxruntime", tmp_path / "out")
    assert (check.status, "needs onnxruntime 1.25" in check.detail) == ("unfit", True)
    even = export_onnx(tiny_model("bert"), tmp_path / "even", ExportConfig(precision="int8"))
    assert even.notes == ()
    assert check_of("oldest onnxruntime", tmp_path / "even").status == "failed"  # it was asked


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_openvino_is_kept_from_products_it_misreads(tmp_path: Path, loaders: Path) -> None:
    fake_environment(loaders / "openvino", "exit 1")
    export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig())
    check = check_of("openvino", tmp_path / "out")
    assert (check.status, "format: openvino" in check.detail) == ("unfit", True)
