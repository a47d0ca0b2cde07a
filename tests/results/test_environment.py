"""Machines whose milliseconds may be compared share a fingerprint."""

from __future__ import annotations

from pathlib import Path

import pytest

from compressbert.results import environment as e
from compressbert.results.record import Environment

MACHINE = Environment(
    versions={"torch": "2.13.0"},
    cpu="Intel(R) Xeon(R) CPU E5-2690 v4 @ 2.60GHz",
    isa=("avx2", "fma"),
    cores=4,
    governor="powersave",
)


def test_fingerprint_names_the_processor_and_its_cores() -> None:
    assert e.fingerprint(MACHINE).startswith("intel-xeon-e5-2690-v4-4-cores-")


def test_fingerprint_is_that_of_the_machine_and_not_of_its_libraries() -> None:
    upgraded = MACHINE.model_copy(update={"versions": {"torch": "2.14.0"}})
    assert e.fingerprint(upgraded) == e.fingerprint(MACHINE)


@pytest.mark.parametrize(
    "change", [{"cpu": "AMD EPYC 7763"}, {"isa": ("avx2",)}, {"cores": 2}, {"governor": "performance"}]
)
def test_fingerprint_changes_with_what_decides_speed(change: dict[str, object]) -> None:
    assert e.fingerprint(MACHINE.model_copy(update=change)) != e.fingerprint(MACHINE)


def test_governor_is_read_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "scaling_governor"
    monkeypatch.setattr(e, "_GOVERNOR", file)
    assert e._governor() is None
    file.write_text("schedutil\n")
    assert e._governor() == "schedutil"
