"""Gates as JUnit XML, the form in which CI systems read tests: one case per gate.

A gate that failed is a ``failure``. One that cannot tell is ``skipped``, since nothing was decided, or a ``failure``
of type ``cannot-tell`` where the settings let it fail the run: the file and the exit code say the same.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

from compressbert.errors import ConfigError, WorkError
from compressbert.results.report import Report, ReportGate
from compressbert.results.store import write_text_atomic

# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(report: Report, *, on_uncertain: Literal["fail", "warn", "measure-more"]) -> str:
    """The gates of ``report`` as a JUnit document, the same for the same report."""
    cases = [_case(gate, report.title, strict=on_uncertain == "fail") for gate in report.gates]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": "0",
    }
    suite = ElementTree.Element("testsuite", {"name": _text(report.title), **counts})
    suite.extend(cases)
    root = ElementTree.Element("testsuites", {"name": "compressbert", **counts})
    root.append(suite)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def check_target(file: Path) -> None:
    """Check, before any work, that ``file`` can be written.

    Raises:
        ConfigError: It is a folder, or lies where nothing may be written.
    """
    parent = file.parent
    while not parent.exists():
        parent = parent.parent
    wrong = (
        "it is a folder"
        if file.is_dir()
        else f"{parent} is not a folder"
        if not parent.is_dir()
        else f"{parent} is not writable"
        if not os.access(parent, os.W_OK)
        else ""
    )
    if wrong:
        raise ConfigError(f"--junit {file}: {wrong}", hint="Choose another file, such as gates.xml.")


def write(report: Report, file: Path, *, on_uncertain: Literal["fail", "warn", "measure-more"]) -> None:
    """Write the gates of ``report`` to ``file``, whole or not at all.

    Raises:
        WorkError: The file cannot be written.
    """
    try:
        write_text_atomic(file, render(report, on_uncertain=on_uncertain))
    except OSError as error:
        raise WorkError(f"--junit {file}: cannot be written: {error.strerror}") from error


def _case(gate: ReportGate, title: str, *, strict: bool) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_text(f"{title}.gates"), name=_text(gate.name), time="0")
    reason = _text(gate.reason)
    if gate.verdict == "fail" or (gate.verdict == "cannot-tell" and strict):
        failure = ElementTree.SubElement(case, "failure", message=reason, type=gate.verdict)
        failure.text = f"{_text(gate.name)}: {reason}"
    elif gate.verdict == "cannot-tell":
        ElementTree.SubElement(case, "skipped", message=f"cannot tell: {reason}")
    else:
        ElementTree.SubElement(case, "system-out").text = reason
    return case


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
