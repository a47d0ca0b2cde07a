"""Where a result was made: package versions, processor, the instructions that decide int8 speed, cores."""

from __future__ import annotations

import os
import platform
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
    )


def fingerprint(machine: Environment) -> str:
    """What two machines must share for milliseconds of one to be compared with those of the other.

    The processor, its instructions and the cores in use. Versions of packages are left out: that a new version is
    slower is what a limit on milliseconds is there to find.
    """
    return sha256_json([machine.cpu, machine.isa, machine.cores])[:12]


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


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
