"""The limits that a model card tells: what was not tested, and where the model does not run as it was measured."""

from __future__ import annotations

from collections.abc import Iterator

from compressbert.report.card_facts import Card, Form
from compressbert.report.markdown import escape
from compressbert.results.record import Portability


def limits(card: Card, form: Form) -> Iterator[str]:
    """What this model was not tested on, and what it needs. One sentence each, from the record."""
    result = card.result
    if result.quality:
        yield "Scored on the rows named above and on nothing else: no other domain, language or kind of text."
    trained = [step.seed for step in result.lineage if step.settings.get("train")]
    if trained:
        yield f"Trained with one seed ({trained[-1]}); another seed gives another model."
    longest = card.section.get("max_length")
    if longest is not None:
        yield f"Texts were cut after {longest} word pieces; longer ones were not tested."
    if form.code:
        yield (
            "No stock class has its shape: transformers opens it with `trust_remote_code=True` and the "
            "`modeling_compressbert.py` beside this card."
        )
    yield from _portability(result.portability)
    if form.is_int8:
        yield (
            "Activations are quantized at run time with one scale per batch, so the last digits of an answer may "
            "depend on the texts it shares a batch with."
        )
    if card.measured is not None and card.measured.row.latency:
        yield "Speed holds for the processor named above; on another one the ratios may differ."
    for note in result.notes:
        yield escape(note)
    yield "The licences of the base model and of the data are not recorded here."


def _portability(found: Portability | None) -> Iterator[str]:
    """On which processors the int8 products are what they were checked to be; a note says where they are not."""
    if found is None:
        return
    if found.valid_on == "any":
        yield "Its int8 products are exact on every CPU, with and without VNNI."
    for name, metric in found.quality_without_vnni.items():
        yield (
            f"Without VNNI, by emulation: {escape(name)} {metric.value:.4f} "
            f"({metric.low:.4f} to {metric.high:.4f})."
        )
