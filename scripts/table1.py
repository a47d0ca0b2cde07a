"""Write docs/table1.md: every method of a family and its control, on real data, beside the survey's Table 1.

usage: python scripts/table1.py [--family distill] [--only METHOD] [--task TASK] [--rows N] [--dry-run]

What is run is in `configs/table1/` (see `scripts/table1_plan.py`) and, with every path filled in, in `run.yaml` of
each row's folder, which `compressbert run` takes. A killed script goes on where it was; a finished row is
done again only if its settings, teacher, data or method changed. Exit code 4: a row failed, and the page says why.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from compressbert.config.document import merged
from compressbert.config.schema import DataConfig
from compressbert.errors import CompressbertError, ConfigError, WorkError
from compressbert.results.report import Report
from compressbert.results.store import read_result, write_json_atomic, write_text_atomic
from scripts.table1_page import Line, page_with, steps_of
from scripts.table1_plan import CONTROL, STUDENT, TEACHER, Entry, Places, Task, chosen, entries_of, tasks_of

ROOT = Path(__file__).resolve().parent.parent
RECORD = "row.json"
# Of a run whose report nobody reads: the student is trained before its control's length is known.
SHORTEST = {"rounds": 2, "cells": [[1, 16]], "sentences": 8, "warmup": 1}
Command = Callable[[Sequence[str], Path], int]  # words of the command line, its log; returns the exit code


def in_a_process(words: Sequence[str], log: Path) -> int:
    """Run ``compressbert WORDS`` in a process of its own and add what it says to ``log``."""
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "compressbert", *words], stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
        try:
            return process.wait()
        finally:
            if process.poll() is None:  # we were told to stop: it tidies up on SIGTERM
                process.terminate()
                process.wait()


def job(folder: Path, words: Sequence[str], document: dict[str, Any], *, key: str, command: Command) -> None:
    """Run ``compressbert WORDS`` on ``document``, which goes to ``folder``, and keep a record of how it went.

    Raises:
        WorkError: It failed; the record says so too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(word.strip("-") for word in words)
    file, log, record = folder / f"{name}.yaml", folder / f"{name}.log", folder / RECORD
    before = read_record(record)
    resumed = before.get("status") == "running" and before.get("key") == key
    facts: dict[str, Any] = {
        "key": key,
        "resumed": resumed or bool(before.get("resumed") and before.get("key") == key),
    }
    write_json_atomic(record, {**facts, "status": "running"})
    write_text_atomic(file, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100))
    log.unlink(missing_ok=True)
    started = time.monotonic()
    code = command([*words, str(file)], log)
    if code:
        error = failure_of(log, code)
        write_json_atomic(record, {**facts, "status": "failed", "error": error})
        raise WorkError(error)
    write_json_atomic(record, {**facts, "status": "run", "seconds": time.monotonic() - started})


def failure_of(log: Path, code: int) -> str:
    """The message that a failed command left in its log, or its exit code."""
    said = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    errors = [line.removeprefix("error: ") for line in said if line.startswith("error: ")]
    if errors:
        return errors[-1]
    return f"ended with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"


def read_record(file: Path) -> dict[str, Any]:
    """The record of a row or a teacher; empty before the first run."""
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def ensure_teacher(task: Task, command: Command) -> None:
    """Tune the task's teacher, unless it is there.

    Raises:
        WorkError: It failed.
    """
    if task.ready is not None:
        return
    folder = task.folder / TEACHER
    record = read_record(folder / RECORD)
    if (
        record.get("status") == "run"
        and record.get("key") == task.key
        and (task.teacher / "result.json").is_file()
    ):
        return
    job(folder, ["finetune", "--overwrite"], task.finetune, key=task.key, command=command)


def make(entry: Entry, command: Command) -> None:
    """Run one row's pipeline, check that its control is one, and compare the two.

    Raises:
        CompressbertError: It failed; the record says so too.
    """
    key = entry.key()
    document = entry.pipeline
    if entry.control_follows:
        first = merged(document, {"benchmark": SHORTEST})
        job(entry.folder, ["run", "--only", STUDENT], first, key=key, command=command)
        (student,) = entry.run.glob(f"*-{STUDENT}")
        document = entry.pipeline_of(steps_of(read_result(student)))
    job(entry.folder, ["run"], document, key=key, command=command)
    record = read_record(entry.folder / RECORD)
    try:
        gain = against_control(entry)
    except CompressbertError as error:
        write_json_atomic(entry.folder / RECORD, {**record, "status": "failed", "error": str(error)})
        raise
    write_json_atomic(entry.folder / RECORD, {**record, "status": "done", "gain": gain})


def against_control(entry: Entry) -> dict[str, float] | None:
    """What the student has over its control, in units of the metric with a paired interval; None without a control.

    Raises:
        WorkError: The control differs from the student in the size of its encoder or in the steps it trained for.
            Its word table may differ: a smaller vocabulary is a method, too.
    """
    from compressbert.pipeline.steps.compare import compare_folders

    report = Report.model_validate_json((entry.run / "report.json").read_text(encoding="utf-8"))
    folders = {
        row.name: Path(row.folder) for row in report.rows if row.name in (STUDENT, CONTROL) and row.folder
    }
    if CONTROL not in folders:
        return None
    student, control = (read_result(folders[name]) for name in (STUDENT, CONTROL))
    facts = [result.model for result in (student, control)]
    # A student without an encoder is its table, which counts then.
    sizes = [found and (found.encoder_parameters or found.parameters) for found in facts]
    if sizes[0] != sizes[1]:
        raise WorkError(
            f"the control is no control: its encoder has {sizes[1]} parameters, the student's {sizes[0]}"
        )
    steps = [steps_of(result) for result in (student, control)]
    if abs(steps[0] - steps[1]) > 0.01 * steps[0] + 10:  # every stage rounds its steps up
        raise WorkError(
            f"the control is no control: it trained for {steps[1]} steps, the student for {steps[0]}"
        )
    data = DataConfig.model_validate(entry.pipeline["data"])
    found = compare_folders(folders, CONTROL, data, place=entry.folder / "against-control")
    drop = found[STUDENT].drop
    return {"value": -drop.value, "low": -drop.high, "high": -drop.low}


