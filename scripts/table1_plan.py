"""What the table is made of: tasks with their teachers, and for each method and task one pipeline. Runs nothing.

Everything is read from YAML: `configs/table1/tasks/TASK.yaml` is a config of `compressbert finetune`, which names a
task's data and says how its teacher is tuned; `configs/table1/METHOD.yaml` is one of `compressbert run`, whose step
`student` uses the method and whose step `control` trains the same student without it. `METHOD.TASK.yaml`, where there
is one, is taken for that task. The kind of data in a method's file says which tasks it runs on. Numbers of steps in
`METHOD.yaml` are those of the 20,000 rows of SST-2, and follow the rows of other tasks (`table1_lengths.py`).
"""

from __future__ import annotations

import ast
import copy
import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compressbert.config.document import merged
from compressbert.config.load import load_document
from compressbert.config.schema import DataConfig
from compressbert.errors import ConfigError
from compressbert.methods.registry import MethodInfo, find_method, list_methods
from compressbert.pipeline.keys import data_fingerprint, model_fingerprint
from compressbert.results.hashing import sha256_json
from scripts.table1_lengths import with_steps_for

STUDENT, CONTROL, TEACHER = "student", "control", "teacher"
TASKS = ("sst2", "mrpc", "cola", "conll2003", "squad")  # the order of the page; others follow by name
DEFAULT_KIND = DataConfig.model_fields["task"].default

# Of one core of a server's CPU, for 3 layers of width 384: only good for the plan's estimate.
SECONDS_PER_TRAINED_MEGABYTE = 30.0
SECONDS_OF_MEASURING = 120.0


@dataclass(frozen=True)
class Places:
    """Where everything lies: configs, data, models, and the folder of all runs."""

    configs: Path
    data: Path
    models: Path
    runs: Path


@dataclass(frozen=True)
class Task:
    """A task: its data, and the fine-tuning that makes its teacher unless there is one already."""

    name: str
    finetune: dict[str, Any]  # paths resolved
    ready: Path | None  # a teacher that is there and is used as it is
    runs: Path

    @property
    def data(self) -> dict[str, Any]:
        """The data section."""
        section: dict[str, Any] = self.finetune["data"]
        return section

    @property
    def kind(self) -> str:
        """The kind of task."""
        return str(self.data.get("task", DEFAULT_KIND))

    @property
    def teacher(self) -> Path:
        """The teacher's folder; made by the script unless there is a ready one."""
        return self.ready or Path(self.finetune["output"])

    @property
    def teacher_name(self) -> str:
        """What the page calls the teacher."""
        if self.ready is not None:
            return self.ready.name
        return f"{Path(str(self.finetune['model']['path'])).name}, fine-tuned here"

    @property
    def folder(self) -> Path:
        """Where everything of the task is kept."""
        return self.runs / self.name

    @cached_property
    def key(self) -> str:
        """What a teacher that is tuned here rests on."""
        settings = {name: value for name, value in self.finetune.items() if name not in ("model", "output")}
        model = model_fingerprint(self.finetune["model"]["path"])
        return sha256_json({"settings": _without_paths(settings), "model": model, "data": _data(self.data)})


