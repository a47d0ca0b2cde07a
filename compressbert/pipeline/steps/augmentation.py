"""Training rows with new texts among them, as the section ``augment`` asks for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from compressbert.config.augment import AugmentConfig
from compressbert.config.schema import CompressConfig
from compressbert.data.augment.rows import Maker, augmented
from compressbert.data.augment.rules import Lexicon, Rules
from compressbert.data.augment.substitutes import Substitutes
from compressbert.data.read import Split
from compressbert.errors import ConfigError
from compressbert.model.checkpoint import load
from compressbert.pipeline.keys import model_fingerprint
from compressbert.pipeline.steps.inputs import Inputs
from compressbert.train.processes import processes
from compressbert.train.word_proposer import WordProposer


def with_new_texts(inputs: Inputs, config: CompressConfig, tokenizer: PreTrainedTokenizerBase) -> Inputs:
    """The inputs with new texts among the training rows, if ``augment`` is set; what was made before is read back.

    Args:
        inputs: With a training split.
        config: Of the step.
        tokenizer: Of the model to compress; its mask token stands for a masked word.

    Raises:
        ConfigError: There is no masked language model to ask, or no mask token.
    """
    if config.augment is None:
        return inputs
    split = inputs.splits["train"]
    make, depends_on = _maker(split, config, config.augment, tokenizer)
    with (
        processes().main_process_first()
    ):  # one process asks the model, the others find the rows in the cache
        made = augmented(
            split, make, variants=config.augment.variants, seed=config.seed, depends_on=depends_on
        )
    return replace(inputs, splits={**inputs.splits, "train": made})


def _maker(
    split: Split, config: CompressConfig, augment: AugmentConfig, tokenizer: PreTrainedTokenizerBase
) -> tuple[Callable[[], Maker], list[object]]:
    """What makes the texts, and what that depends on besides the rows."""
    if augment.kind == "rules":
        rules, mask = augment.rules, str(tokenizer.mask_token or "")
        if rules.mask_chance and not mask:
            raise ConfigError(
                "augment: kind: rules masks words, and the model's tokenizer has no mask token",
                hint="Set augment.rules.mask_chance: 0.",
            )
        columns = [name for name in ("text", "text_pair") if name in split.rows.column_names]

        def by_rules() -> Maker:
            texts = (text for batch in split.rows.iter(1000) for name in columns for text in batch[name])
            return Rules(rules, mask, Lexicon.of(texts))

        return by_rules, ["rules", rules.model_dump_json(), mask]
    words = augment.masked_lm
    source = words.model or config.model

    def by_model() -> Maker:
        network = load(source.path, revision=source.revision, trust_remote_code=source.trust_remote_code)
        return Substitutes(words, WordProposer(network, words.candidates))

    facts = words.model_dump_json(exclude={"model"})
    return by_model, ["masked-lm", facts, model_fingerprint(source.path, source.revision)]
