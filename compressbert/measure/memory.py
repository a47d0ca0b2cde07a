"""Peak memory of a process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_FORGET_PEAK = "5"  # what proc(5) says to write to clear_refs


def forget_peak() -> bool:
    """Let `peak_rss_bytes` count from what is resident now. False where the system cannot do that."""
    try:
        Path("/proc/self/clear_refs").write_text(_FORGET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def peak_rss_bytes() -> int:
    """Largest resident set of this process since it started (or `forget_peak`), in bytes.

    On Linux from ``VmHWM``: ``ru_maxrss`` would not do, as a child inherits its parent's peak when it is
    started.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
