"""Whether two loaders gave the same answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressbert.export.loader_process import Answers, Text
from compressbert.export.probes import Inputs

FP32_LIMIT = 1e-3  # largest |difference| / max(1, |value|) between loaders of one artefact
# int8: a difference in a float's last bit now and then becomes a whole rounding step, which moves single rows far;
# a wrong graph moves most. So the root mean square of the differences is judged, over that of the values.
INT8_LIMIT = 0.25
_PER_TOKEN = ("start_logits", "end_logits")  # outputs (batch, sequence)

Array = NDArray[np.float32]


def odd_output(answers: Answers) -> str:
    """What is wrong with the outputs by themselves; "" if nothing is."""
    finite = all(np.isfinite(value).all() for found in answers.outputs for value in found.values())
    return "" if finite else "an output is not finite"


def odd_tokens(answers: Answers, expected: list[list[int]] | None, texts: Sequence[Text]) -> str:
    """The first text that was tokenized otherwise than ``expected``; "" if none was, or the loader has no tokenizer."""
    if answers.tokens is None or expected is None:
        return ""
    for text, found, right in zip(texts, answers.tokens, expected, strict=True):
        if found != right:
            return f"tokenizes {' + '.join(map(repr, text))} differently"
    return ""


def agreement(
    answers: Answers, first: Answers, batches: Sequence[Inputs], *, int8: bool, left: bool = True
) -> tuple[float | None, str]:
    """How far answers are from the first loader's, in the outputs both give, and what is wrong; "" if nothing is.

    Args:
        answers: Of a loader.
        first: Of the first one.
        batches: What both were given.
        int8: Whether the artefact computes with 8-bit integers.
        left: Whether texts that are padded on the left are compared.

    Returns:
        Largest |difference| / max(1, |value|); for int8 files the root mean square of the differences over that of
        the values. None where outputs cannot be compared.
    """
    shared = [output for output in first.outputs[0] if output in answers.outputs[0]]
    if not shared:
        given, wanted = ", ".join(answers.outputs[0]) or "nothing", ", ".join(first.outputs[0])
        return None, f"gives {given}, not {wanted}"
    ours, theirs = [], []
    for batch, found, right in zip(batches, answers.outputs, first.outputs, strict=True):
        for output in shared:
            if found[output].shape != right[output].shape:
                return None, f"{output} of shape {found[output].shape}, not {right[output].shape}"
            ours.append(_real(batch, output, found[output], left=left))
            theirs.append(_real(batch, output, right[output], left=left))
    difference = _difference(np.concatenate(ours), np.concatenate(theirs), int8=int8)
    limit = INT8_LIMIT if int8 else FP32_LIMIT
    return difference, "" if difference <= limit else f"differs by more than {limit:g}"


def _real(batch: Inputs, output: str, values: Array, *, left: bool) -> Array:
    """The values of an output, without those of padding, which is nobody's output."""
    mask = batch["attention_mask"] == 1
    texts = mask[:, 0] | left
    per_token = values.ndim == 3 or output in _PER_TOKEN
    real: Array = values[mask & texts[:, None]] if per_token else values[texts]
    return real.ravel()


def _difference(ours: Array, theirs: Array, *, int8: bool) -> float:
    if int8:
        return float(np.sqrt(np.square(ours - theirs).mean() / np.square(theirs).mean()))
    return float((np.abs(ours - theirs) / np.maximum(1, np.abs(theirs))).max())
