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
from targen.tasks.task import STRICT

Chance = Annotated[str, Field(pattern=r"^\d+(/[1-9]\d*)?$")]  # 1/4
AS_RELEASED = {"truthfulqa/validation": "mc_task.json"}  # official files with a different name


@checked_dataclass(frozen=True, config=STRICT)
class SuiteTask:
    """One task of a suite: a task of the harness, or several parts that are combined into one score."""

    title: str
    file: str
    shots: Annotated[int, Field(ge=0)]
    metric: str
    folder: str
    split: str
    shown: str | None
    fields: list[str]
    filter: str = "none"
    read: list[str] = field(
        default_factory=list
    )  # the harness's metrics whose mean `metric` is; none: of the same name
    parts: list[str] = field(default_factory=list)
    combine: Literal["mean", "by_size"] = "mean"
    chance: Chance | dict[str, Chance] | None = None  # where the average is that of normalised scores

    @property
    def metrics(self) -> list[str]:
        """The harness's metrics to read: the task's own unless `read` names others."""
        return self.read or [self.metric]

    def normalised(self, value: float, part: str = "") -> float:
        """The score, rescaled so that chance is 0 and a perfect score 1; 0 below chance."""
        chance = self.chance[part] if isinstance(self.chance, dict) else self.chance or "0"
        low = float(Fraction(chance))
        return max(0.0, (value - low) / (1 - low))


@checked_dataclass(frozen=True, config=STRICT)
class Suite:
    """A suite, as conf/openllm/<name>.yaml has it."""

    version: int
    title: str
    tasks: dict[str, SuiteTask]
    base: str | None = None  # a suite whose tasks come before these


@dataclass(frozen=True)
class Piece:
    """What the harness evaluates in one go: a task, or a part of one."""

    task: str
    part: str
    spec: SuiteTask
    shots: int

    @property
    def name(self) -> str:
        """The task, with its part where it has several (MMLU)."""
        return f"{self.task}/{self.part}" if self.part else self.task

    @property
    def file(self) -> str:
        """File with the documents."""
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


def pieces(settings: OpenLLM) -> list[Piece]:
    """The pieces that are evaluated, in the order of the suite. Tasks without examples keep 0 with num_fewshot."""
    if settings.suite is None:
        return []
    selected = []
    for name, task in suite_from_file(settings.suite).tasks.items():
        if settings.tasks is not None and name not in settings.tasks:
            continue
        shots = task.shots if settings.num_fewshot is None or task.shots == 0 else settings.num_fewshot
        selected += [Piece(name, part, task, shots) for part in task.parts or [""]]
    return selected


def local_openllm_file(folder: Path, piece: Piece, split: str) -> Path | None:
    """`<folder>/hellaswag/validation.jsonl`, also val.jsonl; None if it is missing."""
    released = AS_RELEASED.get(f"{piece.folder}/{split}")
    names = [f"{split}.jsonl", *(["val.jsonl"] if split == "validation" else []), *([released] if released else [])]
    return next((path for name in names if (path := folder / piece.folder / name).is_file()), None)
