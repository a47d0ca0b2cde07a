"""The failures compressbert reports, one class per exit code.

Each error says what was expected, what was found and where, and its ``hint`` says what to do next.
The command line turns them into one message (`cli/app.py`); Python callers catch `CompressbertError`.
"""

from __future__ import annotations


class CompressbertError(Exception):
    """Base of every failure that is reported without a traceback.

    Args:
        message: What was expected, what was found, and where.
        hint: What to do next, as a sentence or a command to type.
    """

    exit_code: int = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class GateFailed(CompressbertError):
    """A gate of a pipeline failed (exit code 1)."""

    exit_code = 1


class ConfigError(CompressbertError):
    """Usage or settings are wrong: unknown key, impossible value, output folder not empty (exit code 2)."""

    exit_code = 2


class InputError(CompressbertError):
    """An input is missing or unusable: model, data, optional extra, offline miss (exit code 3)."""

    exit_code = 3


class WorkError(CompressbertError):
    """The work itself failed: diverged, parity check failed, disk full (exit code 4)."""

    exit_code = 4
