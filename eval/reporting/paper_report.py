"""Tables and figures of one run or of several, from their scores and predictions and from results/paper.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.figures.figures import draw
from eval.scoring.runs import RunScore
from eval.statistics.axes import AXES, MAIN
from eval.statistics.prediction_cache import PredictionCache
from eval.statistics.significance import ScoreStatistics
from eval.tables.comparison_tables import ComparisonTable, comparison_tables
from eval.tables.curves import MIXING, SIZES, Curve, curve_table, curves
from eval.tables.formats import SUFFIXES, Table, write_table
from eval.tables.layout import layout, sentences
from targen.tasks.task import Task


@dataclass(frozen=True)
class PaperReport:
    """The comparisons and curves of the scores, before they are laid out as tables and figures."""

    comparisons: tuple[ComparisonTable, ...]
    curves: dict[str, list[Curve]]

    @property
    def main(self) -> ComparisonTable | None:
        """The comparison in the figures and at the top of the page."""
        return next((table for table in self.comparisons if table.axis.name == MAIN), None)

    def tables(self) -> list[Table]:
        """Every table that has content, laid out for writing."""
        return [
            *(layout(table) for table in self.comparisons),
            *(curve_table(varied, table_curves) for varied, table_curves in self.curves.items() if table_curves),
        ]

    def sentences(self) -> dict[str, list[str]]:
        """A sentence for every comparison, by the title of its table."""
        by_title = {table.axis.title: list(sentences(table)) for table in self.comparisons}
        return {title: lines for title, lines in by_title.items() if lines}


def paper_report(run_scores: Sequence[RunScore], tasks: Mapping[str, Task]) -> PaperReport:
    """The report of these scores; `tasks` are those of the runs. Raises: UserError if scores cannot be compared."""
    statistics = ScoreStatistics(PredictionCache())
    tables = comparison_tables(run_scores, tasks, statistics)
    return PaperReport(
        tuple(tables), {varied: curves(varied, run_scores, tasks, statistics) for varied in (SIZES, MIXING)}
    )


def write_tables(folder: Path, report: PaperReport) -> list[str]:
    """Writes <folder>/<name>.{md,tex,csv} of every table that has content, and removes those of earlier reports; their names."""
    tables = report.tables()
    for table in tables:
        write_table(folder, table)
    names = [table.name for table in tables]
    for name in {*(axis.name for axis in AXES), SIZES, MIXING} - set(names):
        for suffix in SUFFIXES:
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return names


def write_figures(folder: Path, report: PaperReport) -> list[str]:
    """Writes <folder>/<name>.{pdf,png} of every figure that has content; their names."""
    return draw(folder, report.main, report.curves)