@dataclass(frozen=True)
class Entry:
    """One line of the table: a method on a task."""

    task: Task
    method: MethodInfo
    file: Path
    overrides: tuple[str, ...]
    data_folder: Path

    @property
    def folder(self) -> Path:
        """Where its pipeline, its run and its record lie."""
        return self.task.folder / self.method.name

    @property
    def run(self) -> Path:
        """The run folder of its pipeline."""
        return self.folder / "run"

    @cached_property
    def pipeline(self) -> dict[str, Any]:
        """The pipeline with the task's data and teacher in it: what `compressbert run` is given."""
        document = load_document(self.file, self.overrides).data
        rows = len(_sizes(self.task.data))
        if rows and self.file.stem == self.method.name:
            document = with_steps_for(rows, document)
        steps = [_resolved_step(step, self.data_folder) for step in document.get("steps", [])]
        return merged(
            document,
            {
                "name": f"{self.task.name}-{self.method.name}",
                "model": {"path": str(self.task.teacher)},
                "data": self.task.data,
                "steps": steps,
                "report": {"baseline": "input"},
                "output": str(self.run),
            },
        )

    @property
    def control_follows(self) -> bool:
        """Whether the control's length is written in steps, which are then those that the student took."""
        control = _named_steps(self.pipeline).get(CONTROL)
        return control is not None and "max_steps" in {
            **self.pipeline.get("train", {}),
            **control.get("train", {}),
        }

    def pipeline_of(self, steps: int) -> dict[str, Any]:
        """The pipeline with a control of ``steps`` steps in all, of which each run that is averaged has its share."""
        document = copy.deepcopy(self.pipeline)
        own = _named_steps(document)[CONTROL].setdefault("train", {})
        runs = {"average_runs": 1, **document.get("train", {}), **own}["average_runs"]
        own["max_steps"] = math.ceil(steps / runs)
        return document

    def key(self) -> str:
        """What the row rests on: settings, teacher, content of the data, code of the method (not its comments)."""
        settings = {name: value for name, value in self.pipeline.items() if name not in ("model", "output")}
        return sha256_json(
            {
                "settings": _without_paths(settings),
                "teacher": model_fingerprint(str(self.task.teacher)),
                "data": [_data(self.task.data), *map(_data, self._data_of_steps())],
                "method": _code_of(self.method.path),
            }
        )

    def estimate(self) -> float:
        """A rough guess of the seconds it takes on one core, from the size of the data and the control's epochs."""
        sizes = _sizes(self.task.data)
        trained = _epochs(self.pipeline, self.method, len(sizes)) * sum(sizes) / 1e6
        return 3 * trained * SECONDS_PER_TRAINED_MEGABYTE + SECONDS_OF_MEASURING

    def _data_of_steps(self) -> Iterator[dict[str, Any]]:
        for step in self.pipeline["steps"]:
            for settings in step.values():
                if (settings or {}).get("data"):
                    yield settings["data"]


def tasks_of(places: Places, *, rows: int | None, model: str | None) -> list[Task]:
    """The tasks that there are configs of, in the order of the page.

    Args:
        places: Where everything lies.
        rows: Use only so many training rows of every task.
        model: The encoder that every teacher is tuned from, in place of the one the task's file names.
    """
    files = {file.stem: file for file in (places.configs / "tasks").glob("*.yaml")}
    if not files:
        raise ConfigError(
            f"no tasks in {places.configs / 'tasks'}", hint="Give --configs the folder of configs/table1."
        )
    order = [*(name for name in TASKS if name in files), *sorted(files.keys() - set(TASKS))]
    return [_task(files[name], places, rows=rows, model=model) for name in order]


def _task(file: Path, places: Places, *, rows: int | None, model: str | None) -> Task:
    document = load_document(file).data
    ready: Path | None = places.models / str(document["output"])
    if model is not None:
        document["model"], ready = {"path": model}, None
    else:
        document["model"]["path"] = _below(places.models, document["model"]["path"])
        ready = ready if ready is not None and ready.is_dir() else None
    document["data"] = _resolved_data(document["data"], places.data)
    if rows is not None:
        document["data"]["max_train_rows"] = rows
    document["output"] = str(places.runs / file.stem / TEACHER / "model")
    return Task(file.stem, document, ready, places.runs)


def entries_of(
    places: Places, tasks: Sequence[Task], family: str, overrides: Sequence[str] = ()
) -> tuple[list[Entry], list[MethodInfo]]:
    """Every line of the table, task by task and the cheapest first; and the methods that no config is there for."""
    methods = [info for info in list_methods() if info.family == family]
    entries, without = [], []
    for info in methods:
        files = {file.name: file for file in places.configs.glob(f"{info.name}*.yaml")}
        common = files.get(f"{info.name}.yaml")
        if common is None:
            without.append(info)
            continue
        kind = load_document(common).data.get("data", {}).get("task", DEFAULT_KIND)
        for task in tasks:
            if task.kind == kind:
                file = files.get(f"{info.name}.{task.name}.yaml", common)
                entries.append(Entry(task, info, file, tuple(overrides), places.data))
    order = [task.name for task in tasks]
    entries.sort(key=lambda entry: (order.index(entry.task.name), entry.estimate(), entry.method.name))
    return entries, without


