"""The emulated kernel of CPUs without VNNI against its definition, and the bound that keeps weights clear of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import nn

from compressbert.nn.int8 import Int8Linear, integer_linear, pair_sums, quantize_rows, saturating_pairs
from compressbert.nn.saturation import saturating_linear, without_vnni

ROOT = Path(__file__).resolve().parents[2]


def by_hand(q: torch.Tensor, weight: torch.Tensor) -> np.ndarray:
    """Σ over pairs of columns of the pair's sum, clipped to 16 bits."""
    x, w = q.numpy().astype(np.int64) + 128, weight.numpy().astype(np.int64)
    total = np.zeros((len(x), len(w)), np.int64)
    for first in range(0, x.shape[1], 2):
        pair = x[:, None, first : first + 2] * w[None, :, first : first + 2]
        total += np.clip(pair.sum(axis=2), -32768, 32767)
    return total


@pytest.mark.parametrize("columns", [1, 2, 9, 64])
@pytest.mark.parametrize("zero_point", [0, 131])
def test_the_emulation_clips_every_pair(columns: int, zero_point: int) -> None:
    generator = torch.Generator().manual_seed(columns)
    q = torch.randint(-128, 128, (7, columns), generator=generator, dtype=torch.int8)
    weight = torch.randint(-127, 128, (5, columns), generator=generator, dtype=torch.int8)
    q[0], weight[0], weight[1] = 127, 127, -127
    zero = torch.tensor(zero_point, dtype=torch.int32)
    expected = by_hand(q, weight) - zero_point * weight.numpy().astype(np.int64).sum(axis=1)
    assert np.array_equal(saturating_linear(q, zero, weight).numpy(), expected)


def test_what_the_kernel_of_such_a_cpu_gave() -> None:
    """Nine products of 255 and 127: four clipped pairs and a last product alone, as onnxruntime computed it."""
    q, weight = torch.full((1, 9), 127, dtype=torch.int8), torch.full((1, 9), 127, dtype=torch.int8)
    zero = torch.tensor(0, dtype=torch.int32)
    assert saturating_linear(q, zero, weight).item() == 4 * 32767 + 255 * 127 == 163453
    assert integer_linear(q, zero, weight).item() == 291465


def test_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.full((6, 30), 127, dtype=torch.int8)
    weight = torch.full((4, 30), 127, dtype=torch.int8)
    zero = torch.tensor(3, dtype=torch.int32)
    whole = saturating_linear(q, zero, weight)
    monkeypatch.setattr("compressbert.nn.saturation._CHUNK", 1)
    assert torch.equal(saturating_linear(q, zero, weight), whole)


def test_pairs_count_from_the_first_column_and_signs_apart() -> None:
    q = torch.tensor([[100, 29, 100, -100, 127], [127, 1, -64, -65, -127]], dtype=torch.int8)
    assert pair_sums(q.short()).tolist() == [[129, 100, 127], [128, 129, 127]]
    assert saturating_pairs(q).tolist() == [[True, False, False], [False, True, False]]


@settings(max_examples=200, deadline=None)
@given(arrays(np.float32, (3, 7), elements=st.floats(-4, 4, width=32)))
def test_portable_rows_never_saturate(values: np.ndarray) -> None:
    weight = torch.from_numpy(values)
    q, scale = quantize_rows(weight, portable=True)
    assert not saturating_pairs(q).any()
    assert (weight - scale[:, None] * q).abs().le(scale[:, None] / 2 * (1 + 1e-5)).all()
    worst = torch.where(q > 0, 127, -128).to(torch.int8)  # 255 where a weight is positive, 0 elsewhere
    zero = torch.tensor(0, dtype=torch.int32)
    for activations in (worst, -worst - 1):
        assert torch.equal(saturating_linear(activations, zero, q), integer_linear(activations, zero, q))


def test_a_scale_is_raised_only_as_far_as_its_largest_pair_needs() -> None:
    weight = torch.tensor([[127.0, 1.0, 60.0, 60.0], [100.0, 92.0, 3.0, -100.0], [127.0, 127.0, 0.0, 0.0]])
    q, scale = quantize_rows(weight, portable=True)
    assert scale[0] == 1  # 127 + 1 is the limit
    assert scale[1:].tolist() == pytest.approx([192 / 127.999, 254 / 127.999], rel=1e-3)
    assert q.tolist() == [[127, 1, 60, 60], [67, 61, 2, -67], [64, 64, 0, 0]]


def adversarial() -> tuple[nn.Linear, torch.Tensor]:
    """All weights large and of one sign, all activations at the top of their range."""
    linear = nn.Linear(64, 4)
    with torch.no_grad():
        linear.weight.copy_(1 + 0.1 * torch.rand(4, 64, generator=torch.Generator().manual_seed(0)))
    x = 3 - 0.01 * torch.rand(5, 64, generator=torch.Generator().manual_seed(1))
    return linear, x


def test_an_adversarial_layer_collapses_unless_it_is_portable() -> None:
    linear, x = adversarial()
    exact = linear(x)
    naive, portable = (Int8Linear.from_linear(linear, portable=choice) for choice in (False, True))
    usual = naive(x), portable(x)
    with without_vnni(naive), without_vnni(portable):
        emulated = naive(x), portable(x)
    torch.testing.assert_close(usual[0], exact, rtol=0.01, atol=0)
    assert (emulated[0] / exact).max() < 0.6  # a pair gives 32,767 of 64,770
    assert torch.equal(emulated[1], usual[1])
    torch.testing.assert_close(usual[1], exact, rtol=0.01, atol=0)
    assert torch.equal(naive(x), usual[0])  # the block leaves nothing behind


def test_old_weights_are_made_portable_row_by_row() -> None:
    linear, x = adversarial()
    with torch.no_grad():
        linear.weight[1, 1::2] = 0.01
    module = Int8Linear.from_linear(linear, portable=False)
    before = module.matrix.clone(), module.scale.clone()
    assert module.make_portable() == 3
    assert not saturating_pairs(module.matrix).any()
    assert torch.equal(module.matrix[1], before[0][1])
    assert module.scale[1] == before[1][1]
    torch.testing.assert_close(module(x), linear(x), rtol=0.02, atol=0)
    assert module.make_portable() == 0


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["", "avx512"])
def test_the_emulation_is_the_kernel_of_a_cpu_without_vnni(hidden: str, tmp_path: Path) -> None:
    """VNNI is hidden from a real onnxruntime, which then runs its older kernel."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "cpuid_fault" not in flags or shutil.which("gcc") is None:
        pytest.skip("needs gcc, and Linux on an x86-64 CPU that can fault on CPUID")
    library = tmp_path / "without_vnni.so"
    source = ROOT / "scripts" / "without_vnni.c"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "HIDE": hidden, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.nn.without_vnni_worker"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for row in json.loads(done.stdout):
        assert row == {
            "naive": {"kernel is exact": False, "kernel is emulated": True},
            "portable": {"kernel is exact": True, "kernel is emulated": True},
        }
