"""Whether the labels are right, as far as it can be told: self-correction, a classifier trained on original rows, people."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from sklearn.metrics import cohen_kappa_score

from eval.analysis.intervals import shares
from eval.analysis.results import Found, Measure, Missing, joined
from eval.analysis.sets import Pair, grouped, label_name, shown
from eval.scoring.prediction import predict_cell
from targen.config.settings import Settings
from targen.runtime.jsonl import Json, read_json, read_jsonl
from targen.tasks.task import Example, Task
from train.grid.cells import Cell, cells, done

log = logging.getLogger(__name__)
PART = "correctness"
UNREAD = "(not readable)"


@dataclass(frozen=True)
class Judged:
    """A label and what a classifier says; `confidence` is its probability for what it says."""

    idx: int
    label: str
    said: str
    agrees: bool
    confidence: float


def correctness(settings: Settings, pair: Pair, in_run: bool) -> Found:
    """Flips by self-correction, and the agreement with classifiers that the run trained on original rows."""
    return joined([flips(pair), agreement(settings, pair) if in_run else _outside()])


def _outside() -> Found:
    why = "two folders have no trained classifier. Run python -m eval.analyze for a run with a cell of the arm original"
    return Found(missing=(Missing(f"{PART}.agreement", why),))


def flips(pair: Pair) -> Found:
    """How often self-correction changed a label, of all that it judged, and of those of each label."""
    folder = pair.b.folder
    if folder is None or not (folder / "stats.json").is_file():
        return Found(missing=(Missing(f"{PART}.flips", f"{pair.b.name} has no stats.json of a generation"),))
    stats = read_json(folder / "stats.json")
    if not stats.get("checked"):
        return Found(
            missing=(Missing(f"{PART}.flips", "self-correction was off: synth.self_correct=paper asks for it"),)
        )
    measures = [
        shares(PART, "flips", "labels changed by self-correction", {"b": (stats["flips"], stats["checked"])},
               "of all judged instances, also those that were replaced later")
    ]  # fmt: skip
    for label, count in stats.get("checked_per_label", {}).items():
        title = f"of those asked for as {label}, changed"
        measures.append(shares(PART, f"flips.{label}", title, {"b": (stats["flips_per_label"].get(label, 0), count)}))
    kept = Counter(_judged_labels(pair)) if pair.task.labels else Counter[tuple[str, str]]()
    table = [{"before": one, "after": other, "instances": count} for (one, other), count in sorted(kept.items())]
    details = {
        "checked": stats["checked"],
        "flips": stats["flips"],
        "flips_per_label": stats.get("flips_per_label", {}),
    }
    return Found(tuple(measures), {"flips": details | {"kept": table}})


def _judged_labels(pair: Pair) -> list[tuple[str, str]]:
    """(label before, label after) of each kept instance."""
    assert pair.b.folder is not None
    path = pair.b.folder / "provenance.jsonl"
    stories = [story for _, story in read_jsonl(path)] if path.is_file() else []
    return [(own[0]["label_before"], own[0]["label_after"]) for own in grouped(stories, pair.task)]


def agreement(settings: Settings, pair: Pair) -> Found:
    """The share of synthetic rows whose label the classifiers of the arm original would give as well."""
    own = [cell for cell in cells(settings) if cell.arm == "original" and pair.task.name in cell.tasks]
    ready = [cell for cell in own if done(settings.paths, cell) is not None]
    rows = pair.samples()["b"]
    labelled = [row for row in rows if label_name(pair.task, row) is not None]
    if not ready or not labelled:
        why = (
            "no cell of the arm original is trained. Run phases=[train] 'arms=[original]'"
            if labelled
            else "no row has a label"
        )
        return Found(missing=(Missing(f"{PART}.agreement", why),))
    examples = [one for row in labelled for one in pair.task.examples(row)]
    by_id = {row["idx"]: row for row in labelled}
    return joined([_of_cell(settings, pair, cell, examples, by_id) for cell in ready])


def _of_cell(settings: Settings, pair: Pair, cell: Cell, examples: Sequence[Example], rows: dict[int, Json]) -> Found:
    judged = judged_by(settings, cell, pair.task, examples)
    measures = [_agreeing(cell, "", judged)]
    labels = [label.name for label in pair.task.labels]
    kappa = None
    if labels:
        measures += [_agreeing(cell, label, [one for one in judged if one.label == label]) for label in labels]
        both = [one.label for one in judged], [one.said for one in judged]
        found = (
            float(cohen_kappa_score(*both, labels=[*labels, UNREAD])) if len(set(both[0]) | set(both[1])) > 1 else None
        )
        kappa = None if found is None else round(found, 4)
    against = sorted((one for one in judged if not one.agrees), key=lambda one: (-one.confidence, one.idx))
    table = Counter((one.label, one.said) for one in judged)
    details = {
        "kappa": kappa,
        "table": [{"label": one, "said": two, "rows": count} for (one, two), count in sorted(table.items())] if labels else [],
        "score_on_original": _score(settings, cell, pair.task),
        "disagreements": [
            {"said": one.said, "confidence": round(one.confidence, 4), **(shown(pair.task, rows[one.idx]) if one.idx in rows else {})}
            for one in against[: settings.analysis.top]
        ],
    }  # fmt: skip
    return Found(tuple(measures), {f"agreement {cell.name}": details})


def _agreeing(cell: Cell, label: str, judged: Sequence[Judged]) -> Measure:
    title = f"{cell.name} agrees" + (f" with {label}" if label else "")
    name = f"agreement.{cell.name}" + (f".{label}" if label else "")
    counts = (sum(one.agrees for one in judged), len(judged))
    return shares(
        PART, name, title, {"b": counts if judged else None}, "a wrong label and a weak classifier look alike"
    )


def judged_by(settings: Settings, cell: Cell, task: Task, examples: Sequence[Example]) -> list[Judged]:
    """What a trained cell says of labelled examples; an answer that could not be read agrees with nothing."""
    found = []
    for one in predict_cell(settings, cell, task, examples):
        sure = max(one.scores.values(), default=0.0)
        confidence = 1 / sum(exp(score - sure) for score in one.scores.values()) if one.scores else 0.0
        agrees = one.prediction is not None and one.prediction in one.gold
        found.append(Judged(one.idx, one.gold[0], one.prediction or UNREAD, agrees, confidence))
    return found


def _score(settings: Settings, cell: Cell, task: Task) -> float | None:
    """The cell's accuracy on the original evaluation rows, where it was scored."""
    if not settings.paths.scores.is_file():
        return None
    return next(
        (
            float(row["value"])
            for _, row in read_jsonl(settings.paths.scores)
            if row["cell"] == cell.name and row["task"] == task.name and row["metric"] == task.metrics[0]
        ),
        None,
    )
