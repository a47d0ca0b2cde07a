"""The front matter of a model card: YAML that the Hugging Face hub reads.

Keys as in the hub's model card specification (hub-docs, `modelcard.md`); `huggingface_hub.ModelCard` validates them in
the tests. What is not known is left out: a licence, or a base model that is not on the hub.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from compressbert.config.names import data_set_name
from compressbert.report.card_facts import Card, Form, file_name, hub_name
from compressbert.results.record import MetricResult

# The hub's identifiers of our metrics, where they differ.
_METRICS = {
    "matthews": "matthews_correlation",
    "pearson": "pearsonr",
    "spearman": "spearmanr",
    "macro_f1": "f1",
    "micro_f1": "f1",
}
_TASKS = (
    ("SequenceClassification", "text-classification", "Text Classification"),
    ("TokenClassification", "token-classification", "Token Classification"),
    ("QuestionAnswering", "question-answering", "Question Answering"),
    ("MaskedLM", "fill-mask", "Fill Mask"),
    ("", "feature-extraction", "Feature Extraction"),
)
_TRAINED = {"finetune", "distill", "prune", "restructure"}


def front_matter(card: Card, form: Form) -> str:
    """The YAML between the dashes, ending in a newline."""
    lineage = card.result.lineage
    base = hub_name(lineage[0].parent) if lineage else None
    tag, _ = _task(form)
    metrics = list(dict.fromkeys(_METRICS.get(name, name) for name in card.result.quality))
    data = [step.data.section.get("hub") for step in lineage if step.data]
    data_sets = dict.fromkeys(data_set_name(name)[0] for name in data if name)
    found: dict[str, Any] = {
        "library_name": form.library,
        "pipeline_tag": tag,
        "base_model": base,
        "base_model_relation": _relation(card, form) if base else None,
        "datasets": list(data_sets),
        "metrics": metrics,
        "tags": _tags(card, form),
        "model-index": _model_index(card, form),
    }
    kept = {key: value for key, value in found.items() if value}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=100)


def _task(form: Form) -> tuple[str, str]:
    """The hub's identifier of the task and its name."""
    return next((tag, name) for part, tag, name in _TASKS if part in form.architecture)


def _relation(card: Card, form: Form) -> str | None:
    """How it relates to the base model. The hub takes a repository with .onnx files for quantized unless told."""
    commands = {step.command for step in card.result.lineage}
    if commands & _TRAINED:
        return "finetune"
    return "quantized" if form.is_int8 else None


def _tags(card: Card, form: Form) -> list[str]:
    methods = [step.method for step in card.result.lineage if step.method]
    kind = form.config.get("model_type")
    library = form.library if form.exported else None
    words = ["compressbert", kind, library, "int8" if form.is_int8 else None, *methods]
    return list(dict.fromkeys(str(word) for word in words if word))


def _model_index(card: Card, form: Form) -> list[dict[str, Any]]:
    if not card.result.quality:
        return []
    tag, name = _task(form)
    result = {
        "task": {"type": tag, "name": name},
        "dataset": _dataset(card),
        "metrics": [_metric(metric, found) for metric, found in card.result.quality.items()],
    }
    return [{"name": card.result.step, "results": [result]}]


def _dataset(card: Card) -> dict[str, str]:
    data = card.section
    if data.get("hub"):
        name, config = data_set_name(data["hub"])
        split = data.get("validation") or "validation"
        return {"name": data["hub"], "type": name, **({"config": config} if config else {}), "split": split}
    file = file_name(data.get("validation") or "validation")
    kind = re.sub(r"[^a-z0-9]+", "-", file.partition(".")[0].lower()).strip("-")
    return {"name": file, "type": kind or "validation", "split": "validation"}


def _metric(name: str, found: MetricResult) -> dict[str, Any]:
    """A result whose name carries its interval: the specification has no key for one."""
    interval = f"95 % interval {found.low:.4f} to {found.high:.4f}, {found.examples:,} rows"
    return {"type": _METRICS.get(name, name), "value": round(found.value, 6), "name": f"{name} ({interval})"}
