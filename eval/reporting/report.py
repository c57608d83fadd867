"""The report of a run, and tables and figures that cover several runs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.analysis.figures.figures import draw_analyses
from eval.page.answers import Answers, answers
from eval.page.build import Page, figure, html, starts
from eval.page.contents import Contents, budget, contents, missing_scores
from eval.page.findings import findings, not_measured
from eval.page.funnel import counts_table, learnability
from eval.page.headline import headlines
from eval.reporting.ending import ending
from eval.reporting.paper_report import PaperReport, paper_report, write_figures, write_tables
from eval.reporting.wandb_report import log_report
from eval.scoring.runs import Run, RunScore, read_runs, tasks_of
from eval.scoring.scores import SUPERGLUE, Score
from eval.statistics.axes import MAIN
from eval.tables.answer import answer_sentences, learnability_sentences
from eval.tables.formats import SUFFIXES, Table, write_table
from eval.tables.score_tables import fixture_warning, markdown, score_lines
from eval.tables.subjectivity import NAME as SUBJECTIVITY
from eval.tables.subjectivity import subjectivity_table
from targen.config.run_directory import read_record
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_text
from targen.tasks.task import Task
from train.grid.cells import cells

log = logging.getLogger(__name__)
FEW = 100  # training rows; below it nothing but the path is shown


@dataclass(frozen=True)
class Report:
    """The path of the page, and the lines that the command prints at its end."""

    page: Path
    ending: str


def report(settings: Settings) -> Path:
    """As write_report; the page's path alone."""
    return write_report(settings).page


def write_report(settings: Settings) -> Report:
    """Writes the page, tables/ and figures/. Raises: UserError if there is nothing to show."""
    (run,) = read_runs([settings.paths.root])
    run_scores = _chosen_scores(settings, run)
    tasks = {name: run.tasks.get(name, task) for name, task in settings.tasks.items()}
    page_answers, answer_problems = answers(settings, tasks, run_scores, budget(settings))
    content = contents(settings, len(page_answers.data) if page_answers is not None else 0)
    if not run_scores and content.browser is None:
        raise UserError(
            "\n".join(content.missing[:-1])
            or f"{settings.run.dir}: got no scores and no synthetic rows, expected a run. Run the other phases first."
        )
    folder, paper = settings.report_folder, paper_report(run_scores, tasks)
    write_text(folder / "tables" / "scores.md", _scores_markdown(settings, tasks, run_scores))
    figures = _write_paper(folder, paper)
    figures += [folder / "figures" / f"{name}.png" for name in draw_analyses(folder / "figures", content.analyses)]
    ratings = _write_ratings(folder / "tables", subjectivity_table(content.analyses, run_scores, tasks))
    page = folder / "index.html"
    write_text(
        page, html(_page(settings, tasks, run_scores, paper, content, page_answers, answer_problems, figures, ratings))
    )
    log_report(settings, [*paper.tables(), *ratings, counts_table(content.funnels)], figures, content.analyses)
    summary = [
        *answer_sentences(paper.main),
        *([] if _has_real_rows(run_scores) else learnability_sentences(learnability(content.funnels))),
    ]
    return Report(page, ending(settings, summary, run_scores, content, page))


def _has_real_rows(run_scores: Sequence[RunScore]) -> bool:
    """Whether a score is on rows that were not written by the generator."""
    return any(run_score.score.source != "held_out" for run_score in run_scores)


def report_runs(roots: Sequence[Path], folder: Path) -> None:
    """Writes tables/ and figures/ that cover several runs. Raises: UserError if their scores cannot be compared."""
    runs = read_runs(roots)
    _write_paper(folder, paper_report([run_score for run in runs for run_score in run.scores], tasks_of(runs)))


def _chosen_scores(settings: Settings, run: Run) -> list[RunScore]:
    """The run's scores of the arms, seeds and tasks that the command names; other settings do not matter."""
    return [
        run_score
        for run_score in run.scores
        if run_score.score.arm in settings.arms
        and run_score.score.seed in settings.seeds
        and (run_score.score.benchmark != SUPERGLUE or run_score.score.task in settings.tasks)
    ]


