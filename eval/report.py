"""The report phase: `python -m eval.report +experiment=quickstart`; one HTML page, tables and figures.

`python -m eval.report run.dir=a run.dir=b` makes the tables and figures of several runs together.
"""

import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.results import SUPERGLUE, Result, read_runs
from eval.run_dirs import Asked, asked
from eval.tables import Line, evaluated_on, lines, markdown, warning
from targen.cli import compose, main
from targen.config import Settings, as_values, check
from targen.errors import UserError
from targen.jsonl import Json, read_json, read_jsonl, write_text
from targen.paths import RunPaths
from targen.run_dir import NOT_OF_THE_RUN, open_run, read_config, read_record
from targen.task import TaskSpec
from train.cells import cells

if TYPE_CHECKING:
    from eval.paper_report import PaperReport

log = logging.getLogger(__name__)
STORIES_PER_TASK, REJECTS_PER_TASK = 4, 5


@dataclass(frozen=True)
class Story:
    """One instance from context to correction, by name: what was shown for it, its seed, and its row as `texts`."""

    slot: str
    shown: dict[str, str]
    instance_seed: dict[str, str]
    variant: dict[str, str]
    texts: dict[str, str]
    label_before: str
    label_after: str
    explanation: str


@dataclass(frozen=True)
class TaskReport:
    """What the page shows of one task's synthesis."""

    name: str
    title: str
    long_title: str
    stats: Json
    stories: tuple[Story, ...]
    rejects: tuple[Json, ...]


def report(settings: Settings) -> Path:
    """Writes the page, tables/ and figures/; the page's path. Raises: UserError when there is nothing to show."""
    tasks, folder = list(settings.tasks.values()), report_folder(settings)
    parts = [part for task in tasks if (part := task_report(settings.paths, task)) is not None]
    results = _own_results(settings)
    if not results and not parts:
        raise UserError(
            f"{settings.run.dir}: got no scores and no synthetic rows, expected a run. Run the other phases first."
        )
    table, whole = _page_table(settings, results), _paper_report(results, list(settings.tasks))
    arms = _page_arms(settings, results)
    text = markdown(settings.report.title, warning(table), settings.report.note, arms, table)
    write_text(folder / "tables" / "scores.md", text)
    page = folder / "index.html"
    write_text(page, _html(settings, arms, table, parts, whole.sentences()))
    _write(folder, whole)
    return page


def report_runs(runs: Sequence[Path], folder: Path) -> None:
    """Writes tables/ and figures/ of several runs together. Raises: UserError where their results do not go together."""
    found = read_runs(runs)
    tasks = [task for run in found for task in run.tasks]
    _write(folder, _paper_report([result for run in found for result in run.results], tasks))


def report_folder(settings: Settings) -> Path:
    return Path(settings.report.dir) if settings.report.dir else settings.paths.report


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


def _write(folder: Path, whole: "PaperReport") -> None:
    from eval.paper_report import write_figures, write_tables

    tables, figures = write_tables(folder / "tables", whole), write_figures(folder / "figures", whole)
    log.info("report: tables in %s: %s", folder / "tables", ", ".join(tables) or "none")
    log.info("report: figures in %s: %s", folder / "figures", ", ".join(figures) or "none")


def _page_results(settings: Settings, results: Sequence[Result]) -> list[Result]:
    """Those of the page: of the very cells that the command names."""
    names = {cell.name for cell in cells(settings)}
    return [result for result in results if result.score.benchmark == SUPERGLUE and result.score.cell in names]


def _page_arms(settings: Settings, results: Sequence[Result]) -> list[str]:
    found = {result.score.arm for result in _page_results(settings, results)}
    return [arm for arm in settings.arms if arm in found] or list(settings.arms)


def _page_table(settings: Settings, results: Sequence[Result]) -> list[Line]:
    from eval.paper_report import intervals

    own = _page_results(settings, results)
    scores = [asdict(result.score) for result in own]
    return lines(list(settings.tasks.values()), _page_arms(settings, results), scores, intervals(own))


def task_report(paths: RunPaths, task: TaskSpec) -> TaskReport | None:
    """The synthesis of a task as it lies on disk; None where it was not made."""
    folder = paths.synthetic(task.name)
    if not (folder / "train.jsonl").is_file():
        return None
    rows = [row for _, row in read_jsonl(folder / "train.jsonl")]
    provenance = [line for _, line in read_jsonl(folder / "provenance.jsonl")]
    stats = read_json(folder / "stats.json")
    rejects = tuple(line for _, line in read_jsonl(folder / "rejects.jsonl"))
    return TaskReport(
        task.name, task.folder, task.title, stats, tuple(_stories(task, rows, provenance)), rejects[:REJECTS_PER_TASK]
    )


def _stories(task: TaskSpec, rows: Sequence[Json], provenance: Sequence[Json]) -> list[Story]:
    """A few instances, those with a corrected label first; of a pair (AX-g) the first row."""
    firsts = list(zip(rows, provenance, strict=True))[:: task.rows_per_slot]
    flipped_first = sorted(firsts, key=lambda pair: pair[1]["label_before"] == pair[1]["label_after"])
    return [_story(task, row, story) for row, story in flipped_first[:STORIES_PER_TASK]]


def _story(task: TaskSpec, row: Json, story: Json) -> Story:
    seed = {
        name: value if isinstance(value, str) else "; ".join(map(str, value))
        for name, value in story["instance_seed"].items()
    }
    return Story(
        slot=story["slot"],
        shown=_shown(story),
        instance_seed=seed,
        variant=story["variant"],
        texts=task.code.view(task, row),
        label_before=story["label_before"],
        label_after=story["label_after"],
        explanation=story["explanation"],
    )


def _shown(story: Json) -> dict[str, str]:
    """The context, or what other methods than TarGEN show in its place."""
    shown: dict[str, str] = {**story.get("attributes", {})}
    if story["context"]:
        shown["context"] = story["context"]
    if "task_instruction" in story:
        shown["instruction"] = story["task_instruction"]
    if "demonstrations" in story:
        rows = story["demonstrations"]
        shown["demonstrations"] = f"{rows['task']} {rows['split']}, idx {', '.join(map(str, rows['idx']))}"
    return shown


def _html(
    settings: Settings,
    arms: Sequence[str],
    table: Sequence[Line],
    parts: Sequence[TaskReport],
    comparisons: Mapping[str, Sequence[str]],
) -> str:
    """The page. Everything is escaped by the template engine: what a model wrote is text, never markup."""
    folder = Path(__file__).resolve().parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    record = read_record(settings.paths.record)
    return environment.get_template("report.html.j2").render(
        title=settings.report.title,
        note=settings.report.note,
        warning=warning(table),
        arms=arms,
        table=table,
        evaluated_on=evaluated_on,
        comparisons=comparisons,
        parts=parts,
        generator=f"{settings.generator.backend}, {settings.generator.model}",
        model=settings.model.name,
        command=shlex.join(["python", "-m", "targen.run", *record.get("overrides", [])]),
        record=record,
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
    log.info("report: %s and %s", page, report_folder(settings) / "tables" / "scores.md")
    return 0


def _settings_of(found: Asked) -> Settings:
    """The settings of a run as its config.yaml has them."""
    (root,) = found.runs
    values = read_config(RunPaths(root).config)
    # which share of the run a process made, and on which cluster, the file does not say
    unsaid = {key: value for key, value in as_values(compose([])).items() if key in NOT_OF_THE_RUN}
    try:
        generator = {key: value for key, value in values["generator"].items() if key != "chat_template_sha256"}
        values |= {"generator": generator, "report": {"dir": None} | values["report"] | found.report}
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
