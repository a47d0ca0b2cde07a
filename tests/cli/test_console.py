"""Progress: bars for a person, lines for a log, nothing when asked for silence."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from compressbert import progress
from compressbert.cli import console
from compressbert.cli.console import Bars, Lines, Screen, duration
from tests.cli.support import invoke, stand_in, step_result


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def _silent_afterwards() -> Any:
    yield
    progress.listen(progress.Silent())


@pytest.mark.parametrize(
    ("seconds", "text"), [(8.24, "8.2 s"), (187, "3:07"), (3765, "1:02:45"), (59.9, "59.9 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_lines_at_start_each_half_minute_and_end(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    progress.listen(Lines())
    with progress.track("train", 1200, "batches") as task:
        for _ in range(7):
            clock[0] += 10
            task.advance(100, loss=0.25, epoch="1/3")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "train: 1,200 batches",
        "train: 300/1,200 batches (25 %), 10.0 batches/s, 1:30 left, loss 0.25, epoch 1/3",
        "train: 600/1,200 batches (50 %), 10.0 batches/s, 1:00 left, loss 0.25, epoch 1/3",
        "train: stopped at 700/1,200 batches (58 %) in 1:10, loss 0.25, epoch 1/3",
    ]


def test_short_work_of_unknown_length_is_one_line(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    progress.listen(Lines())
    with progress.track("load") as task:
        clock[0] += 0.5
        task.advance()
    progress.note("3 rows were cut")
    progress.warn("odd")
    assert capsys.readouterr().err.splitlines() == ["load …", "3 rows were cut", "warning: odd"]


def test_bars_show_amount_speed_and_facts_and_leave_one_line(clock: list[float]) -> None:
    screen = Console(
        file=io.StringIO(), force_terminal=True, width=120, markup=False, emoji=False, color_system=None
    )
    bars = Bars(screen)
    progress.listen(bars)
    with progress.track("train [x]", 100, "batches") as task:
        clock[0] += 5
        task.advance(40, loss=0.5)
        progress.note("note [b]not bold[/b]")
        with progress.track("inner", None) as inner:
            inner.advance()
        task.advance(60)
        bars._bars.refresh()  # type: ignore[union-attr]
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "100/100" in text
    assert "loss 0.5" in text
    assert "note [b]not bold[/b]" in text
    assert "train [x]: done in 5.0 s, loss 0.5" in text
    assert bars._bars is None


def test_a_pipe_gets_lines_and_quiet_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def export(config: Any, *, overwrite: bool = False) -> Any:
        with progress.track("write", 2, "files") as task:
            task.advance(2)
        progress.note("a note")
        return step_result()

    stand_in(monkeypatch, "compressbert.pipeline.steps.export", export=export)
    arguments = ("export", "--model", "m", "-o", "absent-folder")
    assert invoke(*arguments).stderr.splitlines() == ["write: 2 files", "a note"]
    progress.listen(progress.Silent())
    assert invoke(*arguments, "-q").stderr == ""
    verbose = invoke(*arguments, "-v").stderr
    assert "precision: auto" in verbose


def test_only_the_first_process_of_many_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    progress.listen(progress.Silent())
    screen = Screen(as_json=True)
    screen.show({"a": 1})
    progress.note("x")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_tables_in_a_pipe_are_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    Screen(quiet=True).show({}, "x" * 150 + " [bold]kept[/bold] :smile:")
    assert capsys.readouterr().out == "x" * 150 + " [bold]kept[/bold] :smile:\n"
