"""The report phase: `python -m eval.report +experiment=quickstart`; one HTML page, tables and figures.

`python -m eval.report run.dir=a run.dir=b` makes the tables and figures of several runs together.
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.results import SUPERGLUE, Result, read_runs
from eval.run_dirs import Asked, asked
from eval.tables import Line, lines, markdown, warning
from targen.cli import compose, main
from targen.config import Settings, as_values, check
from targen.errors import UserError
from targen.jsonl import Json, read_json, write_text
from targen.paths import RunPaths
from targen.run_dir import NOT_OF_THE_RUN, open_run, read_config, read_record
from targen.task import TaskSpec
from train.cells import cells

if TYPE_CHECKING:
    from eval.page.build import Page
    from eval.paper_report import PaperReport

log = logging.getLogger(__name__)
MEGABYTE = 1_000_000


def report(settings: Settings) -> Path:
    """Writes the page, tables/ and figures/; the page's path. Raises: UserError when there is nothing to show."""
    from eval.page.build import html
    from eval.page.findings import read_analyses
    from eval.wandb_report import log_report

    folder, results = settings.report_folder, _own_results(settings)
    made = [task for task in settings.tasks.values() if (settings.paths.synthetic(task.name) / "train.jsonl").is_file()]
    if not results and not made:
        raise UserError(
            f"{settings.run.dir}: got no scores and no synthetic rows, expected a run. Run the other phases first."
        )
    table, whole = _page_table(settings, results), _paper_report(results, list(settings.tasks))
    text = markdown(settings.report.title, warning(table), settings.report.note, _page_arms(settings, results), table)
    write_text(folder / "tables" / "scores.md", text)
    analyses = read_analyses(settings.paths, made)
    figures = [*_write(folder, whole), *_figures_of(settings.paths, analyses)]
    page = folder / "index.html"
    write_text(page, html(_page(settings, results, made, warning(table), whole, analyses, figures)))
    log_report(settings, whole.as_set(), figures, list(analyses.values()))
    return page


def report_runs(runs: Sequence[Path], folder: Path) -> None:
    """Writes tables/ and figures/ of several runs together. Raises: UserError where their results do not go together."""
    found = read_runs(runs)
    tasks = [task for run in found for task in run.tasks]
    _write(folder, _paper_report([result for run in found for result in run.results], tasks))


def _own_results(settings: Settings) -> list[Result]:
    """The run's results of the arms, seeds and tasks that the command names, with whatever settings."""
    (run,) = read_runs([settings.paths.root])
    return [
        result
        for result in run.results
        if result.score.arm in settings.arms
        and result.score.seed in settings.seeds
        and (result.score.benchmark != SUPERGLUE or result.score.task in settings.tasks)
    ]


def _paper_report(results: Sequence[Result], tasks: Sequence[str]) -> "PaperReport":
    from eval.paper_report import paper_report

    return paper_report(results, tasks)


def _write(folder: Path, whole: "PaperReport") -> list[Path]:
    """Tables and figures; the figures that are there as PNG."""
    from eval.paper_report import write_figures, write_tables

    tables, figures = write_tables(folder / "tables", whole), write_figures(folder / "figures", whole)
    log.info("report: tables in %s: %s", folder / "tables", ", ".join(tables) or "none")
    log.info("report: figures in %s: %s", folder / "figures", ", ".join(figures) or "none")
    return [folder / "figures" / f"{name}.png" for name in figures]


def _figures_of(paths: RunPaths, analyses: Mapping[str, Json]) -> list[Path]:
    """The figures of the analyses, as `python -m eval.analyze` drew them."""
    from eval.analysis.figures import NAMES

    drawn = [paths.analysis / "figures" / f"{name}.png" for name in NAMES]
    return [path for path in drawn if analyses and path.is_file()]


def _page_results(settings: Settings, results: Sequence[Result]) -> list[Result]:
    """Those of the page: of the very cells that the command names."""
    names = {cell.name for cell in cells(settings)}
    return [result for result in results if result.score.benchmark == SUPERGLUE and result.score.cell in names]


def _page_arms(settings: Settings, results: Sequence[Result]) -> list[str]:
    found = {result.score.arm for result in _page_results(settings, results)}
    return [arm for arm in settings.arms if arm in found] or list(settings.arms)


def _page_table(settings: Settings, results: Sequence[Result]) -> list[Line]:
    scores = [asdict(result.score) for result in _page_results(settings, results)]
    return lines(list(settings.tasks.values()), _page_arms(settings, results), scores)


def _page(
    settings: Settings,
    results: Sequence[Result],
    made: Sequence[TaskSpec],
    warned: str | None,
    whole: "PaperReport",
    analyses: Mapping[str, Json],
    figures: Sequence[Path],
) -> "Page":
    from eval.page.build import Page, figure
    from eval.page.findings import findings
    from eval.page.funnel import funnel
    from eval.page.headline import headlines
    from eval.page.rows import browser
    from eval.paper_report import MAIN

    paths, record = settings.paths, read_record(settings.paths.record)
    own = _paper_report(_page_results(settings, results), list(settings.tasks))
    budget = int(settings.report.rows_megabytes * MEGABYTE)
    return Page(
        title=settings.report.title,
        note=settings.report.note,
        warning=warned,
        generator=f"{settings.generator.backend}, {settings.generator.model}",
        model=settings.model.name,
        headlines=[one for found in own.tables if found.factor.name == MAIN for one in headlines(found)],
        comparisons=whole.sentences(),
        tables=[table for table in whole.as_set() if table.name != MAIN],
        figures=[figure(path) for path in figures],
        funnels=[funnel(task, read_json(paths.synthetic(task.name) / "stats.json")) for task in made],
        analyses=[findings(one) for one in analyses.values()],
        browser=browser(paths, made, analyses, budget) if made else None,
        browsed={task.name: task for task in made},
        command=shlex.join(["python", "-m", "targen.run", *record.get("overrides", [])]),
        record=record,
        config=paths.config.read_text(encoding="utf-8") if paths.config.is_file() else "",
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