def line_of(entry: Entry) -> Line:
    """What the page says of an entry, from its record and its report."""
    record = read_record(entry.folder / RECORD)
    status = record.get("status")
    if status in ("done", "failed") and (not entry.task.teacher.is_dir() or record["key"] != entry.key()):
        status = "changed"
    elif status in ("running", "run"):
        status = "unfinished"
    report = None
    if status == "done":
        report = Report.model_validate_json((entry.run / "report.json").read_text(encoding="utf-8"))
    return Line(entry, status or "missing", record, report)


def write_page(entries: Sequence[Entry], without: Sequence[str], page: Path, family: str) -> None:
    """Write the page from what there is now."""
    before = page.read_text(encoding="utf-8") if page.is_file() else ""
    write_text_atomic(page, page_with(before, [line_of(entry) for entry in entries], without, family))


def show_plan(entries: Sequence[Entry], lines: Sequence[Line]) -> None:
    """Print what would be done, in order, and about how long it takes on one core."""
    total = 0.0
    for entry, line in zip(entries, lines, strict=True):
        seconds = 0.0 if line.status == "done" else entry.estimate()
        total += seconds
        what = "done" if line.status == "done" else f"about {seconds / 60:.0f} min"
        print(f"{entry.task.name:10} {entry.method.name:26} {what:14} {entry.file}")
    print(f"about {total / 3600:.1f} hours on one core, teachers that have to be tuned apart")


def run_all(entries: Sequence[Entry], command: Command, write: Callable[[], object]) -> int:
    """Make every entry that is not done, writing the page after each; returns how many failed."""
    failed = 0
    for number, entry in enumerate(entries, start=1):
        label = f"[{number}/{len(entries)}] {entry.task.name} {entry.method.name}"
        try:
            ensure_teacher(entry.task, command)
            if line_of(entry).status == "done":
                print(f"{label}: done before", flush=True)
                continue
            print(f"{label}: running", flush=True)
            started = time.monotonic()
            make(entry, command)
            print(f"{label}: {time.monotonic() - started:.0f} s", flush=True)
        except CompressbertError as error:
            failed += 1
            print(f"{label}: failed: {error}", file=sys.stderr, flush=True)
        write()
    return failed


def fill(
    places: Places,
    page: Path,
    *,
    family: str = "distill",
    only: Sequence[str] = (),
    task: Sequence[str] = (),
    rows: int | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
    page_only: bool = False,
    command: Command = in_a_process,
) -> int:
    """Fill the table and write its page, or only print the plan or write the page; returns the exit code.

    Raises:
        ConfigError: A name is not in the table, or a config is wrong.
    """
    entries, lacking = entries_of(places, tasks_of(places, rows=rows, model=model), family, overrides)
    wanted = chosen(entries, only=only, task=task)
    without = [info.name for info in lacking]
    if dry_run:
        show_plan(wanted, [line_of(entry) for entry in wanted])
        return 0
    places.runs.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        write_page(entries, without, page, family)

    if page_only:
        write()
        return 0
    failed = run_all(wanted, command, write)
    write()
    print(f"{page}: {len(wanted) - failed} of {len(wanted)} rows")
    return WorkError.exit_code if failed or (without and not only) else 0


def main(  # noqa: PLR0917 - typer's options are parameters
    family: Annotated[str, typer.Option(help="Family of methods.")] = "distill",
    only: Annotated[
        list[str] | None, typer.Option(metavar="METHOD", help="This method alone; repeatable.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="This task alone; repeatable.")
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="Use only the first so many training rows.")] = None,
    data: Annotated[
        Path | None, typer.Option(envvar="COMPRESSBERT_DATA", help="Folder of data sets.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(envvar="COMPRESSBERT_MODELS", help="Folder of models.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Encoder that every teacher is tuned from.")] = None,
    out_dir: Annotated[Path, typer.Option(help="Folder of all runs; kept between calls.")] = Path(
        "runs/table1"
    ),
    page: Annotated[Path, typer.Option(help="The page to write.")] = ROOT / "docs" / "table1.md",
    configs: Annotated[Path, typer.Option(help="Folder of configs.")] = ROOT / "configs" / "table1",
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="For every pipeline; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and about what it costs.")
    ] = False,
    page_only: Annotated[
        bool, typer.Option("--page-only", help="Write the page from the rows that there are.")
    ] = False,
) -> None:
    """Fill the survey's Table 1: every method of a family and its control, on real data."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if data is None or (models is None and model is None):
            hint = "Set COMPRESSBERT_DATA and COMPRESSBERT_MODELS, or give --data and --models (or --model)."
            raise ConfigError("no data or no models", hint=hint)
        places = Places(configs, data.resolve(), (models or Path()).resolve(), out_dir.resolve())
        code = fill(
            places, page, family=family, only=only or (), task=task or (), rows=rows, model=model,
            overrides=overrides or (), dry_run=dry_run, page_only=page_only,
        )  # fmt: skip
    except CompressbertError as error:
        print(f"error: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        code = 130
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
