"""Runs the analyses of a run or of two folders, task by task, and writes their results."""

import logging
import shlex
from pathlib import Path

from eval.analysis.arguments import AnalyzeArguments
from eval.analysis.figures.figures import draw_analyses
from eval.analysis.llm_measures.generator_calls import ask, generator_parts, plan_line
from eval.analysis.measures.cues import check_cues
from eval.analysis.measures.semantic import embedder_of
from eval.analysis.parts import PARTS, PartInput
from eval.analysis.planned_pairs import planned_pair
from eval.analysis.results import SHARE, AnalysisResult, Interval, Missing, combine_results
from eval.analysis.sets import DataSet, SetPair, folder_pair, folder_set, run_pair, synthetic_set
from eval.analysis.sheet import human_agreement, read_sheet, write_sheet
from eval.analysis.summary import document, markdown, number_text, values
from eval.scoring.runs import read_runs
from eval.tables.formats import markdown as table_markdown
from eval.tables.subjectivity import subjectivity_table
from targen.config.settings import Settings
from targen.llm.registry import backend_named
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, dumps, read_json, write_text
from targen.runtime.paths import group_choices
from targen.runtime.signals import StopRequest
from targen.tasks.task import Task

log = logging.getLogger(__name__)
MIN_ROWS_FOR_INTERVALS = 4


def check(settings: Settings) -> None:
    """Raises: UserError if a model, a field of a cue or what the generator needs does not exist, before the first row is read."""
    uses_encoder = "fidelity" in settings.analysis.parts and "encoder" in settings.analysis.students
    if "semantic" in settings.analysis.parts or uses_encoder:
        embedder_of(settings.analysis.embedder)
    if "fidelity" in settings.analysis.parts:
        check_cues(settings.tasks.values())
    if generator_parts(settings):
        backend_named(settings.generator.backend).check(settings)
    models = group_choices("model")
    if settings.analysis.model is not None and settings.analysis.model not in models:
        raise UserError(
            f"analysis.model: got {settings.analysis.model!r}, expected a file of conf/model/. "
            f"{did_you_mean(settings.analysis.model, models)}"
        )


def analyze(settings: Settings, arguments: AnalyzeArguments, stop: StopRequest | None = None) -> str:
    """Writes analysis/<task>.json and analysis/summary.md; returns the summary.

    Raises: UserError if there are no data sets; AwaitingAnswers (generator=batch) if a part waits for answers.
    """
    pairs = _pairs(settings, arguments)
    in_run = not arguments.compares_folders
    if in_run and settings.analysis.sheet_rows:
        _write_sheet(settings, pairs)
    llm_results = ask(settings, pairs)
    human, sections, tasks_missing = _human(settings), [], dict[Missing, list[str]]()
    for pair in pairs:
        task_results = {part: result for (name, part), result in llm_results.items() if name == pair.task.name}
        part_input = PartInput(settings, pair, stop or StopRequest(), in_run, task_results)
        result = combine_results([_not_comparable(pair), *_part_results(part_input)])
        for missing in result.missing:
            tasks_missing.setdefault(missing, []).append(pair.task.name)
        task_human = human.get(pair.task.name)
        write_text(_path(settings, pair.task), dumps(values(pair, result, task_human)) + "\n")
        sections.append(markdown(pair, result, task_human))
    for missing, tasks in tasks_missing.items():
        log.warning("analyze: missing: %s (%s): %s", missing.part, ", ".join(tasks), missing.why)
    sections += _task_table(settings) if in_run else []
    text = document(sections, f"What is in the data: {settings.title}" if in_run else "Two data sets")
    write_text(settings.paths.analysis / "summary.md", text)
    return text


def _task_table(settings: Settings) -> list[str]:
    """The subjectivity of the tasks beside their scores, as a section of the summary; empty if there are no scores."""
    if "subjectivity" not in settings.analysis.parts or not settings.paths.scores.is_file():
        return []
    (run,) = read_runs([settings.paths.root])
    tasks = {name: run.tasks.get(name, task) for name, task in settings.tasks.items()}
    analyses = [read_json(path) for task in tasks.values() if (path := _path(settings, task)).is_file()]
    table = subjectivity_table(analyses, run.scores, tasks)
    return [f"#{table_markdown(table)}"] if table is not None else []


def plan(settings: Settings, arguments: AnalyzeArguments) -> str:
    """The calls to the generator that the analysis will make, and their cost at most; works before the rows are generated."""
    if arguments.compares_folders:
        return plan_line(settings, _pairs(settings, arguments)) + "\n"
    return plan_line(settings, [planned_pair(settings, task) for task in settings.tasks.values()]) + "\n"


