"""Head importance against gates that are really there, and budgets that are met exactly."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from compressbert.errors import ConfigError
from compressbert.model.families import family_of
from compressbert.nn.importance import (
    choose_heads,
    choose_units,
    gate_gradient,
    head_importance,
    normalize_layers,
)
from tests.tiny import FAMILIES, padded_batch, tiny_network

LABELS = torch.tensor([1, 0, 1])


def _parts(family: str = "bert"):
    network = tiny_network(family)
    layers = family_of(network).layers(network)
    return network, [layer.attention_out for layer in layers], family_of(network).head_size(network)


def _loss(network, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
    return functional.cross_entropy(network(**batch).logits, labels, reduction="sum")


def _importance(network, projections, size: int, batches, labels) -> list[Tensor]:
    return head_importance(projections, size, zip(batches, labels, strict=True), lambda b: _loss(network, *b))


def _single_rows(batch: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for row in range(3):
        length = int(batch["attention_mask"][row].sum())
        yield {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}


def test_gate_gradient_by_hand() -> None:
    outputs = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [1.0, 0.0, 1.0, 0.0]]])  # (1, 2, 2 heads of 2)
    gradients = torch.tensor([[[1.0, -1.0, 0.5, 0.0], [2.0, 7.0, -3.0, 7.0]]])
    assert gate_gradient(outputs, gradients, 2).tolist() == [[1.0, 1.5]]  # |1−2+2|, |1.5−3|


@pytest.mark.parametrize("family", FAMILIES)
def test_importance_is_the_gradient_of_a_real_gate(family: str) -> None:
    network, projections, size = _parts(family)
    batch = next(_single_rows(padded_batch(family)))
    gates = [torch.ones(4, requires_grad=True) for _ in projections]

    def gated(gate: Tensor):
        return lambda _, inputs: ((inputs[0].unflatten(-1, (4, size)) * gate[:, None]).flatten(-2),)

    handles = [p.register_forward_pre_hook(gated(g)) for p, g in zip(projections, gates, strict=True)]
    _loss(network, batch, LABELS[:1]).backward()
    for handle in handles:
        handle.remove()
    scores = _importance(network, projections, size, [batch], [LABELS[:1]])
    for gate, score in zip(gates, scores, strict=True):
        torch.testing.assert_close(score.float(), gate.grad.abs(), rtol=1e-4, atol=1e-6)
        assert score.min() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_batch_scores_like_its_rows_one_by_one(family: str) -> None:
    network, projections, size = _parts(family)
    batch = padded_batch(family)
    together = _importance(network, projections, size, [batch], [LABELS])
    alone = _importance(network, projections, size, list(_single_rows(batch)), [row[None] for row in LABELS])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_absolute_values_are_taken_per_example() -> None:
    network, projections, size = _parts()
    row = next(_single_rows(padded_batch()))
    twice = {name: tensor.expand(2, -1) for name, tensor in row.items()}
    same = _importance(network, projections, size, [row], [LABELS[:1]])

    def opposed(batch: dict[str, Tensor]) -> Tensor:  # two examples whose gradients cancel in a sum
        logits = network(**batch).logits
        return functional.cross_entropy(logits[:1], LABELS[:1]) - functional.cross_entropy(
            logits[1:], LABELS[:1]
        )

    cancelling = head_importance(projections, size, [twice], opposed)
    torch.testing.assert_close(cancelling[0], same[0], rtol=1e-4, atol=1e-7)


def test_a_head_that_nobody_reads_has_importance_zero() -> None:
    network, projections, size = _parts()
    with torch.no_grad():
        projections[1].weight[:, 2 * size : 3 * size] = 0
    scores = _importance(network, projections, size, [padded_batch()], [LABELS])
    assert scores[1][2] == 0
    assert (scores[1][[0, 1, 3]] > 0).all()


def test_weights_collect_no_gradient_and_hooks_are_gone_even_after_an_error() -> None:
    network, projections, size = _parts()
    _importance(network, projections, size, [padded_batch()], [LABELS])
    assert all(parameter.grad is None for parameter in network.parameters())
    with pytest.raises(ZeroDivisionError):
        head_importance(projections, size, [0], lambda batch: 1 / batch)
    assert not any(projection._forward_pre_hooks for projection in projections)


def test_frozen_weights_give_the_same_scores() -> None:
    network, projections, size = _parts()
    expected = _importance(network, projections, size, [padded_batch()], [LABELS])
    network.requires_grad_(False)
    for one, other in zip(
        expected, _importance(network, projections, size, [padded_batch()], [LABELS]), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_normalized_layers_have_length_one_and_zeros_stay_zero() -> None:
    unit, zero = normalize_layers([torch.tensor([3.0, 4.0]), torch.zeros(2)])
    torch.testing.assert_close(unit, torch.tensor([0.6, 0.8]))
    assert zero.tolist() == [0, 0]


def test_global_choice_ranks_all_layers_together() -> None:
    scores = [torch.tensor([0.9, 0.1, 0.8, 0.7]), torch.tensor([0.2, 0.3, 0.05, 0.6])]
    assert choose_heads(scores, 0.5, scope="global") == [[0, 2, 3], [3]]
    assert choose_heads(scores, 0.5, scope="layer") == [[0, 2], [1, 3]]


def test_every_layer_keeps_its_minimum_and_the_budget_stays_exact() -> None:
    scores = [torch.tensor([9.0, 8.0, 7.0, 6.0]), torch.tensor([0.1, 0.2, 0.3, 0.4])]
    assert choose_heads(scores, 0.5, scope="global", minimum=2) == [[0, 1], [2, 3]]
    assert choose_heads(scores, 0.625, scope="global") == [[0, 1, 2, 3], [3]]


def test_equal_scores_keep_the_lower_index() -> None:
    assert choose_heads([torch.ones(4), torch.ones(4)], 0.5, scope="layer") == [[0, 1], [0, 1]]


def test_uneven_layers_of_a_pruned_model() -> None:
    scores = [torch.tensor([1.0]), torch.tensor([5.0, 4.0, 3.0])]
    assert choose_heads(scores, 0.5, scope="global") == [[0], [0]]
    assert choose_heads(scores, 0.5, scope="global", minimum=2, counts=[4, 4]) == [[0], [0, 1, 2]]


@pytest.mark.parametrize(("keep", "scope", "smallest"), [(0.1, "global", "0.25"), (0.1, "layer", "0.25")])
def test_a_budget_below_the_minimum_names_the_smallest_possible(
    keep: float, scope: str, smallest: str
) -> None:
    with pytest.raises(ConfigError, match="smallest possible keep is") as raised:
        choose_heads([torch.rand(4), torch.rand(4)], keep, scope=scope)
    assert smallest in raised.value.hint
    assert choose_heads([torch.rand(4), torch.rand(4)], float(smallest), scope=scope)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.floats(0.3, 1.0),
    st.sampled_from(["global", "layer"]),
    st.integers(0, 5),
)
def test_budgets_hold_for_any_layers(counts: list[int], keep: float, scope: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand(count, generator=generator) for count in counts]
    try:
        chosen = choose_heads(scores, keep, scope=scope)
    except ConfigError:
        assert round(keep * sum(counts)) <= len(counts) or min(counts) * keep < 1
        return
    assert all(chosen)
    for heads, count in zip(chosen, counts, strict=True):
        assert heads == sorted(set(heads))
        assert heads[-1] < count
    if scope == "global":
        assert abs(sum(map(len, chosen)) - keep * sum(counts)) <= 0.5
        lost = [float(s[i]) for s, k in zip(scores, chosen, strict=True) for i in range(len(s)) if i not in k]
        extra = [float(s[i]) for s, k in zip(scores, chosen, strict=True) if len(k) > 1 for i in k]
        assert not lost or not extra or max(lost) <= min(extra)


@pytest.mark.parametrize(
    ("keep", "multiple", "expected"),
    [(0.5, 8, 16), (0.4, 8, 16), (0.3, 8, 8), (1.0, 20, 30), (0.02, 8, 8), (0.9, 1, 27)],
)
def test_widths_are_rounded_to_a_multiple(keep: float, multiple: int, expected: int) -> None:
    chosen = choose_units([torch.rand(30)], keep, scope="layer", multiple=multiple)
    assert len(chosen[0]) == expected


def test_global_widths_are_uneven_multiples() -> None:
    scores = [torch.arange(32.0), torch.arange(32.0) + 20]
    chosen = choose_units(scores, 0.5, scope="global", multiple=8)
    assert [len(units) for units in chosen] == [8, 24]
    assert chosen[1][-1] == 31
