"""The best synthetic rows of a cell, which train.select_rows keeps. They are chosen once, before the cell is trained, and listed in
models/<cell>/selected_rows.jsonl, each row with its score: `{"task": "sst2", "idx": 3, "label": "positive", "score": 0.93, "kept": true,
"taught": 48}`. `taught` is how many original rows the checker was taught.

The criteria and students are those of the study (targen/quality/selection.py).
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from targen.config.settings import Settings
from targen.data.arm_sizes import selected_count
from targen.quality.available import check_students, students_named
from targen.quality.instances import Instance, instances_of
from targen.quality.selection import checker_probabilities, held_out_probabilities, without_lowest
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl, write_jsonl
from targen.runtime.randomness import rng
from targen.tasks.task import Task
from train.grid.cells import Cell, read_done_marker, trained_cells
from train.grid.rows import Selection, TaskRows, drawn_original_rows
from train.models.checkpoints import SELECTED_ROWS, complete_checkpoints

log = logging.getLogger(__name__)
STUDENT = "train.select_student"
KEYS = ("task", "idx", "label", "score", "kept", "taught")  # of a line
Choose = Callable[[Task, TaskRows], TaskRows | None]  # the task, its synthetic rows; None: there are no original rows


def check_selection(settings: Settings) -> None:
    """Raises: UserError if the student of train.select_student cannot be taught here."""
    if settings.train.select_rows is not None:
        check_students([settings.train.select_student], STUDENT)


def first_kept_rows(settings: Settings, task: Task, source: TaskRows) -> TaskRows:
    """As many rows as would be kept, the first ones: to count them. Raises: UserError if none is kept."""
    return source.at(range(kept_count(settings, task, source.count)))


def kept_count(settings: Settings, task: Task, count: int) -> int:
    """How many of so many synthetic rows of the task are kept. Raises: UserError if none is."""
    train, kept = settings.train, selected_count(settings.train, count)
    if train.select_rows is not None and not kept:
        raise UserError(
            f"train.select_share: got {train.select_share:g}, which keeps none of the {count} rows of {task.name}. Set a larger share."
        )
    return kept


def select_rows(settings: Settings, cell: Cell, task: Task, source: TaskRows) -> TaskRows | None:
    """The share train.select_share of the rows that have the highest scores, in their order; all without train.select_rows. A
    plan takes the first rows until they are chosen. None: the checker needs original rows, and these are not available.

    Raises: UserError if rows cannot be scored, or none is kept.
    """
    train = settings.train
    if train.select_rows is None:
        return source
    lines = _recorded_lines(settings, cell, source)
    if lines is None:
        checker_rows = None
        if train.select_rows == "checker":
            draws = rng(cell.seed, task.name, "checker")  # the same rows as a checker of train.loss
            checker_rows = drawn_original_rows(settings, task, train.checker_rows, draws)
            if checker_rows is None:
                return None
        if settings.plan:
            return first_kept_rows(settings, task, source)
        lines = _new_lines(settings, source, checker_rows, _scores(settings, source, checker_rows, cell.seed))
    kept = source.at([position for position, line in enumerate(lines) if line["kept"]])
    return replace(kept, selection=Selection(tuple(lines), lines[0]["taught"]))


def _recorded_lines(settings: Settings, cell: Cell, source: TaskRows) -> list[Json] | None:
    """The lines of these rows in the cell's list; None if it is missing or damaged, so that it is made anew."""
    path = settings.paths.model(cell.name) / SELECTED_ROWS
    if not path.is_file():
        return None
    lines = [line for _, line in read_jsonl(path) if line.get("task") == source.task.name]
    is_whole = all(line.keys() >= {*KEYS} for line in lines) and (
        [line["idx"] for line in lines] == [row["idx"] for row in source.rows]
        and sum(line["kept"] is True for line in lines) == kept_count(settings, source.task, source.count)
    )
    return lines if is_whole else None


