"""The section ``augment`` of a compress step: new texts made from the training data's own, for a teacher to label."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressbert.config.kinds import Positive, Settings
from compressbert.config.sections import Fraction, ModelSource


class SubstituteSettings(Settings):
    """Words replaced by what a masked language model proposes."""

    chance: Fraction = Field(0.4, description="Chance of each content word to be replaced.")
    candidates: Positive = Field(15, description="Words that are proposed for it, of which one is drawn.")
    model: ModelSource | None = Field(
        None, description="The masked language model. Unset: the teacher, if it is one."
    )


class RuleSettings(Settings):
    """Words masked, replaced by others of the same class, and texts cut to n-grams."""

    mask_chance: Fraction = Field(0.1, description="Chance of each word to be masked.")
    class_chance: Fraction = Field(
        0.1,
        description="Chance of each word to be replaced by one of the training texts of the same word class.",
    )
    ngram_chance: Fraction = Field(
        0.25, description="Chance of a text to be cut to some of its words in a row."
    )
    longest_ngram: Positive = Field(5, description="Most words of such a cut; the number is drawn from 1 on.")
    join_chance: Fraction = Field(
        0.0,
        description="Chance of another training text to be put behind; for data of phrases whose use is sentences.",
    )

    @model_validator(mode="after")
    def _chances_add_up(self) -> RuleSettings:
        if self.mask_chance + self.class_chance > 1:
            raise ValueError("mask_chance and class_chance are shares of the same words; together at most 1")
        return self


class AugmentConfig(Settings):
    """How new texts are made. They have no labels: for methods, or settings, that learn from a teacher alone."""

    kind: Literal["masked-lm", "rules"] = Field(
        description="masked-lm: TinyBERT's replaced words. rules: BiLSTM-soft's masks, word classes and n-grams."
    )
    variants: Annotated[int, Field(ge=1, le=1000)] = Field(
        20, description="Texts made of each row; those equal to it or to each other are dropped."
    )
    masked_lm: SubstituteSettings = Field(
        default_factory=SubstituteSettings, description="Of kind: masked-lm alone."
    )
    rules: RuleSettings = Field(default_factory=RuleSettings, description="Of kind: rules alone.")
