"""Failures: one message, the right exit code, and a JSON document when asked."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from compressbert.errors import ConfigError, GateFailed, InputError, WorkError
from tests.cli.support import Step, invoke, stand_in

ARGUMENTS = ("export", "--model", "m", "-o", "absent-folder")
EXPORT = "compressbert.pipeline.steps.export"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (GateFailed("too slow"), 1, "error: too slow"),
        (ConfigError("impossible"), 2, "error: impossible"),
        (InputError("no model"), 3, "error: no model"),
        (WorkError("diverged", hint="Lower it."), 4, "error: diverged\nLower it."),
        (OSError(errno.ENOSPC, "No space left on device"), 4, "error: disk full: "),
        (ValueError("[red]markup[/red]"), 4, "error: unexpected error: ValueError: [red]markup[/red]\n"),
        (RecursionError(), 4, "error: unexpected error: RecursionError\nRun again with --debug"),
        (KeyboardInterrupt(), 130, "interrupted\nThe same command resumes.\n"),
    ],
)  # fmt: skip
def test_each_failure_has_its_code_and_message(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    stand_in(monkeypatch, EXPORT, export=Step(error))
    result = invoke(*ARGUMENTS)
    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    document = json.loads(invoke(*ARGUMENTS, "--json").stdout)
    assert set(document) == {"schema_version", "error"}
    assert document["error"]["exit_code"] == code
    assert document["error"]["message"] in message or message in f"error: {document['error']['message']}"


def test_debug_shows_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, EXPORT, export=Step(InputError("no model")))
    result = invoke(*ARGUMENTS, "--debug")
    assert result.exit_code == 3
    assert "Traceback" in result.stderr
    assert "support.py" in result.stderr


def test_long_messages_are_not_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    message = "word " * 100 + "end"
    stand_in(monkeypatch, EXPORT, export=Step(ConfigError(message)))
    assert invoke(*ARGUMENTS).stderr == f"error: {message}\n"


WORKER = """
import signal, sys, time
from pathlib import Path
from types import ModuleType
from compressbert import progress
from compressbert.results.store import step_folder

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it starts with & ignore it

def export(config, *, overwrite=False):
    with step_folder(Path(config.output)) as step:
        (step.work / "checkpoint").write_text("x")
        progress.note("ready")
        time.sleep(60)

module = ModuleType("compressbert.pipeline.steps.export")
module.export = export
sys.modules[module.__name__] = module
from compressbert.cli.app import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_tidily(tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-c", WORKER, "export", "--model", "m", "-o", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "ready\n"
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted\nThe same command resumes.\n")
    assert sorted(entry.name for entry in (tmp_path / ".out.partial").iterdir()) == ["work"]


def command_line(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "compressbert", *arguments],
        capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=False,
    )  # fmt: skip


def test_python_dash_m_and_the_version() -> None:
    from compressbert import __version__

    result = command_line("--version")
    assert (result.returncode, result.stdout) == (0, f"compressbert {__version__}\n")


def test_colours_only_where_they_are_wanted() -> None:
    coloured = command_line("check", "absent.yaml", FORCE_COLOR="1", NO_COLOR="")
    assert coloured.returncode == 2
    assert "\x1b[" in coloured.stderr
    for plain in (
        command_line("check", "absent.yaml"),
        command_line("check", "absent.yaml", NO_COLOR="1", FORCE_COLOR=""),
    ):
        assert plain.stderr.startswith("error: absent.yaml: no such config file\n")


@pytest.mark.parametrize("arguments", ["methods", "schema result", "--help"])
def test_a_reader_that_leaves_early_is_no_failure(arguments: str) -> None:
    script = f"{sys.executable} -m compressbert {arguments} | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["--help"], ["distill", "--help"], ["--version"]])
def test_nothing_heavy_is_imported_for_help(arguments: list[str]) -> None:
    code = (
        "import atexit, os, sys; import compressbert.cli.app; sys.argv[0] = 'compressbert'; "
        "sys.stdout = open(os.devnull, 'w'); atexit.register(lambda: os.write(2, str(found()).encode())); "
        "found = lambda: [name for name in heavy if name in sys.modules]; "
        "heavy = ('torch', 'transformers', 'datasets', 'onnx', 'onnxruntime', 'numpy', 'pydantic', 'yaml'); "
        "compressbert.cli.app.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr == "[]"


def test_help_answers_at_once() -> None:
    times = []
    for _ in range(4):
        started = time.perf_counter()
        result = command_line("distill", "--help")
        times.append(time.perf_counter() - started)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.startswith("Usage: compressbert distill")
    assert min(times) < 1.0  # 0.15 s on an idle machine; this one may be busy


def test_no_arguments_show_the_help() -> None:
    result = command_line()
    assert (result.returncode, result.stderr) == (0, "")
    assert "Usage: compressbert" in result.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("compressbert fin", "finetune"),
        ("compressbert prune --method mi", "michel"),
        ("compressbert methods wi", "width"),
    ],
)
def test_completion(words: str, expected: str) -> None:
    position = str(len(words.split()) - 1)
    result = command_line(_COMPRESSBERT_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=position)
    assert (result.returncode, result.stdout.split()) == (0, [expected])


def test_completion_scripts_are_written() -> None:
    result = command_line(_COMPRESSBERT_COMPLETE="source_bash")
    assert result.returncode == 0
    assert "complete -o default -F _compressbert_completion compressbert" in result.stdout