def _scores(settings: Settings, source: TaskRows, checker_rows: TaskRows | None, seed: int) -> list[float]:
    """The probability of each row's label by the checker that was taught original rows, or without these the row's PVI in bits."""
    task, train = source.task, settings.train
    instances = instances_of(task, source.rows)
    train_instances = [] if checker_rows is None else instances_of(checker_rows.task, checker_rows.rows)
    if checker_rows is None and len(instances) < 2:
        raise UserError(
            f"train.select_rows: got pvi with {len(instances)} synthetic rows of {task.name}, expected two at least. Make more."
        )
    if checker_rows is not None and (lacking := _missing_labels(task, instances, train_instances)):
        raise UserError(
            f"train.checker_rows: got {train.checker_rows}, of which {checker_rows.count} rows of {checker_rows.task.name} were drawn and none "
            f"of {lacking}, expected rows of every label. Set a larger number, or train.select_rows=pvi."
        )
    options = [option for instance in (*train_instances, *instances) for option in instance.options]
    texts = list(dict.fromkeys(text for option in options for text in option))
    (student,) = students_named([train.select_student], texts, settings.paths.embeddings, STUDENT)
    if checker_rows is not None:
        return checker_probabilities(train_instances, instances, student)
    draws = rng(seed, task.name, "selected rows", "folds")
    return [
        label.pvi for label in held_out_probabilities(task, source.rows, _contexts(settings, source), student, draws)
    ]


def _contexts(settings: Settings, source: TaskRows) -> list[str | None]:
    """The context of each row as far as its provenance says."""
    path = settings.paths.synthetic(source.task.name) / "provenance.jsonl"
    by_idx = {story["idx"]: story.get("context") for _, story in read_jsonl(path)} if path.is_file() else {}
    return [by_idx.get(row["idx"]) for row in source.rows]


def _missing_labels(task: Task, instances: Sequence[Instance], train_instances: Sequence[Instance]) -> str:
    """The labels of the instances that none of the training instances has."""
    golds = {instance.gold[0] for instance in instances} - {instance.gold[0] for instance in train_instances}
    return ", ".join(task.labels[gold].name for gold in sorted(golds))


def _new_lines(
    settings: Settings, source: TaskRows, checker_rows: TaskRows | None, scores: Sequence[float]
) -> list[Json]:
    """A line for each row. Raises: UserError if no row is kept."""
    task = source.task
    kept_count(settings, task, len(scores))
    kept = set(without_lowest(range(len(scores)), scores, 1 - settings.train.select_share))
    count = 0 if checker_rows is None else checker_rows.count
    lines = []
    for position, (row, score) in enumerate(zip(source.rows, scores, strict=True)):
        line = (task.name, row["idx"], task.gold_option(row), round(score, 6), position in kept, count)
        lines.append(dict(zip(KEYS, line, strict=True)))
    return lines


def forget_selections(settings: Settings) -> None:
    """Removes the lists of rows that no training has begun with; rows and settings may have changed since."""
    for cell in trained_cells(settings):
        folder = settings.paths.model(cell.name)
        if read_done_marker(settings.paths, cell) is None and not complete_checkpoints(folder):
            (folder / SELECTED_ROWS).unlink(missing_ok=True)


def write_selection(settings: Settings, cell: Cell, sources: Sequence[TaskRows]) -> None:
    """Writes the list of a cell's rows where there is none or another one, and logs how many of each label were kept.

    A label without any is a warning.
    """
    by_source = [source.selection.lines for source in sources if source.selection is not None]
    path, used = settings.paths.model(cell.name) / SELECTED_ROWS, [line for lines in by_source for line in lines]
    if not used or (path.is_file() and [line for _, line in read_jsonl(path)] == used):
        return
    write_jsonl(path, used)
    for lines in by_source:
        totals = Counter(line["label"] for line in lines)
        kept = Counter(line["label"] for line in lines if line["kept"])
        of_labels = ", ".join(f"{name} {kept[name]} of {count}" for name, count in sorted(totals.items()))
        log.info(
            "train: %s: %d of %d synthetic rows of %s are kept by %s (%s)",
            cell.name, kept.total(), totals.total(), lines[0]["task"], settings.train.select_rows, of_labels,
        )  # fmt: skip
        if lost := sorted(totals.keys() - kept.keys()):
            log.warning(
                "train: %s: no row of %s is kept: the model learns nothing of it. See train.select_share",
                cell.name,
                ", ".join(lost),
            )
