"""The report phase: `python -m eval.report +experiment=quickstart`; one HTML page, tables and figures.

`python -m eval.report run.dir=a run.dir=b` makes the tables and figures of several runs together.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.reporting.run_dirs import Asked, asked
from eval.scoring.runs import SUPERGLUE, RunScore, read_runs
from eval.tables.score_tables import lines, markdown, warning
from targen.config.loading import as_values
from targen.config.run_directory import NOT_OF_THE_RUN, open_run, read_config, read_record
from targen.config.settings import Settings
from targen.config.validation import check
from targen.runtime.cli import compose, main
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_text
from targen.runtime.paths import RunPaths
from train.grid.cells import cells

if TYPE_CHECKING:
    from eval.page.build import Page
    from eval.page.contents import Contents
    from eval.reporting.paper_report import PaperReport

log = logging.getLogger(__name__)


def report(settings: Settings) -> Path:
    """Writes the page, tables/ and figures/; the page's path. Raises: UserError when there is nothing to show."""
    from eval.analysis.figures.figures import draw_analyses
    from eval.page.build import html
    from eval.page.contents import contents
    from eval.page.funnel import counts_table
    from eval.reporting.wandb_report import log_report

    folder, results, made = settings.report_folder, _own_results(settings), contents(settings)
    if not results and made.browser is None:
        raise UserError(
            "\n".join(made.missing[:-1])
            or f"{settings.run.dir}: got no scores and no synthetic rows, expected a run. Run the other phases first."
        )
    whole = _paper_report(results, list(settings.tasks))
    write_text(folder / "tables" / "scores.md", _scores(settings, results))
    figures = _write(folder, whole)
    figures += [folder / "figures" / f"{name}.png" for name in draw_analyses(folder / "figures", made.analyses)]
    page = folder / "index.html"
    write_text(page, html(_page(settings, results, whole, made, figures)))
    log_report(settings, [*whole.as_set(), counts_table(made.funnels)], figures, made.analyses)
    return page


def report_runs(runs: Sequence[Path], folder: Path) -> None:
    """Writes tables/ and figures/ of several runs together. Raises: UserError where their results do not go together."""
    found = read_runs(runs)
    tasks = [task for run in found for task in run.tasks]
    _write(folder, _paper_report([result for run in found for result in run.results], tasks))


def _own_results(settings: Settings) -> list[RunScore]:
    """The run's results of the arms, seeds and tasks that the command names, with whatever settings."""
    (run,) = read_runs([settings.paths.root])
    return [
        result
        for result in run.results
        if result.score.arm in settings.arms
        and result.score.seed in settings.seeds
        and (result.score.benchmark != SUPERGLUE or result.score.task in settings.tasks)
    ]


def _paper_report(results: Sequence[RunScore], tasks: Sequence[str]) -> "PaperReport":
    from eval.reporting.paper_report import paper_report

    return paper_report(results, tasks)


def _write(folder: Path, whole: "PaperReport") -> list[Path]:
    """Tables and figures; the figures that are there as PNG."""
    from eval.reporting.paper_report import write_figures, write_tables

    tables, figures = write_tables(folder / "tables", whole), write_figures(folder / "figures", whole)
    log.info("report: tables in %s: %s", folder / "tables", ", ".join(tables) or "none")
    log.info("report: figures in %s: %s", folder / "figures", ", ".join(figures) or "none")
    return [folder / "figures" / f"{name}.png" for name in figures]


def _scores(settings: Settings, results: Sequence[RunScore]) -> str:
    """The scores of the very cells that the command names, as Markdown."""
    names = {cell.name for cell in cells(settings)}
    own = [result.score for result in results if result.score.benchmark == SUPERGLUE and result.score.cell in names]
    found = {score.arm for score in own}
    arms = [arm for arm in settings.arms if arm in found] or list(settings.arms)
    table = lines(list(settings.tasks.values()), arms, [asdict(score) for score in own])
    warned = warning((line.title, line.is_fixture) for line in table)
    return markdown(settings.report.title, warned, settings.report.note, arms, table)


def _page(
    settings: Settings, results: Sequence[RunScore], whole: "PaperReport", made: "Contents", figures: Sequence[Path]
) -> "Page":
    from eval.page.build import Page, figure, starts
    from eval.page.contents import missing_scores
    from eval.page.findings import findings, not_found
    from eval.page.headline import headlines
    from eval.reporting.paper_report import MAIN

    scored = [result.score for result in results if result.score.benchmark == SUPERGLUE]
    tasks = list(settings.tasks.values())
    return Page(
        title=settings.report.title,
        note=settings.report.note,
        warning=warning((settings.tasks[score.task].folder, score.is_fixture) for score in scored),
        missing=[*(missing_scores(tasks, {score.task for score in scored}) if scored else ()), *made.missing],
        generator=f"{settings.generator.backend}, {settings.generator.model}",
        model=settings.model.name,
        headlines=[one for found in whole.tables if found.axis.name == MAIN for one in headlines(found)],
        comparisons=whole.sentences(),
        tables=[table for table in whole.as_set() if table.name != MAIN],
        figures=[figure(path) for path in figures],
        funnels=made.funnels,
        analyses=[findings(one) for one in made.analyses],
        not_found=not_found(made.analyses),
        browser=made.browser,
        starts=starts(read_record(settings.paths.record)),
        config=settings.paths.config.read_text(encoding="utf-8") if settings.paths.config.is_file() else "",
    )


def phase(cfg: Any, overrides: list[str]) -> int:
    return _report(open_run(cfg, write=False))


def direct(arguments: list[str]) -> int | None:
    """Several runs, or one by its own config.yaml; None where the configuration is to be composed."""
    found = asked(arguments)
    if found is None:
        return None
    if len(found.runs) == 1 and not found.several:
        return _report(_settings_of(found))
    report_runs(found.runs, found.folder)
    return 0


def _report(settings: Settings) -> int:
    page = report(settings)
    log.info("report: %s and %s", page, settings.report_folder / "tables" / "scores.md")
    return 0


def _settings_of(found: Asked) -> Settings:
    """The settings of a run as its config.yaml has them."""
    (root,) = found.runs
    values = read_config(RunPaths(root).config)
    # which share of the run a process made, and on which cluster, the file does not say
    defaults = as_values(compose([]))
    unsaid = {key: value for key, value in defaults.items() if key in NOT_OF_THE_RUN}
    try:
        generator = {key: value for key, value in values["generator"].items() if key != "chat_template_sha256"}
        values |= {"generator": generator, "report": defaults["report"] | values["report"] | found.report}
        return check(Settings, {**unsaid, **values, "run": {"dir": str(root)}})
    except (KeyError, TypeError, AttributeError, UserError):
        raise UserError(
            f"{RunPaths(root).config}: got the configuration of another version, expected one of this. Name the run's experiment "
            "and settings in the command, as for the other phases."
        ) from None


if __name__ == "__main__":
    main(
        "eval.report",
        "writes the tables, the figures and the page of a run, or of several: run.dir=a run.dir=b",
        phase,
        direct,
    )
