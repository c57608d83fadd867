"""Archives for the SuperGLUE leaderboard, with eval.submission=true; `python -m eval.submission FILE.zip` checks one.

<run.dir>/submission/<cell>.zip holds the answers of a mixture, or of the single cells of one model, arm and seed together:
the task in the name then says which, as that of a mixture does. All rows of the test splits are asked, whatever eval.max_rows is.
"""

import io
import logging
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.scoring.evaluation_rows import EvaluationRows, as_evaluation_rows
from eval.scoring.metrics import Prediction
from eval.scoring.scores import ReadyCell
from eval.submission.archive_format import MULTIRC, file_name, file_problems, spelled, wanted_names
from targen.config.settings import Settings
from targen.data.original import leaderboard_split
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, dumps
from targen.runtime.progress import Progress
from targen.tasks.task import Task
from train.grid.cells import Cell, mixture_name
from train.runtime.processes import Processes

log = logging.getLogger(__name__)
NO_TASK = ("AX-b.jsonl", MULTIRC)  # that the leaderboard wants and this project has no task for
EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file, so that equal answers are equal bytes
Predict = Callable[[ReadyCell, Task, EvaluationRows], list[Prediction]]


def submit(settings: Settings, processes: Processes, ready: Sequence[ReadyCell], predict: Predict) -> list[Path]:
    """The archives of these cells. Every process predicts, the first one writes. Raises: UserError without test splits."""
    splits = asked_splits(settings, ready)
    files: dict[str, bytes] = {}  # the lines of each cell and task
    asked = [(one, settings.tasks[name]) for one in ready for name in one.cell.tasks]
    with Progress("submission", "files", len(asked) if processes.first else 0) as progress:
        for own, task in asked:
            predictions = predict(own, task, splits[task.name])
            part = own.cell.part(task.name)
            files[part] = "".join(dumps(line) + "\n" for line in official_lines(task, predictions)).encode("ascii")
            if processes.first:
                _tell_unreadable(part, task, predictions)
                progress.advance(part)
    if not processes.first:
        return []
    written = []
    for whole, cells in archives([one.cell for one in ready]):
        path = settings.paths.submission(whole.name)
        parts = {name: files[cell.part(name)] for cell in cells for name in cell.tasks}
        answers = _put_in(path) | {file_name(settings.tasks[name]): data for name, data in parts.items()}
        _write_bytes(path, packed(answers))
        _tell(path, answers)
        written.append(path)
    return written


def asked_splits(settings: Settings, ready: Sequence[ReadyCell]) -> dict[str, EvaluationRows]:
    """The test split of every task of these cells, whole. Raises: UserError where one is not to be had."""
    found = {}
    for task in (settings.tasks[name] for name in dict.fromkeys(name for one in ready for name in one.cell.tasks)):
        split = leaderboard_split(settings.data, task)
        found[task.name] = as_evaluation_rows(task, split, split)
    return found


def archives(cells: Sequence[Cell]) -> list[tuple[Cell, list[Cell]]]:
    """The cells that share an archive, with the cell that names it: a mixture is one alone, those of one task go together."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        key = cell if len(cell.tasks) > 1 else replace(cell, task="", tasks=())
        groups.setdefault(key, []).append(cell)
    found = []
    for key, parts in groups.items():
        names = tuple(sorted(name for cell in parts for name in cell.tasks))
        found.append((key if key.tasks else replace(key, task=mixture_name(names), tasks=names), parts))
    return found


def packed(files: dict[str, bytes]) -> bytes:
    """A zip archive, the same bytes for the same files."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w") as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(info, files[name], compresslevel=9)
    return found.getvalue()


def official_lines(task: Task, predictions: Sequence[Prediction]) -> list[Json]:
    """What the leaderboard takes, a line a row; an unreadable answer is an empty text, never a class."""
    spelling = {label.name: spelled(task, label) for label in task.labels}
    return [
        {"idx": one.idx, "label": "" if one.prediction is None else spelling.get(one.prediction, one.prediction)}
        for one in predictions
    ]


def _tell_unreadable(part: str, task: Task, predictions: Sequence[Prediction]) -> None:
    if unreadable := sum(one.prediction is None for one in predictions):
        log.warning(
            "submission: %s: %d of %d answers to %s could not be read; they stand as empty texts, which the leaderboard may "
            "refuse. eval.scoring=rank always answers",
            part,
            unreadable,
            len(predictions),
            task.folder,
        )


def _put_in(path: Path) -> dict[str, bytes]:
    """Files in the archive that lies there which only a person can have put in."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in NO_TASK if name in archive.namelist()}
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
        raise UserError(f"{path}: cannot be written ({err.strerror}). Make room or mend it, and start again.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _tell(path: Path, answers: dict[str, bytes]) -> None:
    """Says what an archive still lacks."""
    log.info("submission: wrote %s", path)
    lacking = [name for name in wanted_names() if name not in answers]
    if own := [name for name in lacking if name not in NO_TASK]:
        log.warning("submission: %s lacks %s: their tasks are not in this run", path.name, ", ".join(own))
    if foreign := [name for name in lacking if name in NO_TASK]:
        log.warning(
            "submission: the leaderboard also wants %s, which this project has no task for; put them in from elsewhere",
            " and ".join(foreign),
        )
    for problem in [problem for name, data in answers.items() for problem in file_problems(name, data)]:
        log.warning("submission: %s: %s", path.name, problem)
