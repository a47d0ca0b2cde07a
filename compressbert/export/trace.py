"""Exports any other encoder through PyTorch's exporter: slower to write, fp32 only, checked alike."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from compressbert import __version__
from compressbert.errors import WorkError
from compressbert.export.metadata import metadata_of
from compressbert.export.parity import Parity, check
from compressbert.export.probes import limits_from_config
from compressbert.model.handle import Model

_LOWEST_OPSET = 18  # PyTorch's exporter writes nothing older


class Outputs(nn.Module):
    """A network reduced to some of its outputs, and to the vectors that are pooled from its states."""

    def __init__(self, model: Model, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.pooling = model.network, model.pooling
        self.names = names

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Inputs (B, S) to the outputs."""
        named = {"token_type_ids": token_type_ids} if token_type_ids is not None else {}
        found = dict(self.network(input_ids=input_ids, attention_mask=attention_mask, **named))
        if self.pooling is not None:
            found["sentence_embedding"] = self.pooling(found["last_hidden_state"], attention_mask)
        return tuple(found[name] for name in self.names)


def output_names(model: Model, example: dict[str, Tensor]) -> tuple[str, ...]:
    """What a file of the model gives, the main output first; ``example`` is any batch."""
    with torch.inference_mode():
        found = model(**example)
    if "start_logits" in found:
        return ("start_logits", "end_logits")
    if "sentence_embedding" in found:
        return ("sentence_embedding", "last_hidden_state")
    return ("logits",) if "logits" in found else ("last_hidden_state",)


def export(model: Model, file: Path, *, opset: int) -> Parity:
    """Trace ``model`` into ``file`` and compare the two.

    Args:
        model: In evaluation mode, fp32.
        file: Written anew, in a folder that exists.
        opset: Operator set; raised to 18 where it is lower.

    Raises:
        WorkError: PyTorch cannot trace the model, or the file differs from it.
    """
    names = _inputs(model)
    example = {name: torch.ones(2, 8, dtype=torch.int64) for name in names}
    if "token_type_ids" in names:
        example["token_type_ids"] = torch.zeros(2, 8, dtype=torch.int64)
    outputs = output_names(model, example)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence")}
    opset = max(opset, _LOWEST_OPSET)
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                Outputs(model, outputs).eval(),
                kwargs=example,
                input_names=list(names),
                output_names=list(outputs),
                dynamic_shapes=dict.fromkeys(names, axes),
                opset_version=opset,
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise WorkError(
            f"PyTorch's exporter cannot trace {type(model.network).__name__}: {first}",
            hint="Models of the BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT, MPNet and ModernBERT families do without.",
        ) from error
    if program is None:
        raise WorkError(f"PyTorch's exporter gave nothing for {type(model.network).__name__}.")
    proto = program.model_proto
    proto.producer_name, proto.producer_version = "compressbert", __version__
    helper.set_model_props(proto, metadata_of(model, precision="fp32", opset=opset, known_family=False))
    onnx.save_model(proto, str(file))
    return check(model, file, limits=limits_from_config(model.network.config.to_dict()))


def _inputs(model: Model) -> tuple[str, ...]:
    """What the network takes and its tokenizer gives."""
    accepted = inspect.signature(model.network.forward).parameters
    types = "token_type_ids" in accepted and "token_type_ids" in model.tokenizer.model_input_names
    return ("input_ids", "attention_mask", *(("token_type_ids",) if types else ()))


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress, warnings and logs from the user's terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