def chosen(entries: Sequence[Entry], *, only: Sequence[str], task: Sequence[str]) -> list[Entry]:
    """The entries of those methods and tasks; all, where none are named.

    Raises:
        ConfigError: A name is not in the table.
    """
    known = {
        "--only": {entry.method.name for entry in entries},
        "--task": {entry.task.name for entry in entries},
    }
    for option, names in (("--only", only), ("--task", task)):
        for name in set(names) - known[option]:
            raise ConfigError(
                f"{option} {name}: not in the table", hint=f"Known: {', '.join(sorted(known[option]))}."
            )
    return [
        entry
        for entry in entries
        if (not only or entry.method.name in only) and (not task or entry.task.name in task)
    ]


def _resolved_step(step: dict[str, Any], folder: Path) -> dict[str, Any]:
    ((kind, settings),) = step.items()
    if not (settings or {}).get("data"):
        return step
    return {kind: {**settings, "data": _resolved_data(settings["data"], folder)}}


def _resolved_data(section: dict[str, Any], folder: Path) -> dict[str, Any]:
    named = {split: _below(folder, section[split]) for split in ("train", "validation") if section.get(split)}
    return {**section, **named}


def _below(folder: Path, path: str) -> str:
    """``path`` seen from ``folder``, where it is there; else as it is (absolute, or a name on the hub)."""
    return str(folder / path) if (folder / path).exists() else path


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the places of data, whose content is hashed instead."""
    text = {name: value for name, value in settings.items() if name not in ("data", "steps")}
    data = {name: value for name, value in settings["data"].items() if name not in ("train", "validation")}
    steps = []
    for step in settings.get("steps", []):
        ((kind, own),) = step.items()
        if (own or {}).get("data"):
            own = {**own, "data": {k: v for k, v in own["data"].items() if k not in ("train", "validation")}}
        steps.append({kind: own})
    return {**text, "data": data, "steps": steps}


def _data(section: dict[str, Any]) -> dict[str, str]:
    return data_fingerprint(DataConfig.model_validate(section))


def _code_of(file: Path) -> str:
    """A method's code without its docstrings and comments, in which most changes change nothing."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    tree.body = [node for node in tree.body if not _is_survey(node)]
    return sha256_json(ast.dump(tree))


def _is_survey(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "SURVEY"
    )


def _epochs(pipeline: dict[str, Any], method: MethodInfo, rows: int) -> float:
    """Passes over the data of the control, which is as long as the student."""
    common = {**method.train_defaults, **pipeline.get("train", {})}
    step = _named_steps(pipeline).get(CONTROL) or {}
    inherited = {} if "epochs" in pipeline.get("train", {}) else _defaults(step)
    train = {"epochs": 3.0, "batch_size": 32, **common, **inherited, **step.get("train", {})}
    most = train["max_steps"] * train["batch_size"] / max(rows, 1) if "max_steps" in train else math.inf
    return float(min(train["epochs"], most) * train.get("average_runs", 1))


def _named_steps(pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each step, by its name."""
    return {
        (own or {}).get("name", kind): (own or {}) for step in pipeline["steps"] for kind, own in step.items()
    }


def _defaults(step: dict[str, Any]) -> dict[str, Any]:
    name = (step.get("method") or {}).get("name")
    return find_method(name).train_defaults if name else {}


def _sizes(data: dict[str, Any]) -> list[int]:
    """Uncompressed bytes of each training row that is used; none where the data is not a file here."""
    file = Path(str(data.get("train")))
    if not file.is_file():
        return []
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
        sizes = [len(line) for line in lines]
    return sizes[: data.get("max_train_rows") or len(sizes)]
