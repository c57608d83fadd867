"""The tasks of the OpenLLM leaderboard, through lm-evaluation-harness: `eval.openllm.suite=openllm_4`.

What the harness found for a task of a cell is kept in predictions/<cell>.openllm.json as soon as it is there, with all that
it depends on, so that a start that was stopped, or another suite with the same task, does not ask the model again.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.scoring.ready_cells import ReadyCell, cell_columns
from targen.config.openllm import Piece, Suite, SuiteTask, pieces, suite_from_file
from targen.config.required_files import check_openllm_files
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.progress import Progress
from train.grid.cells import Cell
from train.models.loading import Loaded
from train.runtime.processes import Processes

if TYPE_CHECKING:
    from eval.openllm.tasks import Ready

log = logging.getLogger(__name__)
HARNESS = f"lm-eval {metadata.version('lm-eval')}"
INVALID = "[invalid]"  # what the harness's filters make of an answer without a number


def score(
    settings: Settings,
    processes: Processes,
    ready_cells: Sequence[ReadyCell],
    load: Callable[[Cell], Loaded],
) -> list[Json]:
    """Rows of scores.jsonl for every cell; the model as it is (arm none) is scored once, whatever its tasks.

    Raises: UserError where documents are missing or a model cannot be asked; before any model is loaded, where possible.
    """
    from eval.openllm.model import check_vllm
    from eval.openllm.tasks import ready

    openllm = settings.eval.openllm
    assert openllm.suite is not None
    check_openllm_files(settings)
    asked = list(_once(ready_cells))
    check_vllm(settings, [ready_cell.cell for ready_cell in asked])
    tasks = ready(pieces(openllm), openllm.data_dir, openllm.limit)
    for task in tasks:
        if (count := min(task.documents, openllm.limit or task.documents)) < processes.count:
            raise UserError(
                f"eval.openllm.limit: leaves {count} documents of {task.piece.name}, expected one for each of {processes.count} "
                "processes. Start fewer processes."
            )
    rows = []
    with Progress("openllm", "tasks", len(asked) * len(tasks) if processes.first else 0) as progress:
        for ready_cell in asked:
            results = _results(settings, processes, ready_cell, tasks, load, progress)
            rows += _rows(settings, ready_cell, tasks, results)
    return rows


def _once(ready: Sequence[ReadyCell]) -> Iterator[ReadyCell]:
    """The cells without those that are the same untrained model again, for another task or seed."""
    untrained = False
    for ready_cell in ready:
        if ready_cell.cell.trained or not untrained:
            yield ready_cell
        untrained |= not ready_cell.cell.trained


def _results(
    settings: Settings,
    processes: Processes,
    ready: ReadyCell,
    tasks: Sequence["Ready"],
    load: Callable[[Cell], Loaded],
    progress: Progress,
) -> dict[str, Json]:
    """What the harness found for each task of a cell, from disk where it was found before."""
    from eval.openllm.model import asked

    cell = ready.cell
    path = settings.paths.predictions(cell.name).with_suffix(".openllm.json")
    kept = processes.broadcast(_kept(path))
    model = None
    for ready_task in tasks:
        fingerprint = _mark(settings, ready, ready_task)
        key = f"{ready_task.piece.name} {ready_task.piece.shots}-shot"
        if kept.get(key, {}).get("mark") != fingerprint:
            if model is None:
                model = asked(settings, cell, processes, load)
            results = _asked(settings, processes, model, ready_task)
            kept = {**kept, key: {"mark": fingerprint, "found": results}}
            if processes.first:
                write_text(path, json.dumps(kept) + "\n")
        if processes.first:
            progress.advance(f"{cell.name} {ready_task.piece.name}")
    return {
        ready_task.piece.name: kept[f"{ready_task.piece.name} {ready_task.piece.shots}-shot"]["found"]
        for ready_task in tasks
    }


def _kept(path: Path) -> Json:
    return read_json(path) if path.is_file() else {}


def _mark(settings: Settings, ready: ReadyCell, ready_task: "Ready") -> Json:
    """All that a result depends on."""
    from eval.openllm.model import max_length

    fingerprint: Json = {
        "model": ready.fingerprint if ready.cell.trained else {"model": ready.fingerprint["model"]},
        "precision": settings.train.precision,
        "backend": settings.eval.openllm.backend,
        "harness": HARNESS,
        "task_version": ready_task.version,
        "max_length": max_length(settings),
        "documents": ready_task.evaluated,
        "examples": ready_task.shown,
    }
    plain: Json = json.loads(json.dumps(fingerprint))  # as it is when it was read again
    return plain


def _asked(settings: Settings, processes: Processes, model: Any, ready_task: "Ready") -> Json:
    """The harness's result of one task, the same in all processes, each of which asks a share of the documents."""
    from lm_eval.evaluator import evaluate

    from eval.openllm.model import quiet
    from eval.openllm.tasks import SEED

    openllm = settings.eval.openllm
    ready_task.task.set_fewshot_seed(SEED)  # the same examples for every cell, and however often the run was stopped
    try:
        with quiet():
            out = evaluate(model, {"tasks": {ready_task.task.task_name: ready_task.task}}, limit=openllm.limit)
    except AssertionError as err:
        if openllm.max_length is None:
            raise
        raise UserError(
            f"eval.openllm.max_length: got {openllm.max_length}, too few tokens for {ready_task.piece.name} ({err}). Set more, or null."
        ) from None
    cut = None
    if hasattr(model, "cut"):
        cut = sum(processes.gather([len(model.cut)]))
        model.cut.clear()
    results: Json = {}
    if out is not None:  # the harness tells the first process
        results = _found(
            ready_task.piece, out["results"][ready_task.task.task_name], out["samples"][ready_task.task.task_name]
        )
    if cut and processes.first:
        log.warning(
            "openllm: %s: %d prompts were longer than the model reads and lost their beginning",
            ready_task.piece.name,
            cut,
        )
    return {**processes.broadcast(results), "cut": cut}


