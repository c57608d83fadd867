"""The tasks of the OpenLLM leaderboard, through lm-evaluation-harness: `eval.openllm.suite=openllm_4`.

The harness's results for a subtask of a cell are saved in predictions/<cell>.openllm.json as they arrive, with everything they
depend on. So neither a restart nor another suite with the same task computes them again.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

from lm_eval.api.metrics import aggregate_subtask_metrics
from lm_eval.evaluator import evaluate

from eval.openllm.harness_output import quiet, warnings_once
from eval.openllm.model import check_vllm, harness_model, max_length
from eval.openllm.tasks import SEED, HarnessTask, documents_hash, harness_tasks
from eval.scoring.ready_cells import ReadyCell, cell_columns
from targen.config.openllm import Subtask, Suite, SuiteTask, subtasks, suite_from_file
from targen.config.required_files import check_openllm_files
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, write_text
from targen.runtime.progress import Progress
from train.grid.cells import Cell
from train.models.loading import Loaded
from train.runtime.processes import Processes

log = logging.getLogger(__name__)
HARNESS = f"lm-eval {metadata.version('lm-eval')}"
MOST_NAMED = 3  # parts of a task that are named where some are missing
INVALID = "[invalid]"  # what the harness's filters make of an answer without a number


def score(
    settings: Settings, processes: Processes, ready_cells: Sequence[ReadyCell], load: Callable[[Cell], Loaded]
) -> list[Json]:
    """Rows of scores.jsonl for every cell. A model without finetuning (arm none) is scored once, whatever its tasks and seed.

    Raises: UserError if documents are missing or a model cannot be scored; if possible before any model is loaded.
    """
    openllm = settings.eval.openllm
    check_openllm_files(settings)
    distinct_cells = list(_without_repeats(ready_cells))
    check_vllm(settings, [ready.cell for ready in distinct_cells])
    tasks = harness_tasks(subtasks(openllm), openllm.data_dir, openllm.limit)
    if processes.first:
        _warn_of_missing_parts(tasks)
    for task in tasks:
        if (count := min(task.documents, openllm.limit or task.documents)) < processes.count:
            raise UserError(
                f"eval.openllm.limit: leaves {count} documents of {task.subtask.name}, expected one for each of {processes.count} "
                "processes. Start fewer processes."
            )
    rows = []
    with Progress("openllm", "tasks", len(distinct_cells) * len(tasks) if processes.first else 0) as progress:
        for ready in distinct_cells:
            results = _results(settings, processes, ready, tasks, load, progress)
            rows += _rows(settings, ready, tasks, results)
    return rows


def _warn_of_missing_parts(tasks: Sequence[HarnessTask]) -> None:
    by_task: dict[str, list[HarnessTask]] = {}
    for task in tasks:
        by_task.setdefault(task.subtask.task, []).append(task)
    for name, parts in by_task.items():
        spec = parts[0].subtask.spec
        if len(parts) < len(spec.parts):
            log.warning(
                "openllm: %s is scored on %s, since there are no files of the others; no average",
                name,
                _parts_text(spec, parts),
            )


def _without_repeats(ready_cells: Sequence[ReadyCell]) -> Iterator[ReadyCell]:
    """The cells, with one of those without finetuning: they are the same model, whatever their task and seed."""
    seen_untrained = False
    for ready in ready_cells:
        if ready.cell.trained or not seen_untrained:
            yield ready
        seen_untrained |= not ready.cell.trained


def _results(
    settings: Settings,
    processes: Processes,
    ready: ReadyCell,
    tasks: Sequence[HarnessTask],
    load: Callable[[Cell], Loaded],
    progress: Progress,
) -> dict[str, Json]:
    """The harness's results by subtask: from disk if they are there, else computed and saved."""
    path = settings.paths.predictions(ready.cell.name).with_suffix(".openllm.json")
    saved = processes.broadcast(read_json(path) if path.is_file() else {})
    results, model = {}, None
    for task in tasks:
        fingerprint = _fingerprint(settings, ready, task)
        key = f"{task.subtask.name} {task.subtask.shots}-shot"
        if saved.get(key, {}).get("mark") != fingerprint:
            if model is None:
                model = harness_model(settings, ready.cell, processes, load)
            saved[key] = {"mark": fingerprint, "found": _evaluate_task(settings, processes, model, task)}
            if processes.first:
                write_text(path, json.dumps(saved) + "\n")
        results[task.subtask.name] = saved[key]["found"]
        if processes.first:
            progress.advance(f"{ready.cell.name} {task.subtask.name}")
    return results


