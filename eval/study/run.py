"""The whole study: sets, cells, statistics, tables and figures below `<run.dir>/study`."""

import logging
from collections.abc import Mapping, Sequence

from eval.analysis.measures.fidelity import students as students_of
from eval.study.cells import CellLog, cells_of_task
from eval.study.figures import draw
from eval.study.measures import correlations, measured_sets
from eval.study.rows.amounts import SIZES
from eval.study.rows.levels import PARTS, QUANTITY, SHARES, Level, draw_original
from eval.study.rows.material import ORIGINAL, ROWS, Material, check_supported, originals, with_sets
from eval.study.rows.parts import levels
from eval.study.rows.sets import REFERENCE, synthetic_sets
from eval.study.set_tables import complexity_table, measures_table, set_measures_table, sets_table, worth_table
from eval.study.statistics import level_results
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
    without_synthetic = originals(settings)  # before anything is paid for
    sets, missing = synthetic_sets(settings, overrides)
    materials = [with_sets(material, sets[material.task.name]) for material in without_synthetic]
    write_jsonl(folder / "evaluation.jsonl", (_evaluation_json(material) for material in materials))
    by_task: dict[str, list[Level]] = {}
    for material in materials:
        by_task[material.task.name], more_missing = levels(material)
        missing += more_missing
    students = students_of(settings)
    for student in students:
        if isinstance(student, LinearOnEncoder):
            _embed(settings, materials, by_task, student)
    cell_log = CellLog(folder / "cells.jsonl")
    try:
        cells = []
        for material in materials:
            log.info("study: %s: %d levels", material.task.name, len(by_task[material.task.name]))
            cells += cells_of_task(cell_log, material, by_task[material.task.name], students, settings.seeds)
    finally:
        cell_log.close()
    results = level_results(cells, by_task, materials)
    log.info("study: measures of the sets")
    set_measures = measured_sets(folder / "measures.jsonl", settings, materials, students)
    set_correlations, more_missing = correlations(set_measures, results, students)
    tables = [sets_table(materials)]
    for part in PARTS:
        tables.append(part_table(part, results, materials))
        if part == QUANTITY:
            quantity_results = [result for result in results if result.part == QUANTITY]
            tables.append(worth_table(worths(quantity_results, REFERENCE, ORIGINAL, SIZES, ROWS), materials))
    tables += [measures_table(set_correlations), set_measures_table(set_measures, materials)]
    tables.append(complexity_table(results, materials))
    for table in tables:
        write_table(folder, table)
    figures = draw(folder, results, materials)
    text = document("What makes synthetic data good", tables, figures, [*missing, *more_missing])
    write_text(folder / "study.md", text)
    return text


def _evaluation_json(material: Material) -> Json:
    """The rows that are scored: their idx and right labels, in the order of the predictions of a cell."""
    rows = material.evaluation.sample.rows
    return {
        "task": material.task.name,
        "evaluation": material.evaluation.hash,
        "origin": material.evaluation.split.origin,
        "labels": [label.name for label in material.task.labels],
        "idx": [row["idx"] for row in rows],
        "gold": [material.task.gold_option(row) for row in rows],
    }


def _embed(
    settings: Settings, materials: Sequence[Material], by_task: Mapping[str, Sequence[Level]], student: LinearOnEncoder
) -> None:
    """Embeds every text that a cell may need at once, since a start of the encoder takes seconds.

    Texts are embedded in batches, which change the last digits: those that were added to the study later come last.
    """
    first, later = dict[str, None](), dict[str, None]()
    for material in materials:
        count = min(max(SIZES), material.original.size)
        original = [row for seed in settings.seeds for row in draw_original(material, count)(seed, student).rows]
        synthetic = [row for pool in material.sets.values() for row in pool.rows]
        first |= _texts([*material.questions, *instances_of(material.task, [*original, *synthetic])])
        draw_functions = [level.training_rows for level in by_task[material.task.name] if level.part == SHARES]
        shares_rows = [
            row for seed in settings.seeds for draw_rows in draw_functions for row in draw_rows(seed, student).rows
        ]
        later |= _texts(instances_of(material.task, shares_rows))
    for texts in (list(first), list(later)):
        for start in range(0, len(texts), AT_ONCE):
            log.info("study: embeddings, %d of %d texts", start, len(texts))
            student.embed(texts[start : start + AT_ONCE])


def _texts(questions: Sequence[Instance]) -> dict[str, None]:
    return dict.fromkeys(text for question in questions for option in question.options for text in option)
