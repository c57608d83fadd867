"""Tables and figures of one run or of several, from their scores and predictions and from results/paper.yaml."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.scoring.results import Result
from eval.statistics.comparison_groups import FACTORS
from eval.statistics.prediction_cache import Archive
from eval.statistics.significance import Evidence
from eval.tables.curves import MIXING, SIZES, Curve, curve_table, curves
from eval.tables.formats import SUFFIXES, Table, write_table
from eval.tables.paper_tables import Found, found_tables, sentences, table_of

log = logging.getLogger(__name__)
MAIN = "original_vs_synthetic"  # the table that is drawn


@dataclass(frozen=True)
class PaperReport:
    """What the results say, before it is written."""

    tables: tuple[Found, ...]
    curves: dict[str, list[Curve]]

    def as_set(self) -> list[Table]:
        """Every table that has content, as it is written."""
        tables = [table_of(found) for found in self.tables]
        return [*tables, *(curve_table(kind, found) for kind, found in self.curves.items() if found)]

    def sentences(self) -> dict[str, list[str]]:
        """What every comparison says, by the title of its table."""
        found = {table.factor.title: list(sentences(table)) for table in self.tables}
        return {title: own for title, own in found.items() if own}


def paper_report(results: Sequence[Result], tasks: Sequence[str]) -> PaperReport:
    """Everything that the results say. Raises: UserError where results do not go together."""
    evidence = Evidence(Archive())
    tables = found_tables(results, tasks, evidence)
    return PaperReport(tuple(tables), {kind: curves(kind, results, evidence) for kind in (SIZES, MIXING)})


def write_tables(folder: Path, report: PaperReport) -> list[str]:
    """<folder>/<name>.{md,tex,csv} of every table that has content; those of earlier results are removed. Their names."""
    tables = report.as_set()
    for table in tables:
        write_table(folder, table)
    names = [table.name for table in tables]
    for name in {*(factor.name for factor in FACTORS), SIZES, MIXING} - set(names):
        for suffix in SUFFIXES:
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
    return names


def write_figures(folder: Path, report: PaperReport) -> list[str]:
    """<folder>/<name>.{pdf,png} of every figure that has content; their names. matplotlib is imported only here."""
    from eval.figures.figures import draw

    main = next((found for found in report.tables if found.factor.name == MAIN), None)
    return draw(folder, main, report.curves)
