"""Archives for the SuperGLUE leaderboard, written with eval.submission=true; `python -m eval.submission FILE.zip` checks one.

<run.dir>/submission/<cell>.zip holds the answers of a mixture, or those of all single-task cells of one model, arm and seed;
its name then lists their tasks, as a mixture's does. All rows of the test splits are predicted, whatever eval.max_rows is.
"""

import io
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.scoring.evaluation_rows import EvaluationRows, as_evaluation_rows
from eval.scoring.metric_kinds import Prediction
from eval.scoring.ready_cells import ReadyCell
from eval.submission.archive_format import file_name, file_names, file_problems, leaderboard_label
from targen.config.settings import Settings
from targen.data.original import leaderboard_split
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, dumps
from targen.runtime.progress import Progress
from targen.tasks.task import Task
from train.grid.cells import Cell, mixture_name
from train.runtime.processes import Processes

log = logging.getLogger(__name__)
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file, so that equal answers give equal bytes
Predict = Callable[[ReadyCell, Task, EvaluationRows], list[Prediction]]


def write_archives(
    settings: Settings, processes: Processes, ready: Sequence[ReadyCell], predict: Predict
) -> list[Path]:
    """The paths of the cells' archives. Every process predicts, the first one writes. Raises: UserError without test splits."""
    splits = leaderboard_splits(settings, ready)
    files: dict[str, bytes] = {}  # the lines of each cell and task
    cell_tasks = [(ready_cell, settings.tasks[name]) for ready_cell in ready for name in ready_cell.cell.tasks]
    with Progress("submission", "files", len(cell_tasks) if processes.first else 0) as progress:
        for ready_cell, task in cell_tasks:
            predictions = predict(ready_cell, task, splits[task.name])
            part = ready_cell.cell.predictions_name(task.name)
            lines = official_lines(task, predictions)
            files[part] = "".join(dumps(line) + "\n" for line in lines).encode("ascii")
            if processes.first:
                _warn_of_unreadable(part, task, predictions)
                progress.advance(part)
    if not processes.first:
        return []
    paths = []
    for naming_cell, cells in archive_cells([ready_cell.cell for ready_cell in ready]):
        path = settings.paths.submission(naming_cell.name)
        answers = {
            file_name(settings.tasks[name]): files[cell.predictions_name(name)] for cell in cells for name in cell.tasks
        }
        contents = _added_by_hand(path) | answers
        _write_bytes(path, zip_bytes(contents))
        _warn_of_problems(path, contents)
        paths.append(path)
    return paths


def leaderboard_splits(settings: Settings, ready: Sequence[ReadyCell]) -> dict[str, EvaluationRows]:
    """The whole test split of every task of these cells. Raises: UserError if one is not available."""
    splits = {}
    for name in dict.fromkeys(name for ready_cell in ready for name in ready_cell.cell.tasks):
        task = settings.tasks[name]
        split = leaderboard_split(settings.data, task)
        splits[name] = as_evaluation_rows(task, split, split)
    return splits


def archive_cells(cells: Sequence[Cell]) -> list[tuple[Cell, list[Cell]]]:
    """(the cell that names an archive, the cells in it): a mixture by itself, single-task cells of a model, arm and seed together."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        key = cell if len(cell.tasks) > 1 else replace(cell, task="", tasks=())
        groups.setdefault(key, []).append(cell)
    archives = []
    for key, members in groups.items():
        names = tuple(sorted(name for cell in members for name in cell.tasks))
        naming_cell = key if key.tasks else replace(key, task=mixture_name(names), tasks=names)
        archives.append((naming_cell, members))
    return archives


def zip_bytes(files: dict[str, bytes]) -> bytes:
    """A zip archive; equal files give equal bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, files[name], compresslevel=9)
    return buffer.getvalue()


def official_lines(task: Task, predictions: Sequence[Prediction]) -> list[Json]:
    """The leaderboard's lines; an unreadable answer becomes an empty text, never a class.

    One for each answer, or for each passage with its questions and their answers.
    """
    spelling = {label.name: leaderboard_label(task, label) for label in task.classes}
    answers = [
        (p.groups, {"idx": p.idx, "label": spelling.get(p.prediction or "", p.prediction or "")}) for p in predictions
    ]
    if not task.answer_labels:
        return [answer for _, answer in answers]
    nested: dict[int, dict[int, list[Json]]] = {}
    for (passage, question), answer in answers:
        nested.setdefault(passage, {}).setdefault(question, []).append(answer)
    return [
        {"idx": idx, "passage": {"questions": [{"idx": n, "answers": group} for n, group in questions.items()]}}
        for idx, questions in nested.items()
    ]


def _warn_of_unreadable(part: str, task: Task, predictions: Sequence[Prediction]) -> None:
    if unreadable := sum(prediction.prediction is None for prediction in predictions):
        log.warning(
            "submission: %s: %d of %d answers to %s could not be read and are empty texts, which the leaderboard may refuse. "
            "With eval.scoring=rank every answer is readable",
            part,
            unreadable,
            len(predictions),
            task.folder,
        )


def _added_by_hand(path: Path) -> dict[str, bytes]:
    """The files of an existing archive. Those that this run does not write were added by hand."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in file_names() if name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return {}


def _write_bytes(path: Path, data: bytes) -> None:
    """Writes the whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as err:
        raise UserError(f"{path}: cannot be written ({err.strerror}). Free space or fix it, and start again.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _warn_of_problems(path: Path, files: dict[str, bytes]) -> None:
    """Logs what an archive still lacks, and what the leaderboard would refuse."""
    log.info("submission: wrote %s", path)
    absent = [name for name in file_names() if name not in files]
    if absent:
        log.warning("submission: %s lacks %s: this run does not have their tasks", path.name, ", ".join(absent))
    for name, data in files.items():
        for problem in file_problems(name, data):
            log.warning("submission: %s: %s", path.name, problem)