def _fingerprint(settings: Settings, ready: ReadyCell, task: HarnessTask) -> Json:
    """Everything that a result depends on, as it is read back from JSON."""
    fingerprint = {
        "model": ready.fingerprint if ready.cell.trained else {"model": ready.fingerprint["model"]},
        "precision": settings.train.precision,
        "backend": settings.eval.openllm.backend,
        "harness": HARNESS,
        "task_version": task.version,
        "max_length": max_length(settings),
        "documents": task.evaluated,
        "examples": task.example_pool,
    }
    as_saved: Json = json.loads(json.dumps(fingerprint))
    return as_saved


def _evaluate_task(settings: Settings, processes: Processes, model: Any, task: HarnessTask) -> Json:
    """The harness's result for one task, the same in all processes, each of which computes a share of the documents."""
    openllm, name = settings.eval.openllm, task.task.task_name
    task.task.set_fewshot_seed(SEED)  # the same examples for every cell, however often the run was stopped
    try:
        with quiet(), warnings_once(task.subtask.name):
            output = evaluate(model, {"tasks": {name: task.task}}, limit=openllm.limit)
    except AssertionError as err:
        if openllm.max_length is None:
            raise
        raise UserError(
            f"eval.openllm.max_length: got {openllm.max_length}, too few tokens for {task.subtask.name} ({err}). Set more, or null."
        ) from None
    cut = None
    if hasattr(model, "cut"):
        cut = sum(processes.gather([len(model.cut)]))
        model.cut.clear()
    result: Json = {}
    if output is not None:  # only the first process has it
        result = _as_saved(task.subtask, output["results"][name], output["samples"][name])
    if cut and processes.first:
        log.warning(
            "openllm: %s: %d prompts were longer than the model's input and lost their beginning",
            task.subtask.name,
            cut,
        )
    return {**processes.broadcast(result), "cut": cut}


def _as_saved(subtask: Subtask, results: Json, samples: Sequence[Json]) -> Json:
    """The results of a subtask to be saved: the scores with their errors, and those of each document."""
    documents = sorted((s for s in samples if s["filter"] == subtask.spec.filter), key=lambda s: s["doc_id"])
    values = {key: value for key, value in results.items() if isinstance(value, (int, float)) and "," in key}
    metrics = [m for m in subtask.spec.metrics if all(isinstance(document[m], (int, float)) for document in documents)]
    return {
        "values": {key: float(value) for key, value in values.items()},
        "n": len(documents),
        "unparsed": sum(document["filtered_resps"] == [INVALID] for document in documents),
        "documents": {metric: [float(document[metric]) for document in documents] for metric in metrics},
    }


def _rows(settings: Settings, ready: ReadyCell, tasks: Sequence[HarnessTask], results: dict[str, Json]) -> list[Json]:
    """A row for each task, and one for the average if the whole suite was run, all parts with its own numbers of examples."""
    openllm = settings.eval.openllm
    assert openllm.suite is not None
    suite = suite_from_file(openllm.suite)
    by_name = {name: [task for task in tasks if task.subtask.task == name] for name in suite.tasks}
    rows = [_row(name, suite.tasks[name], parts, results, openllm.limit) for name, parts in by_name.items() if parts]
    is_complete = all(len(parts) == max(1, len(suite.tasks[name].parts)) for name, parts in by_name.items())
    if openllm.tasks is None and openllm.num_fewshot is None and is_complete:
        rows.append(_average(suite, rows))
    columns: Json = {"scoring": "harness", "harness": HARNESS, "backend": openllm.backend, "is_fixture": False}
    return [{"benchmark": openllm.suite, **cell_columns(settings, ready), **columns, **row} for row in rows]


