"""The one place where failures become a message and an exit code.

0 done, 1 a gate failed, 2 usage or settings, 3 an input is missing or unusable, 4 the work failed,
130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from typer.exceptions import Abort, Exit, TyperException

from compressbert.errors import CompressbertError, WorkError

INTERRUPTED = 130


class Interrupted(CompressbertError):
    """Ctrl-C or SIGTERM (exit code 130)."""

    exit_code = INTERRUPTED


def guarded(work: Callable[[], int], arguments: Sequence[str]) -> int:
    """Run ``work`` and return its exit code; report a failure on stderr, and on stdout too with ``--json``.

    Args:
        work: What the command line asked for. May raise `Exit` and usage errors of typer.
        arguments: The command line, looked at for ``--json`` and ``--debug`` because parsing itself may fail.
    """
    stdout = sys.stdout
    try:
        with _terminable():
            code = work()
            sys.stdout.flush()
            return code
    except Exit as stop:
        return stop.exit_code
    except BrokenPipeError:  # the reader has seen enough, as in `compressbert methods | head -1`
        silence_stdout()
        return 0
    except SystemExit:
        if sys.stdout is stdout:
            raise
        return 0  # typer met a broken pipe while printing help: it wraps stdout and exits
    except (KeyboardInterrupt, Abort) as stop:
        failure: CompressbertError = Interrupted("interrupted", hint="The same command resumes.")
        cause: BaseException = stop
    except TyperException as usage:
        failure, cause = _usage_error(usage), usage
    except CompressbertError as known:
        failure, cause = known, known
    except Exception as unknown:  # the boundary: a user sees one message, `--debug` shows where it comes from
        failure, cause = _unexpected(unknown), unknown
    _report(failure, cause, as_json="--json" in arguments, debug="--debug" in arguments)
    return failure.exit_code


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that folders are tidied up and locks released."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def silence_stdout() -> None:
    """Send further output nowhere: its reader is gone, and flushing at exit must not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_error(error: TyperException) -> CompressbertError:
    context = getattr(error, "ctx", None)
    failure = CompressbertError(
        error.format_message(), hint=f"`{context.command_path} --help` shows the usage." if context else ""
    )
    failure.exit_code = error.exit_code
    return failure


def _unexpected(error: Exception) -> CompressbertError:
    from compressbert.results.store import disk_full

    full = disk_full(error, Path.cwd())
    if full is not None:
        return full
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return WorkError(f"unexpected error: {text}", hint="Run again with --debug to see where it comes from.")


def _report(failure: CompressbertError, cause: BaseException, *, as_json: bool, debug: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    if debug:
        traceback.print_exception(cause, file=sys.stderr)
    screen = Console(stderr=True, highlight=False, soft_wrap=True)
    stopped = failure.exit_code == INTERRUPTED
    gap = "\n" if "\n" in failure.message else " "
    lead = Text("" if stopped else f"error:{gap}", style="bold red")
    screen.print(Text.assemble(lead, failure.message))
    if failure.hint:
        screen.print(Text(failure.hint, style="dim"))
    if as_json:
        error = {"exit_code": failure.exit_code, "message": failure.message, "hint": failure.hint}
        sys.stdout.write(json.dumps({"schema_version": 1, "error": error}, ensure_ascii=False) + "\n")
        sys.stdout.flush()