def _write_paper(folder: Path, paper: PaperReport) -> list[Path]:
    """Writes tables and figures; the PNG files of the figures."""
    tables, figures = write_tables(folder / "tables", paper), write_figures(folder / "figures", paper)
    log.info("report: tables in %s: %s", folder / "tables", ", ".join(tables) or "none")
    log.info("report: figures in %s: %s", folder / "figures", ", ".join(figures) or "none")
    return [folder / "figures" / f"{name}.png" for name in figures]


def _write_ratings(folder: Path, table: Table | None) -> list[Table]:
    """Writes the table of subjectivity, or removes that of an earlier report."""
    if table is not None:
        write_table(folder, table)
        return [table]
    for suffix in SUFFIXES:
        (folder / f"{SUBJECTIVITY}.{suffix}").unlink(missing_ok=True)
    return []


def _scores_markdown(settings: Settings, tasks: Mapping[str, Task], run_scores: Sequence[RunScore]) -> str:
    """The scores of exactly the cells that the command names, as Markdown."""
    names = {cell.name for cell in cells(settings)}
    scores = [score for score in _superglue_scores(run_scores) if score.cell in names]
    scored_arms = {score.arm for score in scores}
    arms = [arm for arm in settings.arms if arm in scored_arms] or list(settings.arms)
    lines = score_lines(list(tasks.values()), arms, scores)
    warning = fixture_warning((line.title, line.fixture_mark) for line in lines)
    return markdown(settings.title, warning, _note(settings, scores), arms, lines)


def _note(settings: Settings, scores: Sequence[Score]) -> str | None:
    """The sentence below the title: the user's, and a caution if a model was finetuned on few rows."""
    sizes = [score.train_rows for score in scores if score.train_rows is not None]
    caution = (
        f"Trained on as few as {min(sizes)} rows: so small a set shows that every step works, and scores near the baseline "
        "are to be expected."
        if sizes and min(sizes) < FEW
        else None
    )
    return " ".join(filter(None, (settings.report.note, caution))) or None


def _superglue_scores(run_scores: Sequence[RunScore]) -> list[Score]:
    return [run_score.score for run_score in run_scores if run_score.score.benchmark == SUPERGLUE]


def _page(
    settings: Settings,
    tasks: Mapping[str, Task],
    run_scores: Sequence[RunScore],
    paper: PaperReport,
    content: Contents,
    page_answers: Answers | None,
    answer_problems: Sequence[str],
    figures: Sequence[Path],
    ratings: Sequence[Table],
) -> Page:
    scores = _superglue_scores(run_scores)
    missing = missing_scores(list(tasks.values()), {score.task for score in scores}) if scores else []
    return Page(
        answer=answer_sentences(paper.main),
        learnability_sentences=learnability_sentences(learnability(content.funnels)),
        has_real_rows=_has_real_rows(run_scores),
        title=settings.title,
        note=_note(settings, scores),
        warning=fixture_warning((tasks[score.task].folder, score.fixture_mark) for score in scores),
        missing=[*missing, *content.missing, *answer_problems],
        generator=f"{settings.generator.backend}, {settings.generator.model}",
        model=settings.model.name,
        headlines=headlines(paper.main) if paper.main is not None else [],
        comparisons=paper.sentences(),
        tables=[*(table for table in paper.tables() if table.name != MAIN), *ratings],
        figures=[figure(path) for path in figures],
        funnels=content.funnels,
        analyses=[findings(analysis) for analysis in content.analyses],
        not_measured=not_measured(content.analyses),
        browser=content.browser,
        answers=page_answers,
        starts=starts(read_record(settings.paths.record)),
        config=settings.paths.config.read_text(encoding="utf-8") if settings.paths.config.is_file() else "",
    )
