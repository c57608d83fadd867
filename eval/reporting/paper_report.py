"""Tables and figures of one run or of several, from their scores and predictions and from results/paper.yaml."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.runs import RunScore
from eval.statistics.comparison_groups import AXES
from eval.statistics.prediction_cache import PredictionCache
from eval.statistics.significance import ScoreStatistics
from eval.tables.comparison_tables import ComparisonTable, comparison_tables, sentences, table_of
from eval.tables.curves import MIXING, SIZES, Curve, curve_table, curves
from eval.tables.formats import SUFFIXES, Table, write_table

log = logging.getLogger(__name__)
MAIN = "original_vs_synthetic"  # the table that is drawn


@dataclass(frozen=True)
class PaperReport:
    """What the results say, before it is written."""

    tables: tuple[ComparisonTable, ...]
    curves: dict[str, list[Curve]]

    def as_set(self) -> list[Table]:
        """Every table that has content, as it is written."""
        tables = [table_of(found) for found in self.tables]
        return [*tables, *(curve_table(kind, found) for kind, found in self.curves.items() if found)]

    def sentences(self) -> dict[str, list[str]]:
        """What every comparison says, by the title of its table."""
        found = {table.axis.title: list(sentences(table)) for table in self.tables}
        return {title: own for title, own in found.items() if own}


def paper_report(results: Sequence[RunScore], tasks: Sequence[str]) -> PaperReport:
    """Everything that the results say. Raises: UserError where results do not go together."""
    statistics = ScoreStatistics(PredictionCache())
    tables = comparison_tables(results, tasks, statistics)
    return PaperReport(tuple(tables), {kind: curves(kind, results, statistics) for kind in (SIZES, MIXING)})


def write_tables(folder: Path, report: PaperReport) -> list[str]:
    """<folder>/<name>.{md,tex,csv} of every table that has content; those of earlier results are removed. Their names."""
    tables = report.as_set()
    for table in tables:
        write_table(folder, table)
    names = [table.name for table in tables]
    for name in {*(axis.name for axis in AXES), SIZES, MIXING} - set(names):
        for suffix in SUFFIXES:
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return names


def write_figures(folder: Path, report: PaperReport) -> list[str]:
    """<folder>/<name>.{pdf,png} of every figure that has content; their names. matplotlib is imported only here."""
    from eval.figures.figures import draw

    main = next((found for found in report.tables if found.axis.name == MAIN), None)
    return draw(folder, main, report.curves)
