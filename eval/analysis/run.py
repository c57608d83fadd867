"""All analyses of a run or of two folders: what is asked for is looked at, task by task, and written down."""

import logging
from collections.abc import Callable
from pathlib import Path

from eval.analysis.arguments import Own
from eval.analysis.figures.figures import draw_analyses
from eval.analysis.measures.bias import bias
from eval.analysis.measures.contamination import contamination
from eval.analysis.measures.correctness import correctness
from eval.analysis.measures.difficulty import difficulty
from eval.analysis.measures.lexical import lexical
from eval.analysis.measures.semantic import embedder_of, semantic
from eval.analysis.results import Found, Missing, joined
from eval.analysis.sets import DataSet, Pair, folder_pair, folder_set, run_pair, synthetic_set
from eval.analysis.sheet import judged, read_sheet, write_sheet
from eval.analysis.summary import document, markdown, values
from targen.config.settings import Settings
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json, dumps, read_json, write_text
from targen.runtime.paths import CONF
from targen.runtime.signals import StopRequest
from targen.tasks.task import Task

log = logging.getLogger(__name__)
Part = Callable[[Pair], Found]


def check(settings: Settings) -> None:
    """Raises: UserError for a model that is not there, before the first row is read."""
    if "semantic" in settings.analysis.parts:
        embedder_of(settings.analysis.embedder)
    known = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    if settings.analysis.model is not None and settings.analysis.model not in known:
        raise UserError(
            f"analysis.model: got {settings.analysis.model!r}, expected a file of conf/model/. "
            f"{did_you_mean(settings.analysis.model, known)}"
        )


def analyze(settings: Settings, own: Own, stop: StopRequest | None = None) -> str:
    """Writes analysis/<task>.json and analysis/summary.md; the summary. Raises: UserError where there is nothing to look at."""
    pairs = _pairs(settings, own)
    if not own.outside and settings.analysis.sheet_rows:
        _write_sheet(settings, pairs)
    parts: dict[str, Part] = {
        "lexical": lambda pair: lexical(pair, settings.analysis),
        "semantic": lambda pair: semantic(pair, settings.analysis),
        "bias": lambda pair: bias(pair, settings.analysis),
        "correctness": lambda pair: correctness(settings, pair, not own.outside),
        "contamination": lambda pair: contamination(pair, settings.analysis),
        "difficulty": lambda pair: difficulty(settings, pair, stop or StopRequest()),
    }
    people, shown, missing = _human(settings), [], dict[Missing, list[str]]()
    for pair in pairs:
        found = joined([_nothing_to_compare(pair), *_looked_at(settings, parts, pair)])
        for one in found.missing:
            missing.setdefault(one, []).append(pair.task.name)
        human = people.get(pair.task.name)
        write_text(_path(settings, pair.task), dumps(values(pair, found, human)) + "\n")
        shown.append(markdown(pair, found, human))
    for one, tasks in missing.items():
        log.warning("analyze: missing: %s (%s): %s", one.part, ", ".join(tasks), one.why)
    text = document(shown, f"What is in the data: {settings.report.title}" if not own.outside else "Two data sets")
    write_text(settings.paths.analysis / "summary.md", text)
    return text


def draw(settings: Settings) -> list[str]:
    """Writes analysis/figures of the numbers that stand in analysis/<task>.json; their names."""
    paths = [_path(settings, task) for task in settings.tasks.values()]
    return draw_analyses(settings.paths.analysis / "figures", [read_json(path) for path in paths if path.is_file()])


def _looked_at(settings: Settings, parts: dict[str, Part], pair: Pair) -> list[Found]:
    """What each part that is asked for finds; of a set without rows nothing."""
    if pair.size < 1:
        return [Found(missing=tuple(Missing(name, "a set has no rows") for name in settings.analysis.parts))]
    names = list(dict.fromkeys(settings.analysis.parts))
    log.info("analyze: %s: %s", pair.task.name, ", ".join(names))
    return [parts[name](pair) for name in names]


def _nothing_to_compare(pair: Pair) -> Found:
    missing = []
    if pair.a is None:
        why = "the original rows are not at hand, so nothing is compared. Set data.source=local data.dir=..., or mend the network"
        missing.append(Missing("a", why))
    missing += [Missing(side, f"{own.origin} has no row") for side, own in pair.sets.items() if not own.rows]
    if all(own.rows for own in pair.sets.values()) and pair.size < 4:
        missing.append(Missing("intervals", f"{pair.size} rows in a set are too few for intervals"))
    return Found(missing=tuple(missing))


def _pairs(settings: Settings, own: Own) -> list[Pair]:
    found, without = [], []
    for task in settings.tasks.values():
        if own.a is not None and own.b is not None:
            pair = folder_pair(own.a, own.b, task, settings.seed, settings.analysis.size)
        else:
            pair = run_pair(settings, task)
        if pair is None:
            without.append(task.name)
        else:
            found.append(pair)
    where = f"{own.a} and {own.b}" if own.outside else str(settings.paths.root / "synthetic")
    if not found:
        raise UserError(
            f"{where}: got no data set of {', '.join(without)}, expected one of a task in each. Check the path, or name other tasks: "
            "task=[...]."
        )
    if without:
        log.info("analyze: no data in %s for %s", where, ", ".join(without))
    return found


def _path(settings: Settings, task: Task) -> Path:
    return settings.paths.analysis / f"{task.name}.json"


def _human_path(settings: Settings) -> Path:
    return settings.paths.analysis / "human.json"


def _human(settings: Settings) -> dict[str, Json]:
    """What people judged, by task, as far as a sheet came back."""
    path = _human_path(settings)
    return read_json(path) if path.is_file() else {}


def _write_sheet(settings: Settings, pairs: list[Pair]) -> None:
    path = settings.paths.analysis / "sheet.csv"
    sets = [(pair.task, pair.b) for pair in pairs]
    if write_sheet(path, sets, settings.analysis.sheet_rows, settings.seed):
        log.info(
            "analyze: %s: for a human check. Fill in your_label, then: python -m eval.analyze sheet=%s", path, path
        )
    else:
        log.info("analyze: %s is there already and stays as it is; remove it for a new one", path)


def take_sheet(settings: Settings, own: Own) -> str:
    """Writes what people judged to analysis/human.json and into the analyses that are there; a summary."""
    assert own.sheet is not None
    sets: dict[str, tuple[Task, DataSet]] = {}
    for task in settings.tasks.values():
        rows = folder_set(own.b, task) if own.b is not None else synthetic_set(settings.paths, task)
        if rows is not None:
            sets[task.name] = (task, rows)
    found = judged(own.sheet, read_sheet(own.sheet), sets)
    if not found:
        raise UserError(
            f"sheet: {own.sheet} has no row with a label, expected some in the column your_label. Fill it in."
        )
    write_text(_human_path(settings), dumps(_human(settings) | found) + "\n")
    lines = []
    for name, human in found.items():
        path = _path(settings, sets[name][0])
        if path.is_file():
            old = read_json(path)
            write_text(path, dumps(old | {"details": old["details"] | {"human": human}}) + "\n")
        share = f"{human['value']:.3f} [{human['low']:.3f}, {human['high']:.3f}]"
        lines.append(f"{name}: people agree with {human['agree']} of {human['judged']} labels: {share}")
    return "\n".join(lines) + "\n"
