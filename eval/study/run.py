"""The whole study: sets, cells, statistics, tables and figures below `<run.dir>/study`."""

import logging
from collections.abc import Mapping, Sequence

from eval.analysis.measures.fidelity import students as students_of
from eval.study.cells import CellLog, computed
from eval.study.figures import draw
from eval.study.measures import correlations, measured_sets
from eval.study.rows.amounts import SIZES
from eval.study.rows.levels import PARTS, QUANTITY, SHARES, Level, of_original
from eval.study.rows.material import ORIGINAL, ROWS, Material, check_supported, originals, with_sets
from eval.study.rows.parts import levels
from eval.study.rows.sets import REFERENCE, made_sets
from eval.study.set_tables import complexity_table, measures_table, set_measures_table, sets_table, worth_table
from eval.study.statistics import scored
from eval.study.tables import document, part_table
from eval.study.worth import worths
from eval.tables.formats import write_table
from targen.config.settings import Settings
from targen.quality.instances import Instance, instances_of
from targen.quality.students import LinearOnEncoder
from targen.runtime.jsonl import Json, write_jsonl, write_text

log = logging.getLogger(__name__)
AT_ONCE = 2000  # texts that are embedded between two saves


def study(settings: Settings, overrides: Sequence[str]) -> str:
    """Computes what is missing and writes everything; the document. `overrides` are those of the command line.

    Raises: UserError with what cannot be studied.
    """
    check_supported(settings)
    folder = settings.paths.root / "study"
    without_sets = originals(settings)  # before anything is paid for
    sets, missing = made_sets(settings, overrides)
    tasks = [with_sets(given, sets[given.task.name]) for given in without_sets]
    write_jsonl(folder / "evaluation.jsonl", (_evaluated(given) for given in tasks))
    by_task: dict[str, list[Level]] = {}
    for given in tasks:
        by_task[given.task.name], more = levels(given)
        missing += more
    students = students_of(settings)
    for student in students:
        if isinstance(student, LinearOnEncoder):
            _embed(settings, tasks, by_task, student)
    cell_log = CellLog(folder / "cells.jsonl")
    try:
        cells = []
        for given in tasks:
            log.info("study: %s: %d levels", given.task.name, len(by_task[given.task.name]))
            cells += computed(cell_log, given, by_task[given.task.name], students, settings.seeds)
    finally:
        cell_log.close()
    found = scored(cells, by_task, tasks)
    log.info("study: measures of the sets")
    measured = measured_sets(folder / "measures.jsonl", settings, tasks, students)
    related, more = correlations(measured, found, students)
    tables = [sets_table(tasks)]
    for part in PARTS:
        tables.append(part_table(part, found, tasks))
        if part == QUANTITY:
            of_part = [one for one in found if one.part == QUANTITY]
            tables.append(worth_table(worths(of_part, REFERENCE, ORIGINAL, SIZES, ROWS), tasks))
    tables += [measures_table(related), set_measures_table(measured, tasks), complexity_table(found, tasks)]
    for table in tables:
        write_table(folder, table)
    text = document("What makes synthetic data good", tables, draw(folder, found, tasks), [*missing, *more])
    write_text(folder / "study.md", text)
    return text


def _evaluated(given: Material) -> Json:
    """The rows that are scored: their idx and right labels, in the order of the predictions of a cell."""
    rows = given.evaluation.sample.rows
    return {
        "task": given.task.name,
        "evaluation": given.evaluation.hash,
        "origin": given.evaluation.split.origin,
        "labels": [label.name for label in given.task.labels],
        "idx": [row["idx"] for row in rows],
        "gold": [given.task.gold_option(row) for row in rows],
    }


def _embed(
    settings: Settings, tasks: Sequence[Material], by_task: Mapping[str, Sequence[Level]], student: LinearOnEncoder
) -> None:
    """Embeds every text that a cell may need at once, since a start of the encoder takes seconds.

    Texts are embedded in batches, which change the last digits: those that were added to the study later come last.
    """
    first, later = dict[str, None](), dict[str, None]()
    for given in tasks:
        most = min(max(SIZES), given.original.size)
        drawn = [row for seed in settings.seeds for row in of_original(given, most)(seed, student).rows]
        made = [row for pool in given.sets.values() for row in pool.rows]
        first |= _texts([*given.asked, *instances_of(given.task, [*drawn, *made])])
        of_shares = [level.taught for level in by_task[given.task.name] if level.part == SHARES]
        shared = [row for seed in settings.seeds for taught in of_shares for row in taught(seed, student).rows]
        later |= _texts(instances_of(given.task, shared))
    for listed in (list(first), list(later)):
        for start in range(0, len(listed), AT_ONCE):
            log.info("study: embeddings, %d of %d texts", start, len(listed))
            student.embed(listed[start : start + AT_ONCE])


def _texts(questions: Sequence[Instance]) -> dict[str, None]:
    return dict.fromkeys(text for asked in questions for option in asked.options for text in option)
