"""Means over the rows of several processes, by hand arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compressbert.nn.means import mean, mean_over, together


def test_alone_they_are_plain_means() -> None:
    values = torch.tensor([1.0, 2.0, 6.0])
    assert mean(values) == 3.0
    assert mean_over(values.sum(), 3) == 3.0
    assert mean_over(values.sum(), torch.tensor(2)) == 4.5
    assert mean_over(torch.tensor(0.0), 0) == 0.0  # no word of a batch was scored


@pytest.mark.parametrize(("own", "other"), [((1.0, 2.0, 6.0), (10.0,)), ((4.0,), (0.5, 0.5))])
def test_the_average_of_all_processes_is_the_mean_over_all_rows(
    own: tuple[float, ...], other: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)

    def share(values: tuple[float, ...], others: int) -> torch.Tensor:
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(others))
        with together(True):
            return mean(torch.tensor(values))

    shares = [share(own, len(other)), share(other, len(own))]
    assert float(torch.stack(shares).mean()) == pytest.approx(sum(own + other) / len(own + other))


def test_rows_of_another_process_count_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    seen = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: seen.append(float(count)))
    with together(True, weight=0.0):
        assert mean(torch.tensor([3.0, 5.0])) == 0.0
    assert seen == [0.0]
    with together(False, weight=0.0):
        assert mean(torch.tensor([3.0, 5.0])) == 4.0


def test_a_group_of_one_process_changes_nothing(tmp_path: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        with together(True):
            assert mean(torch.tensor([1.0, 2.0, 6.0])) == 3.0
    finally:
        torch.distributed.destroy_process_group()
