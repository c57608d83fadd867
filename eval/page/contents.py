"""The synthetic rows of a run, gathered for the page: funnels, analyses, rows with all their steps, and what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from eval.analysis.sets import rows_digest
from eval.analysis.summary import VERSION
from eval.page.funnel import Funnel, funnel
from eval.page.prompts import Prompts
from eval.page.rows import Ask, Browser, TaskEntries, browser, script_json, task_entries
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.synthesis.recipe import Recipe
from targen.synthesis.recipes import recipe_of
from targen.tasks.task import Task

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Contents:
    """`analyses` are those of the current rows; each line of `missing` says what the page lacks and how to get it."""

    funnels: tuple[Funnel, ...]
    analyses: tuple[Json, ...]
    browser: Browser | None
    missing: tuple[str, ...]


def contents(settings: Settings, used: int = 0) -> Contents:
    """Everything that can be read; a damaged file affects its own task only. `used`: bytes of the page's rows that are taken."""
    funnels: list[Funnel] = []
    analyses: list[Json] = []
    entries: list[TaskEntries] = []
    missing: list[str] = []
    not_made: list[str] = []
    not_analysed: list[str] = []
    bytes_left = budget(settings) - used
    prompts = Prompts(bytes_left)
    has_seeds = settings.method.instance_seed is not None
    for task in settings.tasks.values():
        if not has_rows(settings.paths, task):
            not_made.append(task.folder)
            continue
        analysis = None
        try:
            analysis = read_analysis(settings.paths, task)
            if analysis is None:
                not_analysed.append(task.folder)
        except UserError as err:
            missing.append(f"analysis of {task.folder}: {err}")
        try:
            task_funnel = funnel(task, settings.paths.synthetic(task.name) / "stats.json", has_seeds)
            is_checked = bool(task_funnel.stats["checked"])
            recipe = _recipe(settings, task)
            ask: Ask = partial(prompts.of, recipe) if recipe is not None else (lambda *_: [])
            list_prompts = prompts.of_lists(recipe) if recipe is not None else []
            new_entries = task_entries(settings.paths, task, len(entries), analysis, has_seeds, is_checked, ask)
            entries.append(replace(new_entries, list_prompts=list_prompts))
            funnels.append(task_funnel)
        except UserError as err:
            missing.append(f"rows of {task.folder}: {err}")
        if analysis is not None:
            analyses.append(analysis)
    if not_made:
        missing.append(f"synthetic rows of {', '.join(not_made)}: not generated. Run the phase generate")
    if not_analysed:
        missing.append(f"analysis of {', '.join(not_analysed)}: not done. Run the phase analyze")
    size = len(script_json(prompts.lines).encode())
    rows_browser = browser(entries, bytes_left - size, prompts.lines) if entries else None
    return Contents(tuple(funnels), tuple(analyses), rows_browser, tuple(missing))


def _recipe(settings: Settings, task: Task) -> Recipe | None:
    """The recipe that prompts are rebuilt from; None where what they show cannot be read any more."""
    try:
        return recipe_of(settings, task)
    except UserError:
        return None


def budget(settings: Settings) -> int:
    """Bytes that the rows on the page may take."""
    return int(settings.report.rows_megabytes * MEGABYTE)


def has_rows(paths: RunPaths, task: Task) -> bool:
    """Whether the run has synthetic rows of a task."""
    return (paths.synthetic(task.name) / "train.jsonl").is_file()


def read_analysis(paths: RunPaths, task: Task) -> Json | None:
    """analysis/<task>.json; None if there is none. Raises: UserError if it has another version or is of other rows."""
    path = paths.analysis / f"{task.name}.json"
    if not path.is_file():
        return None
    analysis = read_json(path)
    if analysis.get("version") != VERSION:
        raise UserError(f"{path} has a different format version. Run python -m eval.analyze again.")
    rows = (row for _, row in read_jsonl(paths.synthetic(task.name) / "train.jsonl", surrogates=True))
    if analysis["sets"]["b"]["digest"] != rows_digest(rows):
        raise UserError("the rows have changed since they were analysed. Run python -m eval.analyze again.")
    return analysis


def missing_scores(tasks: Sequence[Task], scored: set[str]) -> list[str]:
    """A line that names the tasks without scores; none if all have some."""
    unscored = [task.folder for task in tasks if task.name not in scored]
    return [f"scores of {', '.join(unscored)}: not evaluated. Run the phases train and evaluate"] if unscored else []
