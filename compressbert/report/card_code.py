"""The code of a model card: how to load the folder and ask it, for each form it may have. The tests run it."""

from __future__ import annotations

from compressbert.report.card_facts import Card, Form
from compressbert.report.markdown import fenced

_HEADS = ("SequenceClassification", "TokenClassification", "QuestionAnswering", "MaskedLM", "PreTraining")
_TEXTS = 'tokenizer(["A first text.", "Another, longer text."]'
_PAIRS = 'tokenizer(["A first text.", "Another, longer text."], ["Its second text.", "And its own."]'


def usage(card: Card, form: Form) -> str:
    """The section's text: what is needed, and one block of Python."""
    lines = {"transformers": _transformers_lines, "onnx": _onnx_lines, "openvino": _openvino_lines}[
        form.library
    ]
    packages = {"transformers": "torch", "onnx": "onnxruntime", "openvino": "openvino"}[form.library]
    where = "a local copy of this folder" if form.exported else "this folder, or its name on the hub"
    code = "\n".join(lines(card, form)).replace("@folder", f'folder = "."  # {where}')
    needs = f"With {packages} and transformers 5; compressbert is not needed."
    return f"{needs}\n\n{fenced(code, 'python')}"


def _transformers_lines(card: Card, form: Form) -> list[str]:
    head = next((name for name in _HEADS if name in form.architecture), None)
    auto = f"AutoModelFor{head}" if head else "AutoModel"
    trust = ", trust_remote_code=True" if form.code else ""
    return [
        "import torch",
        f"from transformers import {', '.join(sorted((auto, 'AutoTokenizer')))}",
        "",
        "@folder",
        f"tokenizer = AutoTokenizer.from_pretrained(folder{trust})",
        f"model = {auto}.from_pretrained(folder{trust}).eval()",
        f"inputs = {_call(card, 'pt', form)}",
        "with torch.no_grad():",
        "    outputs = model(**inputs)",
        *_answer(form, "outputs.logits", "model.config.id2label"),
    ]


def _onnx_lines(card: Card, form: Form) -> list[str]:
    session = [
        f'session = onnxruntime.InferenceSession(f"{{folder}}/{form.main}")',
        "names = [each.name for each in session.get_inputs()]",
    ]
    ask = "session.run(None, {name: tokens[name].astype(np.int64) for name in names})"
    return _runtime_lines(card, form, "onnxruntime", session, ask)


def _openvino_lines(card: Card, form: Form) -> list[str]:
    session = [
        f'session = openvino.Core().compile_model(f"{{folder}}/{form.main}", "CPU")',
        "names = [each.get_any_name() for each in session.inputs]",
    ]
    ask = "list(session({name: tokens[name].astype(np.int64) for name in names}).values())"
    return _runtime_lines(card, form, "openvino", session, ask)


def _runtime_lines(card: Card, form: Form, package: str, session: list[str], ask: str) -> list[str]:
    answer = _answer(form, "outputs[0]", "config.id2label")
    config = ["AutoConfig"] if any("config." in line for line in answer) else []
    return [
        "import numpy as np",
        f"import {package}",
        f"from transformers import {', '.join([*config, 'AutoTokenizer'])}",
        "",
        "@folder",
        *(["config = AutoConfig.from_pretrained(folder)"] if config else []),
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        *session,
        f"tokens = {_call(card, 'np', form)}",
        f"outputs = {ask}",
        *answer,
    ]


def _call(card: Card, tensors: str, form: Form) -> str:
    pairs = card.data is not None and card.data.pairs
    longest = card.section.get("max_length")
    cut = f", truncation=True, max_length={longest}" if longest else ", truncation=True"
    if "MaskedLM" in form.architecture:
        return f'tokenizer([f"A {{tokenizer.mask_token}} text."], return_tensors="{tensors}")'
    return f'{_PAIRS if pairs else _TEXTS}, padding=True{cut}, return_tensors="{tensors}")'


def _answer(form: Form, logits: str, names: str) -> list[str]:
    """What to do with the outputs, by the kind of head."""
    if "MaskedLM" in form.architecture:
        tokens = "inputs" if logits.startswith("outputs.") else "tokens"
        return [
            f'masked = {tokens}["input_ids"][0] == tokenizer.mask_token_id',
            f"print(tokenizer.decode({logits}[0][masked].argmax(-1)))",
        ]
    if "SequenceClassification" not in form.architecture:
        return ["print([output.shape for output in outputs])"] if form.exported else ["print(outputs)"]
    kind = form.config.get("problem_type")
    count = len(form.config.get("id2label") or {})
    if kind == "regression" or count == 1:
        return [f"print({logits}[:, 0].tolist())"]
    if kind == "multi_label_classification":
        chosen = (
            f"[[{names}[index] for index, flag in enumerate(row) if flag] for row in ({logits} > 0).tolist()]"
        )
        return [f"print({chosen})"]
    return [f"print([{names}[index] for index in {logits}.argmax(-1).tolist()])"]