def _found(piece: Piece, results: Json, samples: Sequence[Json]) -> Json:
    """What is kept of a task's results: the scores with their errors, and those of each document."""
    own = sorted((one for one in samples if one["filter"] == piece.spec.filter), key=lambda one: one["doc_id"])
    values = {key: value for key, value in results.items() if isinstance(value, (int, float)) and "," in key}
    plain = [metric for metric in piece.spec.metrics if all(isinstance(one[metric], (int, float)) for one in own)]
    return {
        "values": {key: float(value) for key, value in values.items()},
        "n": len(own),
        "unparsed": sum(one["filtered_resps"] == [INVALID] for one in own),
        "documents": {metric: [float(one[metric]) for one in own] for metric in plain},
    }


def _rows(settings: Settings, ready_cell: ReadyCell, tasks: Sequence["Ready"], results: dict[str, Json]) -> list[Json]:
    """A row per task, and one for the average of a whole suite with its own numbers of examples."""
    from eval.openllm.tasks import hashed

    openllm = settings.eval.openllm
    assert openllm.suite is not None
    suite = suite_from_file(openllm.suite)
    parts = {name: [ready_cell for ready_cell in tasks if ready_cell.piece.task == name] for name in suite.tasks}
    scored = [_row(name, suite.tasks[name], ready, results, openllm.limit) for name, ready in parts.items() if ready]
    if openllm.tasks is None and openllm.num_fewshot is None:
        scored.append(_average(suite, scored, hashed))
    asked: Json = {"scoring": "harness", "harness": HARNESS, "backend": openllm.backend, "is_fixture": False}
    return [{"benchmark": openllm.suite, **cell_columns(settings, ready_cell), **asked, **row} for row in scored]


def _row(
    name: str, spec: SuiteTask, tasks: Sequence["Ready"], found_by_piece: dict[str, Json], limit: int | None
) -> Json:
    from eval.openllm.tasks import hashed

    first, results = tasks[0], [found_by_piece[ready_task.piece.name] for ready_task in tasks]
    values = [_mean([result["values"][f"{metric},{spec.filter}"] for metric in spec.metrics]) for result in results]
    sizes = [result["n"] for result in results]
    weights = sizes if spec.combine == "by_size" else [1] * len(sizes)
    value = _weighted(values, weights)
    several = f"{len(tasks)} parts, " if len(tasks) > 1 else ""
    part = " of each" if several else ""
    return {
        "task": name,
        "metric": spec.metric,
        "value": value,
        "stderr": _combined([_error(spec, result) for result in results], weights),
        **({} if spec.chance is None else {"normalised": _normalised(spec, tasks, values, value)}),
        "majority": None,
        "shots": first.piece.shots,
        "n": sum(sizes),
        "rows": sum(sizes),
        "rows_in_split": sum(ready_task.documents for ready_task in tasks),
        "unparsed": sum(result["unparsed"] for result in results),
        "cut": sum(result["cut"] or 0 for result in results),
        "split": first.piece.split,
        "origin": f"{spec.title}, {several}{first.origin}" + (f", first {limit} documents{part}" if limit else ""),
        "evaluated": first.evaluated if len(tasks) == 1 else hashed(ready_task.evaluated for ready_task in tasks),
        "task_version": first.version,
    }


def _normalised(spec: SuiteTask, tasks: Sequence["Ready"], values: Sequence[float], value: float) -> float:
    """Part by part where the chance differs between the parts, else of the whole."""
    if not isinstance(spec.chance, dict):
        return spec.normalised(value)
    return _mean([spec.normalised(own, one.piece.part) for own, one in zip(values, tasks, strict=True)])


def _average(suite: Suite, rows: Sequence[Json], hashed: Callable[[Any], str]) -> Json:
    """The mean of the tasks' scores, normalised ones where the suite has these."""
    normalised = any("normalised" in row for row in rows)
    values = [row["normalised"] if normalised else row["value"] for row in rows]
    error = None if normalised else _combined([row["stderr"] for row in rows], [1] * len(rows))
    counts = {name: sum(row[name] for row in rows) for name in ("n", "rows", "rows_in_split", "unparsed", "cut")}
    return {
        "task": "average",
        "metric": "average",
        "value": _mean(values),
        "stderr": error,
        "majority": None,
        "shots": None,
        **counts,
        "split": "all",
        "origin": suite.title + (", normalised" if normalised else "") + _limited(rows),
        "evaluated": hashed(row["evaluated"] for row in rows),
        "task_version": str(suite.version),
    }


def _limited(rows: Sequence[Json]) -> str:
    return ", first documents only" if any(row["rows"] < row["rows_in_split"] for row in rows) else ""


def _error(spec: SuiteTask, result: Json) -> float | None:
    """The harness's standard error; None where the score is made of several metrics."""
    if len(spec.metrics) > 1:
        return None
    error = result["values"].get(f"{spec.metrics[0]}_stderr,{spec.filter}")
    return None if error is None else float(error)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


def _combined(errors: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The standard error of a weighted mean of independent scores; None where one is not known."""
    known = [error for error in errors if error is not None]
    if len(known) < len(errors):
        return None
    return math.sqrt(sum((error * weight) ** 2 for error, weight in zip(known, weights, strict=True))) / sum(weights)