def draw(settings: Settings) -> list[str]:
    """Draws analysis/figures from the numbers in analysis/<task>.json; returns the names of the figures."""
    paths = [_path(settings, task) for task in settings.tasks.values()]
    return draw_analyses(settings.paths.analysis / "figures", [read_json(path) for path in paths if path.is_file()])


def _part_results(part_input: PartInput) -> list[AnalysisResult]:
    """The result of each part of analysis.parts; none of them can be measured if a set has no rows."""
    names = list(dict.fromkeys(part_input.settings.analysis.parts))
    if part_input.pair.size < 1:
        return [AnalysisResult(missing=tuple(Missing(name, "a set has no rows") for name in names))]
    log.info("analyze: %s: %s", part_input.pair.task.name, ", ".join(names))
    return [PARTS[name](part_input) for name in names]


def _not_comparable(pair: SetPair) -> AnalysisResult:
    """What limits the comparison of two sets."""
    missing = []
    if pair.a is None:
        missing.append(Missing("a", pair.why_alone))
    missing += [
        Missing(side, f"{data_set.origin} has no row") for side, data_set in pair.sets.items() if not data_set.rows
    ]
    if all(data_set.rows for data_set in pair.sets.values()) and pair.size < MIN_ROWS_FOR_INTERVALS:
        missing.append(Missing("intervals", f"{pair.size} rows in a set are too few for intervals"))
    return AnalysisResult(missing=tuple(missing))


def _pairs(settings: Settings, arguments: AnalyzeArguments) -> list[SetPair]:
    pairs, absent = [], []
    for task in settings.tasks.values():
        if arguments.a is not None and arguments.b is not None:
            pair = folder_pair(arguments.a, arguments.b, task, settings.seed, settings.analysis.size)
        else:
            pair = run_pair(settings, task)
        if pair is None:
            absent.append(task.name)
        else:
            pairs.append(pair)
    in_folders = arguments.compares_folders
    where = f"{arguments.a} and {arguments.b}" if in_folders else str(settings.paths.root / "synthetic")
    if not pairs:
        raise UserError(
            f"{where}: got no data set of {', '.join(absent)}, expected one of a task in each. Check the path, or name other "
            "tasks: task=[...]."
        )
    if absent:
        log.info("analyze: no data in %s for %s", where, ", ".join(absent))
    return pairs


def _path(settings: Settings, task: Task) -> Path:
    return settings.paths.analysis / f"{task.name}.json"


def _human_path(settings: Settings) -> Path:
    return settings.paths.analysis / "human.json"


def _human(settings: Settings) -> dict[str, Json]:
    """The agreement of people with the labels, by task; empty before a sheet was read."""
    path = _human_path(settings)
    return read_json(path) if path.is_file() else {}


def _write_sheet(settings: Settings, pairs: list[SetPair]) -> None:
    path = settings.paths.analysis / "sheet.csv"
    sets = [(pair.task, pair.b) for pair in pairs]
    if write_sheet(path, sets, settings.analysis.sheet_rows, settings.seed):
        log.info(
            "analyze: wrote %s for a human check. Fill in your_label, then: python -m eval.analyze sheet=%s",
            *(path, shlex.quote(str(path))),
        )
    else:
        log.info("analyze: %s exists and is left unchanged; remove it to get a new one", path)


def take_sheet(settings: Settings, arguments: AnalyzeArguments, sheet: Path) -> str:
    """Writes the agreement of people with the labels to analysis/human.json and into existing analyses; returns a summary.

    Raises: UserError if the sheet cannot be read, fits no row or has no label.
    """
    sets: dict[str, tuple[Task, DataSet]] = {}
    for task in settings.tasks.values():
        rows = folder_set(arguments.b, task) if arguments.b is not None else synthetic_set(settings.paths, task)
        if rows is not None:
            sets[task.name] = (task, rows)
    agreement = human_agreement(sheet, read_sheet(sheet), sets)
    if not agreement:
        raise UserError(f"sheet: {sheet} has no row with a label, expected some in the column your_label. Fill it in.")
    write_text(_human_path(settings), dumps(_human(settings) | agreement) + "\n")
    lines = []
    for name, human in agreement.items():
        path = _path(settings, sets[name][0])
        if path.is_file():
            analysis = read_json(path)
            write_text(path, dumps(analysis | {"details": analysis["details"] | {"human": human}}) + "\n")
        share = number_text(Interval(human["value"], human["low"], human["high"]), SHARE)
        lines.append(f"{name}: people agree with {human['agree']} of {human['judged']} labels: {share} %")
    return "\n".join(lines) + "\n"