def _row(
    name: str, spec: SuiteTask, parts: Sequence[HarnessTask], by_subtask: dict[str, Json], limit: int | None
) -> Json:
    first_part, results = parts[0], [by_subtask[part.subtask.name] for part in parts]
    values = [_mean([result["values"][f"{metric},{spec.filter}"] for metric in spec.metrics]) for result in results]
    sizes = [result["n"] for result in results]
    weights = sizes if spec.combine == "by_size" else [1] * len(sizes)
    value = aggregate_subtask_metrics(values, weights)
    part_names = f"{_parts_text(spec, parts)}, " if spec.parts else ""
    limited = f", first {limit} documents{' of each' if part_names else ''}" if limit else ""
    return {
        "task": name,
        "metric": spec.metric,
        "value": value,
        "stderr": _combined_error([_error(spec, result) for result in results], weights),
        **({} if spec.chance is None else {"normalised": _normalised(spec, parts, values, value)}),
        "majority": None,
        "shots": first_part.subtask.shots,
        "n": sum(sizes),
        "rows": sum(sizes),
        "rows_in_split": sum(part.documents for part in parts),
        "unparsed": sum(result["unparsed"] for result in results),
        "cut": sum(result["cut"] or 0 for result in results),
        "split": first_part.subtask.split,
        "origin": f"{spec.title}, {part_names}{first_part.origin}{limited}",
        "evaluated": first_part.evaluated if len(parts) == 1 else documents_hash(part.evaluated for part in parts),
        "task_version": first_part.version,
    }


def _parts_text(spec: SuiteTask, parts: Sequence[HarnessTask]) -> str:
    """How many parts a score is of: `57 parts`, `2 of 57 parts (anatomy, virology)`."""
    names = [part.subtask.part for part in parts]
    if len(names) == len(spec.parts):
        return f"{len(names)} parts"
    listed = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"{len(names)} of {len(spec.parts)} parts ({listed})"


def _normalised(spec: SuiteTask, parts: Sequence[HarnessTask], values: Sequence[float], value: float) -> float:
    """The score above chance: of each part if they differ in chance, else of the whole."""
    if not isinstance(spec.chance, dict):
        return spec.normalised(value)
    return _mean(
        [spec.normalised(part_value, part.subtask.part) for part_value, part in zip(values, parts, strict=True)]
    )


def _average(suite: Suite, rows: Sequence[Json]) -> Json:
    """The row of the mean over the tasks, of normalised scores if the suite has them."""
    normalised = any("normalised" in row for row in rows)
    values = [row["normalised"] if normalised else row["value"] for row in rows]
    error = None if normalised else _combined_error([row["stderr"] for row in rows], [1] * len(rows))
    counts = {name: sum(row[name] for row in rows) for name in ("n", "rows", "rows_in_split", "unparsed", "cut")}
    limited = ", first documents only" if any(row["rows"] < row["rows_in_split"] for row in rows) else ""
    return {
        "task": "average",
        "metric": "average",
        "value": _mean(values),
        "stderr": error,
        "majority": None,
        "shots": None,
        **counts,
        "split": "all",
        "origin": suite.title + (", normalised" if normalised else "") + limited,
        "evaluated": documents_hash(row["evaluated"] for row in rows),
        "task_version": str(suite.version),
    }


def _error(spec: SuiteTask, result: Json) -> float | None:
    """The harness's standard error; None if the score is a mean of several metrics."""
    if len(spec.metrics) > 1:
        return None
    error = result["values"].get(f"{spec.metrics[0]}_stderr,{spec.filter}")
    return None if error is None else float(error)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _combined_error(errors: Sequence[float | None], weights: Sequence[float]) -> float | None:
    """The standard error of a weighted mean of independent scores; None if one is unknown.

    The harness's own `pooled_sample_stderr` is for parts of one sample, so it does not apply here.
    """
    squares = [(error * weight) ** 2 for error, weight in zip(errors, weights, strict=True) if error is not None]
    return math.sqrt(sum(squares)) / sum(weights) if len(squares) == len(errors) else None
