"""The rows that models were scored on, with what each cell answered, for the page; hostile texts like those of `rows.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.page.rows import Group, groups_within_budget, script_json
from eval.scoring.evaluation_rows import evaluation_rows
from eval.scoring.runs import RunScore
from eval.scoring.scores import SUPERGLUE
from targen.config.arms import ARMS
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.tasks.task import Task

SHARE = 0.25  # of report.rows_megabytes that these rows may take


@dataclass(frozen=True)
class Answers:
    """`data` is JSON that is safe inside a script element; `shown` of `all_rows` rows are on the page."""

    data: str
    shown: int
    all_rows: int


def answers(
    settings: Settings, tasks: Mapping[str, Task], run_scores: Sequence[RunScore], budget: int
) -> tuple[Answers | None, list[str]]:
    """The rows with their answers, a uniform sample if they exceed a share of `budget` bytes, and what is missing; None without any."""
    groups: list[Group] = []
    heads: list[Json] = []
    missing: list[str] = []
    for name, task in tasks.items():
        cells = _cells([run for run in run_scores if (run.score.benchmark, run.score.task) == (SUPERGLUE, name)])
        if not cells:
            continue
        texts, problem = _texts(settings, task, next(iter(cells.values())))
        missing += [f"texts of the evaluation rows of {task.folder}: {problem}"] * bool(problem)
        task_entries: dict[str, Json] = {}
        for column, run_score in enumerate(cells.values()):
            for _, line in (
                read_jsonl(run_score.predictions, surrogates=True) if run_score.predictions.is_file() else ()
            ):
                entry = task_entries.setdefault(
                    str(line["idx"]),
                    {
                        "task": len(heads),
                        "idx": line["idx"],
                        "gold": list(line["gold"]),
                        "texts": texts.get(str(line["idx"]), []),
                    },
                )
                entry.setdefault("given", [None] * len(cells))[column] = [line["prediction"]]
        heads.append({"title": task.folder, "cells": list(cells)})
        groups += [Group(False, f"{name} answer {idx}", (script_json(entry),)) for idx, entry in task_entries.items()]
    if not groups:
        return None, missing
    kept_ids = groups_within_budget(groups, int(SHARE * budget))
    lines = ",\n".join(text for group in groups if id(group) in kept_ids for text in group.entries)
    data = f'{{"tasks": {script_json(heads)}, "entries": [\n{lines}\n]}}'
    return Answers(data, len(kept_ids), len(groups)), missing


def _cells(run_scores: Sequence[RunScore]) -> dict[str, RunScore]:
    """A score of each cell, by how the page calls it: its arm, and its seed if there are several; other settings if they differ."""
    by_cell = {run_score.score.cell: run_score for run_score in run_scores}
    scores = [run_score.score for run_score in by_cell.values()]
    seeds, models = {score.seed for score in scores}, {score.model for score in scores}
    order, names = list(ARMS), dict[str, RunScore]()
    for score in sorted(scores, key=lambda score: (order.index(score.arm), score.seed, score.cell)):
        label = score.arm + f", seed {score.seed}" * (len(seeds) > 1) + f", {score.model}" * (len(models) > 1)
        names[score.cell if label in names else label] = by_cell[score.cell]
    return names


def _texts(settings: Settings, task: Task, run_score: RunScore) -> tuple[dict[str, list[list[str]]], str | None]:
    """The texts of the rows by idx, and why there are none: they cannot be read, or are not those that were scored."""
    try:
        rows = evaluation_rows(settings, task)
    except UserError as err:
        return {}, str(err)
    if rows.hash != run_score.score.evaluated:
        return {}, "the rows are not those that were scored, or other settings choose them. Evaluate again"
    return {
        str(example.id): [[name, str(text)] for name, text in example.fields.items()] for example in rows.examples
    }, None
