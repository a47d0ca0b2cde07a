"""Raw rows through `datasets`: a local file or a hub data set, memory-mapped, with failures that name the
line.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

from compressbert.config.names import data_set_name
from compressbert.data.diagnose import find_fault, header_of, place_of
from compressbert.data.files import (
    Format,
    cache_folder,
    check_readable,
    disk_full,
    format_of,
    key_of,
    sha256_of,
)
from compressbert.errors import InputError, WorkError

_CHUNK_BYTES = 4 << 20  # parsed at once: several copies of a chunk are in memory
_CHUNK_ROWS = 2000


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the source, before columns and labels are settled."""

    rows: datasets.Dataset
    name: str
    files: dict[str, str]  # path (or hub name) -> sha256 (or fingerprint)
    path: Path | None

    def place(self, row: int) -> str:
        """Where row ``row`` (from 0) stands, for a message."""
        return place_of(self.path, row) if self.path else f"{self.name}, row {row + 1}"


def read_file(path: Path) -> Table:
    """Read a local file. Parsed once per content and then memory-mapped; the network is never asked.

    In csv every cell is text until it is used as a label. In tsv, quotes are ordinary characters.

    Raises:
        InputError: Missing, empty, header only, malformed (file:line), not UTF-8 (file:line).
        WorkError: The disk of the cache is full.
    """
    kind = format_of(path)
    check_readable(path)
    sha256 = sha256_of(path)
    folder = cache_folder() / "rows" / key_of("rows", sha256, kind, datasets.__version__)
    rows = _load(path, kind, folder)
    if len(rows) == 0:
        raise InputError(f"{path}: has no rows", hint="Give a file with at least one row.")
    return Table(rows, str(path), {str(path): sha256}, path)


def _load(path: Path, kind: Format, folder: Path) -> datasets.Dataset:
    """Parse a file into ``folder``, or map what is there. A damaged folder is made anew, a failed one not kept."""
    settings = _settings(path, kind)
    existed = folder.exists()
    try:
        with quiet():
            rows = datasets.load_dataset(
                {"tsv": "csv", "txt": "text"}.get(kind, kind), data_files={"train": [str(path.absolute())]},
                split="train", cache_dir=str(folder), verification_mode="no_checks", **settings,
            )  # fmt: skip
        if kind == "json":  # its reader takes any bytes for text
            rows.data.table.validate(full=True)
    except (DatasetGenerationError, pa.ArrowException, ValueError, OSError, EOFError, StopIteration) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if existed and not folder.exists():
            return _load(path, kind, folder)
        raise _explained(path, error) from error
    return rows


def _settings(path: Path, kind: Format) -> dict[str, Any]:
    if kind == "json":
        # No guessing: a column has one type, that of the first chunk.
        return {"on_mixed_types": None, "parse_agent_traces": False, "chunksize": _CHUNK_BYTES}
    if kind == "txt":
        return {"chunksize": _CHUNK_BYTES}
    if kind == "parquet":
        return {}
    header = header_of(path)
    if len(set(header)) != len(header):
        raise InputError(
            f"{path}:1: a column name stands twice in the header: {', '.join(header)}", hint="Rename one."
        )
    # Everything is a string and nothing means "missing": a review that reads "None" or "NA" is a text like
    # any other.
    table: dict[str, Any] = {
        "features": datasets.Features({name: datasets.Value("string") for name in header})
    }
    table |= {"keep_default_na": False, "chunksize": _CHUNK_ROWS, "sep": "\t" if kind == "tsv" else ","}
    return table | ({"quoting": 3} if kind == "tsv" else {})


def _explained(path: Path, error: BaseException) -> InputError | WorkError:
    full = disk_full(error)
    if full is not None:
        return full
    fault = find_fault(path)
    if fault is not None:
        return InputError(f"{fault.where}: {fault.what}", hint=fault.hint or "Correct the line.")
    if isinstance(error, StopIteration) or "corresponds to no data" in str(error):
        return InputError(f"{path}: has no rows, at most a header", hint="Give a file with at least one row.")
    return InputError(
        f"{path}: cannot be read: {error.__cause__ or error}",
        hint="Check that the file is what its name says.",
    )


def read_hub(name: str, split: str) -> Table:
    """Read a split of a hub data set, from the local hub cache or the network.

    Args:
        name: ``owner/name``, ``name``, or either with ``/config`` behind it (``glue/sst2``,
            ``nyu-mll/glue/sst2``).
        split: The split's name; slices such as ``train[:1000]`` work.

    Raises:
        InputError: Unknown data set or split, or offline and not in the cache.
        ConfigError: A name with more than three parts.
    """
    path, config = data_set_name(name)
    try:
        with quiet():
            rows = datasets.load_dataset(path, config, split=split)
    except DatasetNotFoundError as error:
        raise InputError(
            f"hub data set {name}: not found", hint="Check data.hub: NAME, NAME/CONFIG."
        ) from error
    except ValueError as error:  # an unknown split or config; the message lists those there are
        raise InputError(
            f"hub data set {name}, split {split!r}: {error}", hint="Correct data.hub or the split."
        ) from error
    except (ConnectionError, OSError) as error:
        raise InputError(
            f"hub data set {name}: not in the local cache, and the hub cannot be reached: {error}",
            hint="Go online once, or give local files: --set data.hub=null --set data.train=FILE "
            "--set data.validation=FILE",
        ) from error
    if len(rows) == 0:
        raise InputError(f"hub data set {name}, split {split!r}: has no rows", hint="Choose another split.")
    label = f"hub:{name}[{split}]"
    return Table(rows, label, {label: rows._fingerprint}, None)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the progress bars and the log of `datasets`; what it knows is in the errors we raise."""
    logger = logging.getLogger("datasets")
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()
