"""Where a result was made: package versions, processor, the instructions that decide int8 speed, cores."""

from __future__ import annotations

import os
import platform
import re
from functools import cache
from importlib import metadata
from pathlib import Path

from compressbert.results.hashing import sha256_json
from compressbert.results.record import Environment

PACKAGES = (
    "compressbert",
    "torch",
    "transformers",
    "tokenizers",
    "datasets",
    "accelerate",
    "safetensors",
    "onnx",
    "onnxruntime",
    "openvino",
    "numpy",
)
ISA = (
    *("avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("neon", "asimddp", "i8mm", "bf16", "sve"),
)
_CPU_INFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@cache
def environment() -> Environment:
    """The environment of this process. Packages that are not installed are left out."""
    fields = _cpu_fields()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    if "asimd" in flags:  # the name Linux gives NEON on 64-bit ARM
        flags.add("neon")
    return Environment(
        versions=_versions(),
        cpu=fields.get("model name") or platform.processor() or platform.machine(),
        isa=tuple(name for name in ISA if name in flags),
        cores=_cores(),
        governor=_governor(),
    )


def fingerprint(machine: Environment) -> str:
    """A short name for machines whose latencies may be compared: ``intel-xeon-2-cores-1a2b3c4d``.

    The same processor, instructions, cores and frequency governor give the same name, whatever the versions
    of the libraries: a library that became slower is what a limit on latency is there to find.
    """
    words = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*", " ", machine.cpu.lower())
    name = "-".join(re.findall(r"[a-z0-9]+", words)) or "machine"
    facts = machine.model_dump(mode="json", include={"cpu", "isa", "cores", "governor"})
    return f"{name}-{machine.cores}-cores-{sha256_json(facts)[:8]}"


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _governor() -> str | None:
    try:
        return _GOVERNOR.read_text(encoding="ascii").strip() or None
    except OSError:
        return None


def _cpu_fields() -> dict[str, str]:
    """The first processor's block of /proc/cpuinfo; empty where there is none."""
    if not _CPU_INFO.is_file():
        return {}
    block = _CPU_INFO.read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def _cores() -> int:
    """Cores this process may use, which in a container is fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
