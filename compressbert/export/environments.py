"""Environments of loaders that cannot live beside this package, made by ``python -m compressbert.export.environments``.

optimum-onnx and optimum-intel are bound to an older transformers, and sentence-transformers opens files through them;
the oldest onnxruntime is not the installed one; transformers.js is JavaScript. Each gets a folder of its own in
`loaders_folder`, with the versions that were tested. `verify` uses whatever it finds there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from compressbert.data.files import cache_folder
from compressbert.errors import ConfigError, InputError, WorkError
from compressbert.progress import note

STAMP = "environment.json"  # written last: an environment without it is not finished


@dataclass(frozen=True)
class Environment:
    """One loader's own environment.

    Attributes:
        kind: Python packages in a virtual environment, or npm packages in ``node_modules``.
        packages: What is installed, one call of the installer after the other. A first one for torch makes
            sure that the pinned build is taken.
    """

    kind: Literal["python", "node"]
    packages: tuple[tuple[str, ...], ...]


def oldest_onnxruntime() -> str:
    """The lowest onnxruntime this package's metadata allows, as the first release of that series: ``1.22.0``."""
    for requirement in metadata.requires("compressbert") or []:
        if found := re.match(r"onnxruntime\s*>=\s*(\d+\.\d+)$", requirement):
            return f"{found[1]}.0"
    raise WorkError("The metadata of compressbert names no lowest onnxruntime.", hint="Install it again.")


def known() -> dict[str, Environment]:
    """Every environment by its name, which is the name of its folder."""
    torch = "torch==2.13.0"
    return {
        "onnxruntime-oldest": Environment(
            "python", ((f"onnxruntime=={oldest_onnxruntime()}", "numpy==2.4.6", "safetensors==0.8.0"),)
        ),
        "optimum": Environment(
            "python",
            (
                (torch,),
                (
                    torch, "optimum-onnx==0.1.0", "optimum-intel==1.27.0", "sentence-transformers==5.7.0",
                    "transformers==4.57.6", "onnxruntime==1.32.0", "openvino==2026.4.1", "safetensors==0.8.0",
                ),
            ),
        ),
        "openvino": Environment("python", (("openvino==2026.4.1", "numpy==2.4.6", "safetensors==0.8.0"),)),
        "transformers.js": Environment("node", (("@huggingface/transformers@4.3.1",),)),
        "triton": Environment(
            "python", (("tritonclient[grpc]==2.73.0", "protobuf==6.33.6"),)
        ),
    }  # fmt: skip


def loaders_folder() -> Path:
    """Where environments of loaders lie: ``$COMPRESSBERT_LOADERS``, else ``loaders`` in the cache folder.

    Never the current folder unless it is named: what lies there is run.
    """
    configured = os.environ.get("COMPRESSBERT_LOADERS")
    return Path(configured).expanduser().resolve() if configured else cache_folder() / "loaders"


def stamp_of(name: str) -> str:
    """What the stamp of an environment holds that has these very packages."""
    wanted = known()[name]
    packages = [list(group) for group in wanted.packages]
    return json.dumps({"kind": wanted.kind, "packages": packages}, indent=2) + "\n"


def find(name: str) -> Path | None:
    """The finished environment of this name; None if it was not made, or with other packages."""
    folder = loaders_folder() / name
    stamp = folder / STAMP
    return folder if stamp.is_file() and stamp.read_text(encoding="utf-8") == stamp_of(name) else None


def how_to_get(name: str) -> str:
    """What to type for an environment that is absent."""
    return f"to get it: python -m compressbert.export.environments {name}"


def python_of(folder: Path) -> str:
    """The interpreter of a Python environment."""
    return str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def make(name: str) -> Path:
    """Make an environment, unless it is there with these very packages; returns its folder.

    Raises:
        ConfigError: No environment has this name.
        InputError: node or npm is missing.
        WorkError: An installer failed; its last lines are in the message.
    """
    environments = known()
    if name not in environments:
        raise ConfigError(
            f"No loader's environment is called {name}.", hint=f"Known: {', '.join(environments)}."
        )
    wanted, folder = environments[name], loaders_folder() / name
    if find(name) is not None:
        note(f"{name}: there already")
        return folder
    if folder.exists():
        shutil.rmtree(folder)
    note(f"{name}: installing {' '.join(wanted.packages[-1])}")
    folder.mkdir(parents=True)
    if wanted.kind == "node":
        _install_node(folder, wanted)
    else:
        venv.create(folder, with_pip=True)
        pip = [python_of(folder), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for group in wanted.packages:
            _run([*pip, *group], folder)
    (folder / STAMP).write_text(stamp_of(name), encoding="utf-8")
    return folder


def _install_node(folder: Path, wanted: Environment) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise InputError(
            "node and npm are needed and at least one is not on PATH.", hint="Install Node.js 20."
        )
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    for group in wanted.packages:
        # Install scripts would download binaries for GPUs; the CPU binary is part of the package.
        _run([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *group], folder)


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-5:])
        raise WorkError(
            f"{Path(command[0]).name} failed in {folder}:\n{tail}", hint="Type it again to try again."
        )


def main(names: Sequence[str]) -> int:
    """Make the named environments, or all of them; returns the exit code."""
    for name in names or known():
        try:
            make(name)
        except (ConfigError, InputError, WorkError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return error.exit_code
    print(loaders_folder())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
