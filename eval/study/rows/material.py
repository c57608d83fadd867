"""The rows of a task in a study: those it is scored on, original training rows, and synthetic sets."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from eval.scoring.evaluation_rows import EvaluationRows, evaluation_rows
from eval.study.rows.sets import REFERENCE, SyntheticSet
from targen.config.required_files import has_original_train
from targen.config.settings import Settings
from targen.data.original import original_train_split
from targen.quality.instances import Instance, instances_of
from targen.runtime.errors import UserError
from targen.tasks.single_labels import why_not_single
from targen.tasks.task import Row, Task

ROWS = 200  # of a set that is compared with others, or as many as the smallest has
ORIGINAL = "original"


@dataclass(frozen=True)
class Pool:
    """The rows of a source that may be drawn. Those that equal an evaluation row are left out, and counted."""

    source: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    contexts: tuple[str, ...]  # empty texts where there are none
    labels_before: tuple[str, ...]  # self-correction
    left_out: int
    synthetic_set: SyntheticSet | None = None

    @property
    def size(self) -> int:
        """The number of rows that were made, or that the split has."""
        return len(self.rows) + self.left_out


@dataclass(frozen=True)
class Material:
    """One task of a study. `seed` is the run's master seed."""

    task: Task
    evaluation: EvaluationRows
    questions: tuple[Instance, ...]
    original: Pool
    sets: Mapping[str, Pool]
    seed: int

    @property
    def reference(self) -> Pool | None:
        """The set whose rows are cut, mixed, broken and selected; None if it could not be made."""
        return self.sets.get(REFERENCE)

    @property
    def size(self) -> int:
        """The rows of a draw that is compared with others."""
        return min(ROWS, self.original.size, *(pool.size for pool in self.sets.values()))


def check_supported(settings: Settings) -> None:
    """Raises: UserError for a task that cannot be studied, before anything is made."""
    problems = []
    for task in settings.tasks.values():
        if (why := why_not_single(task)) is not None:
            expected = "tasks of single rows" if task.labels and task.choices == "labels" else "tasks with labels"
            problems.append(f"task: got {task.name}, {why}, expected {expected}. Leave it out: task=[...].")
        elif not has_original_train(settings, task):
            problems.append(
                f"data.source: got {settings.data.source_of(task)}, which has no training rows of {task.name}, expected original "
                f"rows to compare with. Name a folder that has {task.folder}/train.jsonl: data.source=local data.dir=..."
            )
    if problems:
        raise UserError("\n".join(problems))


def originals(settings: Settings) -> list[Material]:
    """The tasks of the study, without sets yet. Raises: UserError if original rows are missing, or a label has none."""
    return [_original(settings, task) for task in settings.tasks.values()]


def _original(settings: Settings, task: Task) -> Material:
    evaluation = evaluation_rows(settings, task)
    split = original_train_split(settings.data, task)
    if split is None:
        raise UserError(
            f"data.source: got no training rows of {task.name}, expected original rows to compare with. Set data.source=local "
            "data.dir=..."
        )
    original = _pool(task, ORIGINAL, split.rows, _evaluation_keys(task, evaluation))
    _check_labels(task, original)
    return Material(task, evaluation, tuple(instances_of(task, evaluation.sample.rows)), original, {}, settings.seed)


def with_sets(material: Material, sets: Mapping[str, SyntheticSet]) -> Material:
    """The task with its synthetic sets, by method. Raises: UserError if a label has no rows in one."""
    evaluation_keys = _evaluation_keys(material.task, material.evaluation)
    pools = {
        method: _pool_of_set(material.task, synthetic_set, evaluation_keys) for method, synthetic_set in sets.items()
    }
    for pool in pools.values():
        _check_labels(material.task, pool)
    return replace(material, sets=pools)


def _evaluation_keys(task: Task, evaluation: EvaluationRows) -> set[str]:
    return {task.duplicate_key(row) for row in evaluation.split.rows}


def _pool(task: Task, source: str, rows: Sequence[Row], evaluation_keys: Collection[str]) -> Pool:
    kept = tuple(row for row in rows if task.duplicate_key(row) not in evaluation_keys)
    labels = tuple(task.gold_option(row) for row in kept)
    return Pool(source, kept, labels, ("",) * len(kept), labels, len(rows) - len(kept))


def _pool_of_set(task: Task, synthetic_set: SyntheticSet, evaluation_keys: Collection[str]) -> Pool:
    pairs = [
        (row, story)
        for row, story in zip(synthetic_set.rows, synthetic_set.stories, strict=True)
        if task.duplicate_key(row) not in evaluation_keys
    ]
    rows = tuple(row for row, _ in pairs)
    return Pool(
        synthetic_set.method,
        rows,
        tuple(task.gold_option(row) for row in rows),
        tuple(story.get("context") or "" for _, story in pairs),
        tuple(story["label_before"] for _, story in pairs),
        len(synthetic_set.rows) - len(rows),
        synthetic_set,
    )


def _check_labels(task: Task, pool: Pool) -> None:
    counts = Counter(pool.labels)
    if lacking := [label.name for label in task.labels if not counts[label.name]]:
        where = "data.dir: the train split" if pool.synthetic_set is None else f"method={pool.source}: the set"
        raise UserError(
            f"{where} of {task.name}: got no row of {', '.join(lacking)}, expected rows of every label. Add some, or leave the "
            "task out: task=[...]."
        )
