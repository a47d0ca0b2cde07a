"""The families that are known, and the only file that knows how they name their parts."""

from __future__ import annotations

from transformers import PreTrainedModel

from compressbert.errors import InputError
from compressbert.model.biased_layers import BiasedFamily
from compressbert.model.family import Family
from compressbert.model.local_layers import LocalFamily
from compressbert.model.shared_layers import SharedFamily

_BERT_LAYER = {
    "attention": "attention.self",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "ffn_in": "intermediate.dense",
    "ffn_out": "output.dense",
    "ffn_norm": "output.LayerNorm",
}
_DISTILBERT_LAYER = {
    "attention": "attention",
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "attention_out": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "ffn_in": "ffn.lin1",
    "ffn_out": "ffn.lin2",
    "ffn_norm": "output_layer_norm",
}
_ALBERT_LAYER = {
    "attention": "attention",
    "query": "attention.query",
    "key": "attention.key",
    "value": "attention.value",
    "attention_out": "attention.dense",
    "attention_norm": "attention.LayerNorm",
    "ffn_in": "ffn",
    "ffn_out": "ffn_output",
    "ffn_norm": "full_layer_layer_norm",
}
_MPNET_LAYER = {
    **_BERT_LAYER,
    "attention": "attention.attn",
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "attention_out": "attention.attn.o",
    "attention_norm": "attention.LayerNorm",
}
_MODERNBERT_LAYER = {
    "attention": "attn",
    "joined": "attn.Wqkv",
    "attention_out": "attn.Wo",
    "attention_norm": "attn_norm",
    "gated": "mlp.Wi",
    "ffn_out": "mlp.Wo",
    "ffn_norm": "mlp_norm",
}
_EMBEDDINGS = {
    "word": "embeddings.word_embeddings",
    "position": "embeddings.position_embeddings",
    "token_type": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
}
_DENSE = ("hidden", "hidden")
_OUTPUT = ("hidden", None)
_HEADS: dict[str, tuple[str | None, str | None]] = {
    "pooler.dense": _DENSE,
    "classifier": _OUTPUT,
    "classifier.dense": _DENSE,
    "classifier.out_proj": _OUTPUT,
    "qa_outputs": _OUTPUT,
}
_BERT_HEAD = {
    **_HEADS,
    "cls.predictions.transform.dense": _DENSE,
    "cls.predictions.transform.LayerNorm": _DENSE,
    "cls.predictions.decoder": _OUTPUT,
    "cls.seq_relationship": _OUTPUT,
}
_ROBERTA_HEAD = {**_HEADS, "lm_head.dense": _DENSE, "lm_head.layer_norm": _DENSE, "lm_head.decoder": _OUTPUT}
_DISTILBERT_HEAD = {
    **_HEADS,
    "pre_classifier": _DENSE,
    "vocab_transform": _DENSE,
    "vocab_layer_norm": _DENSE,
    "vocab_projector": _OUTPUT,
}
_ELECTRA_HEAD = {
    **_HEADS,
    "generator_predictions.dense": ("hidden", "embedding"),
    "generator_predictions.LayerNorm": ("embedding", "embedding"),
    "generator_lm_head": ("embedding", None),
    "discriminator_predictions.dense": _DENSE,
    "discriminator_predictions.dense_prediction": _OUTPUT,
}
_ALBERT_HEAD = {
    **_HEADS,
    "pooler": _DENSE,
    "predictions.dense": ("hidden", "embedding"),
    "predictions.LayerNorm": ("embedding", "embedding"),
    "predictions.decoder": ("embedding", None),
    "sop_classifier.classifier": _OUTPUT,
}
_MODERNBERT_HEAD = {
    "final_norm": _DENSE,
    "head.dense": _DENSE,
    "head.norm": _DENSE,
    "classifier": _OUTPUT,
    "decoder": _OUTPUT,
}
_MOBILEBERT_HEAD = {**_BERT_HEAD, "cls.predictions.dense": (None, None)}
_BERT_CONFIG = {
    "layers": "num_hidden_layers",
    "hidden": "hidden_size",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
}
_DISTILBERT_CONFIG = {"layers": "n_layers", "hidden": "dim", "heads": "n_heads", "ffn": "hidden_dim"}
_BERT_HEADS = ("num_attention_heads", "all_head_size")

FAMILIES = (
    Family(
        "bert", ("bert",), "encoder.layer", _EMBEDDINGS, _BERT_LAYER, _BERT_HEADS, _BERT_CONFIG, _BERT_HEAD,
    ),
    Family(
        "roberta", ("roberta", "xlm-roberta", "camembert"), "encoder.layer", _EMBEDDINGS, _BERT_LAYER,
        _BERT_HEADS, _BERT_CONFIG, _ROBERTA_HEAD,
    ),
    Family(
        "distilbert", ("distilbert",), "transformer.layer",
        {kind: name for kind, name in _EMBEDDINGS.items() if kind != "token_type"},
        _DISTILBERT_LAYER, ("n_heads", None), _DISTILBERT_CONFIG, _DISTILBERT_HEAD,
    ),
    Family(
        "electra", ("electra",), "encoder.layer", {**_EMBEDDINGS, "projection": "embeddings_project"},
        _BERT_LAYER, _BERT_HEADS, {**_BERT_CONFIG, "embedding": "embedding_size"}, _ELECTRA_HEAD,
    ),
    Family(
        "mobilebert", ("mobilebert",), "encoder.layer",
        {**_EMBEDDINGS, "projection": "embeddings.embedding_transformation"},
        _BERT_LAYER, _BERT_HEADS, _BERT_CONFIG, _MOBILEBERT_HEAD, is_narrowable=False,
    ),
    SharedFamily(
        "albert", ("albert",), "encoder.albert_layer_groups",
        {**_EMBEDDINGS, "projection": "encoder.embedding_hidden_mapping_in"}, _ALBERT_LAYER, _BERT_HEADS,
        {**_BERT_CONFIG, "embedding": "embedding_size"}, _ALBERT_HEAD, always_projects=True,
    ),
    BiasedFamily(
        "mpnet", ("mpnet",), "encoder.layer",
        {kind: name for kind, name in _EMBEDDINGS.items() if kind != "token_type"},
        _MPNET_LAYER, _BERT_HEADS, _BERT_CONFIG, _ROBERTA_HEAD, gives_tuples=True,
    ),
    LocalFamily(
        "modernbert", ("modernbert",), "layers",
        {"word": "embeddings.tok_embeddings", "norm": "embeddings.norm"},
        _MODERNBERT_LAYER, (None, None), _BERT_CONFIG, _MODERNBERT_HEAD,
        final_norm_at="final_norm",
    ),
)  # fmt: skip


def is_known(model_type: str) -> bool:
    """Whether a family covers this value of ``config.model_type``."""
    return any(model_type in family.model_types for family in FAMILIES)


def family_of(network_or_model_type: PreTrainedModel | str) -> Family:
    """The family of a network or of a ``model_type``.

    Raises:
        InputError: No family covers it; the message names those that work.
    """
    found = network_or_model_type
    model_type = found if isinstance(found, str) else found.config.model_type
    for family in FAMILIES:
        if model_type in family.model_types:
            return family
    supported = ", ".join(sorted(name for family in FAMILIES for name in family.model_types))
    raise InputError(
        f"Models of type {model_type!r} are not supported. Supported: {supported}.",
        hint="Choose a model whose config.json has one of these model_type values.",
    )
