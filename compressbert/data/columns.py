"""Which columns hold the text, the second text and the label: as configured, else guessed from the usual
names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressbert.config.schema import Columns, TaskKind
from compressbert.errors import ConfigError, InputError

TEXT_NAMES: tuple[tuple[str, ...], ...] = (
    ("sentence",),
    ("text",),
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABEL_NAMES = ("label", "labels")
_HINT = "Name them: --columns text=COLUMN,label=COLUMN (text_pair=COLUMN for a second text)."


@dataclass(frozen=True)
class Usual:
    """What the columns of a kind of task are usually called, and what they hold, for messages."""

    texts: tuple[tuple[str, ...], ...] = TEXT_NAMES
    labels: tuple[str, ...] = LABEL_NAMES
    text: str = "text"
    label: str = "label"


_TEXTS = Usual()
_PLAIN = Usual((("sentence",), ("text",)))  # texts to cut into words, where tags are not needed
_USUAL: dict[TaskKind, Usual] = {
    "token-classification": Usual(
        (("tokens",), ("words",)), ("ner_tags", "tags", "pos_tags", "labels"), "words", "tags"
    ),
    "question-answering": Usual(
        (("question", "context"),), ("answers",), "question and the context", "answers"
    ),
    "sentence-embedding": Usual(labels=("label", "labels", "score", "similarity_score"), label="score"),
}


@dataclass(frozen=True)
class ColumnNames:
    """The columns in use; ``guessed`` says whether any was not configured."""

    text: str
    text_pair: str | None
    label: str | None
    guessed: bool

    def __str__(self) -> str:
        parts = {"text": self.text, "text_pair": self.text_pair, "label": self.label}
        return ", ".join(f"{part}={name}" for part, name in parts.items() if name)


def choose_columns(
    wanted: Columns,
    present: Sequence[str],
    *,
    label: bool,
    where: str,
    kind: TaskKind = "sequence-classification",
) -> ColumnNames:
    """Settle the columns of one split.

    Args:
        wanted: The configured names; an unset text (and its pair) or label is guessed.
        present: The columns of the data.
        label: Whether a label is needed; without, none is chosen.
        where: The file or data set, for messages.
        kind: The task, which decides what columns are usually called.

    Raises:
        InputError: A configured column is absent.
        ConfigError: No guess fits, or more than one does.
    """
    usual = _USUAL.get(kind, _TEXTS)
    listed = any(set(names) <= set(present) for names in usual.texts)
    if kind == "token-classification" and not label and not listed:
        usual = _PLAIN
    for name in (wanted.text, wanted.text_pair, wanted.label if label else None):
        if name is not None and name not in present:
            raise InputError(
                f"{where}: expected a column {name!r}, found {_listed(present)}",
                hint="Correct data.columns (or --columns), or the file.",
            )
    texts = (wanted.text,) if wanted.text else _guess_text(wanted, usual, present, where)
    pair = wanted.text_pair or (texts[1] if len(texts) > 1 else None)
    if kind == "question-answering" and pair is None:
        pair = _guess_context(wanted, present, where)
    label_name = (wanted.label or _guess_label(usual, present, where)) if label else None
    guessed = wanted.text is None or (label and wanted.label is None)
    return ColumnNames(str(texts[0]), pair, label_name, guessed)


def _guess_text(wanted: Columns, usual: Usual, present: Sequence[str], where: str) -> tuple[str, ...]:
    fitting = [names for names in usual.texts if set(names) <= set(present)]
    if wanted.text_pair:  # only the first text is open, so a usual pair must not overrule the second
        fitting = [names[:1] for names in usual.texts if names[0] in present and wanted.text_pair != names[0]]
        fitting = list(dict.fromkeys(fitting))
    if len(fitting) == 1:
        return fitting[0]
    names_usual = ", ".join("+".join(names) for names in usual.texts)
    found = "none of them" if not fitting else " and ".join("+".join(names) for names in fitting)
    raise ConfigError(
        f"{where}: cannot tell which column holds the {usual.text}: looked for {names_usual}, found {found};"
        f" the columns are {_listed(present)}",
        hint=_HINT,
    )


def _guess_context(wanted: Columns, present: Sequence[str], where: str) -> str:
    if "context" in present and wanted.text != "context":
        return "context"
    raise ConfigError(
        f"{where}: cannot tell which column holds the context: looked for context;"
        f" the columns are {_listed(present)}",
        hint="Name it: --columns text=QUESTION,text_pair=CONTEXT,label=ANSWERS.",
    )


def _guess_label(usual: Usual, present: Sequence[str], where: str) -> str:
    fitting = [name for name in usual.labels if name in present]
    if len(fitting) == 1:
        return fitting[0]
    found = {0: "neither" if len(usual.labels) == 2 else "none of them", 2: "both"}.get(
        len(fitting), " and ".join(fitting)
    )
    names = " or ".join(usual.labels)
    raise ConfigError(
        f"{where}: cannot tell which column holds the {usual.label}: looked for {names}, found {found};"
        f" the columns are {_listed(present)}",
        hint=_HINT,
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no columns"
