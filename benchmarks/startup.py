"""Start-up time: how long `compressbert --help` and every `COMMAND --help` take, as whole processes.

usage: python benchmarks/startup.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

COMMANDS = (
    "", "finetune", "distill", "prune", "quantize", "export", "evaluate", "benchmark", "report", "run", "verify",
    "methods", "schema", "init", "check",
)  # fmt: skip


def seconds(command: str) -> float:
    """Return the wall time of one `--help`."""
    words = [sys.executable, "-m", "compressbert", *([command] if command else []), "--help"]
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main(rounds: int) -> None:
    """Time every command once per round, and an empty Python process for comparison."""
    found: dict[str, list[float]] = {command: [] for command in COMMANDS}
    bare = []
    for _ in range(rounds):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - started)
        for command in COMMANDS:
            found[command].append(seconds(command))
    print(f"{'python -c pass':28} {statistics.median(bare):.3f} s")
    for command, times in found.items():
        print(
            f"{('compressbert ' + command + ' --help').replace('  ', ' '):28} {statistics.median(times):.3f} s"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
