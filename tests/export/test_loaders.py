"""Every export in every loader for real. `make test-loaders` makes the environments and runs this."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from compressbert import save
from compressbert.api import export
from compressbert.config.schema import ExportConfig, ExportStepConfig
from compressbert.export import environments, trace
from compressbert.export.targets import triton_config
from compressbert.export.verify import LoaderCheck, verify
from compressbert.export.write import export_onnx
from compressbert.model.handle import Model
from compressbert.model.pooling import Pooling
from tests.export.stand import tiny_model, uneven_model

pytestmark = pytest.mark.loaders

HERE = Path(__file__).resolve().parent
LOADERS = {
    "oldest onnxruntime": "onnxruntime-oldest",
    "optimum": "optimum",
    "transformers.js": "transformers.js",
}
EXTRA = importlib.util.find_spec("openvino") is not None and importlib.util.find_spec("nncf") is not None


def sentence_encoder(family: str = "bert", mode: str = "mean") -> Model:
    model = tiny_model(family, head="none")
    model.pooling = Pooling(mode, normalize=mode == "mean")
    return model


KINDS = {
    "classification": lambda: tiny_model("bert"),
    "regression": lambda: tiny_model("bert", labels=1, problem_type="regression"),
    "multi-label": lambda: tiny_model("bert", labels=3, problem_type="multi_label_classification"),
    "tokens": lambda: tiny_model("bert", head="tokens", labels=5),
    "answers": lambda: tiny_model("bert", head="answers"),
    "masked-lm": lambda: tiny_model("bert", head="masked-lm"),
    "none": lambda: tiny_model("bert", head="none"),
    "mean": sentence_encoder,
    "cls": lambda: sentence_encoder(mode="cls"),
}
MODELS = KINDS | {
    "uneven": lambda: uneven_model("bert"),
    "uneven tokens": lambda: uneven_model("bert", head="tokens"),
    "roberta": lambda: tiny_model("roberta"),
    "roberta answers": lambda: tiny_model("roberta", head="answers"),
    "roberta mean": lambda: sentence_encoder("roberta"),
    "distilbert": lambda: tiny_model("distilbert"),
    "distilbert masked-lm": lambda: tiny_model("distilbert", head="masked-lm"),
    "electra": lambda: tiny_model("electra"),
    "albert": lambda: tiny_model("albert"),
    "mpnet": lambda: tiny_model("mpnet"),
    "mpnet mean": lambda: sentence_encoder("mpnet"),
    "modernbert": lambda: tiny_model("modernbert"),
    "modernbert tokens": lambda: tiny_model("modernbert", head="tokens"),
    "electra tokens": lambda: tiny_model("electra", head="tokens"),
}


@pytest.fixture
def present() -> None:
    """Skip unless the environments were made; COMPRESSBERT_LOADERS must name them."""
    missing = [name for name in LOADERS.values() if environments.find(name) is None]
    if "COMPRESSBERT_LOADERS" not in os.environ or missing:
        pytest.skip(
            f"no environments of loaders ({', '.join(missing) or 'unnamed'}); make test-loaders makes them"
        )


def exported(model: Model, folder: Path, **settings: Any) -> Path:
    """A model saved and exported as a user would; returns the export folder beside ``folder / "model"``."""
    save(model, folder / "model")
    export(
        ExportStepConfig(
            model={"path": str(folder / "model")},
            export=ExportConfig(**settings),
            output=str(folder / "export"),
        )
    )
    return folder / "export"


def checks_of(folder: Path) -> dict[str, LoaderCheck]:
    return {check.loader: check for check in verify(folder)}


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("name", MODELS)
def test_every_loader_opens_the_export_and_agrees(name: str, tmp_path: Path) -> None:
    """Tokenizers are compared too, pairs among the texts. Widths of uneven models need a newer onnxruntime."""
    checks = checks_of(exported(MODELS[name](), tmp_path, precision="both"))
    expected = ["onnxruntime", *LOADERS]
    if name.endswith(("mean", "cls")):
        expected.append("sentence-transformers")
    for loader in expected:
        for file in ("model.onnx", "model_quantized.onnx"):
            ragged = "uneven" in name and (loader, file) == ("oldest onnxruntime", "model_quantized.onnx")
            check = checks[f"{loader} ({file})"]
            assert check.status == ("unfit" if ragged else "ok"), check
    assert checks["oldest onnxruntime (model.onnx)"].detail == environments.oldest_onnxruntime()
    served = name in ("classification", "regression", "multi-label", "mean", "cls")
    if name in KINDS:
        tei = checks["text-embeddings-inference (layout)"]
        assert tei.status == ("ok" if served else "unfit"), tei


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("name", KINDS)
def test_plain_transformers_opens_the_model_folder_of_every_kind(name: str, tmp_path: Path) -> None:
    save(KINDS[name](), tmp_path / "model")
    checks = verify(tmp_path / "model")
    embeds = name in ("mean", "cls")
    expected = ["compressbert", "transformers", *(["sentence-transformers"] if embeds else [])]
    assert [(check.loader, check.status) for check in checks] == [(loader, "ok") for loader in expected]


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("name", KINDS)
def test_tritons_layout_holds_for_every_kind(name: str, tmp_path: Path) -> None:
    folder = exported(KINDS[name](), tmp_path, precision="int8", target="triton")
    checks = checks_of(folder)
    for loader in ("triton (layout)", "onnxruntime", "oldest onnxruntime", "optimum"):
        assert checks[loader].status == "ok", checks[loader]
    assert checks["transformers.js"].status == "unfit"  # it reads onnx/ only


@pytest.mark.usefixtures("present")
@pytest.mark.skipif(not EXTRA, reason="the extra openvino is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", KINDS)
def test_openvino_and_optimum_intel_open_the_ir_of_every_kind(name: str, tmp_path: Path) -> None:
    checks = checks_of(exported(KINDS[name](), tmp_path, format="openvino"))
    embeds = name in ("mean", "cls")
    for loader in ("openvino", "optimum-intel", *(["sentence-transformers"] if embeds else [])):
        assert checks[loader].status == "ok", checks[loader]


PIPELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "text-classification": ("classification", {"text": "the film was good"}),
    "token-classification": ("tokens", {"text": "the film was good and bad"}),
    "question-answering": (
        "answers",
        {"question": "was the film good", "context": "the plot was bad and the cast was superb"},
    ),
    "fill-mask": ("masked-lm", {"text": "the film was [MASK]"}),
    "feature-extraction": ("mean", {"text": "the film was good"}),
}


def close(ours: Any, theirs: Any) -> bool:
    """Whether two answers are the same but for the last digits of their numbers."""
    if isinstance(ours, float):
        return ours == pytest.approx(theirs, abs=1e-4)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(close(ours[key], theirs[key]) for key in ours)
    return bool(ours == theirs)


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("task", PIPELINES)
def test_pipelines_of_the_export_answer_like_those_of_the_model(task: str, tmp_path: Path) -> None:
    kind, inputs = PIPELINES[task]
    folder = exported(KINDS[kind](), tmp_path, precision="both")
    home, node = environments.find("optimum"), environments.find("transformers.js")
    assert home is not None
    words = [environments.python_of(home), str(HERE / "pipelines.py"), task]
    done = subprocess.run(
        [*words, str(tmp_path / "model"), str(folder), json.dumps(inputs)],
        capture_output=True, text=True, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    theirs, ours = json.loads(done.stdout)
    assert close(ours, theirs), (ours, theirs)
    if "text" not in inputs:
        return  # transformers.js chooses answers by another rule
    for dtype in ("fp32", "q8"):
        words = ["node", str(HERE / "pipelines.mjs"), str(node), task, str(folder), dtype, inputs["text"]]
        found = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        if task == "feature-extraction":
            assert len(found[0]) == 32
        else:  # the same labels or words; numbers, too, in fp32
            names = {"text-classification": "label", "token-classification": "entity"}.get(task, "token_str")
            assert [each[names] for each in found][:1] == [each[names] for each in theirs][:1]
            if dtype == "fp32":
                assert [each["score"] for each in found] == pytest.approx(
                    [each["score"] for each in theirs], abs=1e-4
                )


@pytest.mark.usefixtures("present")
@pytest.mark.parametrize("kind", ["classification", "tokens", "answers", "masked-lm", "mean"])
def test_openvino_reads_files_of_standard_operators_and_is_kept_from_fast_ones(
    kind: str, tmp_path: Path
) -> None:
    if environments.find("openvino") is None:
        pytest.skip("no environment openvino; make test-loaders makes it")
    model = KINDS[kind]()
    export_onnx(model, tmp_path / "fast", ExportConfig())
    export_onnx(model, tmp_path / "plain", ExportConfig(optimize=False, precision="both"))
    assert checks_of(tmp_path / "fast")["openvino"].status == "unfit"
    plain = checks_of(tmp_path / "plain")
    for file in ("model.onnx", "model_quantized.onnx"):
        assert plain[f"openvino ({file})"].status == "ok", plain[f"openvino ({file})"]


@pytest.mark.usefixtures("present")
def test_openvino_reads_traced_files(tmp_path: Path) -> None:
    if environments.find("openvino") is None:
        pytest.skip("no environment openvino; make test-loaders makes it")
    model = tiny_model("bert")
    export_onnx(model, tmp_path / "out", ExportConfig())
    trace.export(model, tmp_path / "traced.onnx", opset=17)
    shutil.copy(tmp_path / "out" / "config.json", tmp_path)
    traced = checks_of(tmp_path / "traced.onnx")["openvino"]
    assert traced.status == "ok", traced


@pytest.mark.usefixtures("present")
def test_tritons_own_message_reads_the_config(tmp_path: Path) -> None:
    folder = environments.find("triton")
    if folder is None:
        pytest.skip("no environment triton; make test-loaders makes it")
    file = export_onnx(tiny_model("bert"), tmp_path / "out", ExportConfig()).files["fp32"]
    text = triton_config(file, "served", with_labels=True)
    program = (
        "import sys, json; from google.protobuf import json_format, text_format\n"
        "from tritonclient.grpc.model_config_pb2 import ModelConfig\n"
        "print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), ModelConfig())))"
    )
    command = [environments.python_of(folder), "-c", program]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    config = json.loads(done.stdout)
    assert (config["name"], config["backend"], config["maxBatchSize"]) == ("served", "onnxruntime", 32)
    assert [(tensor["name"], tensor["dataType"], tensor["dims"]) for tensor in config["input"]] == [
        ("input_ids", "TYPE_INT64", ["-1"]),
        ("attention_mask", "TYPE_INT64", ["-1"]),
        ("token_type_ids", "TYPE_INT64", ["-1"]),
    ]
    output = {"name": "logits", "dataType": "TYPE_FP32", "dims": ["2"], "labelFilename": "labels.txt"}
    assert config["output"] == [output]
    assert config["instanceGroup"] == [{"count": 1, "kind": "KIND_CPU"}]
