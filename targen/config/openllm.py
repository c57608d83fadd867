"""The suites of the Open LLM Leaderboard, from conf/openllm/: their tasks, and the local files of each."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.evaluation import OpenLLM
from targen.config.validation import check
from targen.runtime.paths import CONF
from targen.tasks.specification import STRICT

Chance = Annotated[str, Field(pattern=r"^\d+(/[1-9]\d*)?$")]  # 1/4


@checked_dataclass(frozen=True, config=STRICT)
class SuiteTask:
    """One task of a suite: a task of the harness, or several parts that are combined into one score."""

    title: str
    """The task's name in `origin` of scores.jsonl."""
    file: str
    """The task's file in lm-evaluation-harness, below lm_eval/tasks; {part} stands for a part."""
    shots: Annotated[int, Field(ge=0)]
    """Solved examples before each question."""
    metric: str
    """The metric's name in scores.jsonl, and in the harness unless `read` names others."""
    folder: str
    """The folder of its local files below eval.openllm.data_dir; {part} stands for a part."""
    split: str
    """The split that is scored; {part} stands for a part."""
    shown: str | None
    """The split that examples are drawn from; null: none are drawn, since the prompt has its own or none."""
    fields: list[str]
    """The fields that a row of a local file must have."""
    released: dict[str, list[str]] = field(default_factory=dict)
    """Files of a split as the authors name them, relative to eval.openllm.data_dir; {part} stands for a part."""
    filter: str = "none"
    """The harness's filter of answers whose results are read."""
    read: list[str] = field(default_factory=list)
    """The harness's metrics whose mean is the score; empty: `metric` alone."""
    parts: list[str] = field(default_factory=list)
    """The parts that make up the task, each a task of the harness; empty: it is a single one."""
    combine: Literal["mean", "by_size"] = "mean"
    """How the parts' scores are averaged: equally, or weighted by their numbers of documents."""
    chance: Chance | dict[str, Chance] | None = None
    """The score of random answers as a fraction, of the task or by part, for normalised scores; null: not normalised."""

    @property
    def metrics(self) -> list[str]:
        """The harness's metrics whose mean is the score."""
        return self.read or [self.metric]

    def normalised(self, value: float, part: str = "") -> float:
        """The score, rescaled so that chance is 0 and a perfect score 1; 0 below chance."""
        chance = self.chance[part] if isinstance(self.chance, dict) else self.chance or "0"
        low = float(Fraction(chance))
        return max(0.0, (value - low) / (1 - low))


@checked_dataclass(frozen=True, config=STRICT)
class Suite:
    """A suite, as in conf/openllm/<name>.yaml."""

    version: int
    """The version of this definition, for scores.jsonl."""
    title: str
    """The suite's name in `origin` of its average in scores.jsonl."""
    tasks: dict[str, SuiteTask]
    """The tasks by name, in the order in which they are scored."""
    base: str | None = None
    """A suite whose tasks come before these; null: none."""


@dataclass(frozen=True)
class Subtask:
    """What the harness evaluates at a time: a task, or a part of one (a subject of MMLU)."""

    task: str
    part: str
    spec: SuiteTask
    shots: int

    @property
    def name(self) -> str:
        """`hellaswag`, or with the part `mmlu/anatomy`."""
        return f"{self.task}/{self.part}" if self.part else self.task

    @property
    def file(self) -> str:
        """The task's file in lm-evaluation-harness."""
        return self.spec.file.format(part=self.part)

    @property
    def folder(self) -> str:
        """Folder of its files, relative to eval.openllm.data_dir."""
        return self.spec.folder.format(part=self.part)

    @property
    def split(self) -> str:
        """The split that is scored."""
        return self.spec.split.format(part=self.part)

    @property
    def splits(self) -> list[str]:
        """The splits that are read: the scored one, and the one that examples come from if any are shown."""
        return list(dict.fromkeys([self.split, *([self.spec.shown] if self.spec.shown and self.shots else [])]))


def suite_from_file(name: str) -> Suite:
    """The suite, with the tasks of its base first."""
    values = yaml.safe_load((CONF / "openllm" / f"{name}.yaml").read_text(encoding="utf-8"))
    suite = check(Suite, values, f"openllm.{name}")
    if suite.base is None:
        return suite
    return Suite(suite.version, suite.title, {**suite_from_file(suite.base).tasks, **suite.tasks}, suite.base)


def subtasks(settings: OpenLLM) -> list[Subtask]:
    """The subtasks to evaluate, in the order of the suite. Tasks that show no examples ignore num_fewshot.

    Of a task with parts, those with a local file, if there is one for any: whoever has some subjects of MMLU is scored on them.
    """
    if settings.suite is None:
        return []
    selected = []
    for name, task in suite_from_file(settings.suite).tasks.items():
        if settings.tasks is not None and name not in settings.tasks:
            continue
        shots = task.shots if settings.num_fewshot is None or task.shots == 0 else settings.num_fewshot
        parts = [Subtask(name, part, task, shots) for part in task.parts or [""]]
        if settings.data_dir is not None:
            folder = Path(settings.data_dir)
            parts = [part for part in parts if local_openllm_file(folder, part, part.split) is not None] or parts
        selected += parts
    return selected


def local_openllm_file(folder: Path, subtask: Subtask, split: str) -> Path | None:
    """The path of `<folder>/hellaswag/validation.jsonl`, of val.jsonl instead, or of the authors' file; None if it is missing."""
    names = [f"{split}.jsonl", *(["val.jsonl"] if split == "validation" else [])]
    released = [folder / name.format(part=subtask.part) for name in subtask.spec.released.get(split, [])]
    paths = [*(folder / subtask.folder / name for name in names), *released]
    return next((path for path in paths if path.is_file()), None)
