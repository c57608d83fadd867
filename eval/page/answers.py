"""The rows that models were scored on, with what each cell answered, for the page; hostile texts like those of `rows.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eval.page.rows import Group, script_json, within
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
        cells = _cells([each for each in run_scores if (each.score.benchmark, each.score.task) == (SUPERGLUE, name)])
        if not cells:
            continue
        texts, problem = _texts(settings, task, next(iter(cells.values())))
        missing += [f"texts of the evaluation rows of {task.folder}: {problem}"] * bool(problem)
        found: dict[str, Json] = {}
        for column, each in enumerate(cells.values()):
            for _, line in read_jsonl(each.predictions, halves=True) if each.predictions.is_file() else ():
                entry = found.setdefault(
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
        groups += [Group(False, f"{name} answer {idx}", (script_json(entry),)) for idx, entry in found.items()]
    if not groups:
        return None, missing
    kept = within(groups, int(SHARE * budget))
    lines = ",\n".join(text for group in groups if id(group) in kept for text in group.entries)
    data = f'{{"tasks": {script_json(heads)}, "entries": [\n{lines}\n]}}'
    return Answers(data, len(kept), len(groups)), missing


def _cells(run_scores: Sequence[RunScore]) -> dict[str, RunScore]:
    """A score of each cell, by how the page calls it: its arm, and its seed if there are several; other settings if they differ."""
    order = list(ARMS)
    ordered = sorted(run_scores, key=lambda each: (order.index(each.score.arm), each.score.seed, each.score.cell))
    one = {each.score.cell: each for each in ordered}
    seeds, kinds = {each.score.seed for each in ordered}, {each.score.model for each in ordered}
    names = {}
    for cell, each in one.items():
        score = each.score
        short = score.arm + f", seed {score.seed}" * (len(seeds) > 1) + f", {score.model}" * (len(kinds) > 1)
        names[cell if short in names else short] = each
    return names


def _texts(settings: Settings, task: Task, each: RunScore) -> tuple[dict[str, list[list[str]]], str | None]:
    """The texts of the rows by idx, and why there are none: they cannot be read, or are not those that were scored."""
    try:
        rows = evaluation_rows(settings, task)
    except UserError as err:
        return {}, str(err)
    if rows.hash != each.score.evaluated:
        return {}, "the rows are not those that were scored, or other settings choose them. Evaluate again"
    return {
        str(example.id): [[name, str(text)] for name, text in example.fields.items()] for example in rows.examples
    }, None
