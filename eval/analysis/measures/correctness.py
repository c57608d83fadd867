"""Evidence on whether labels are right: flips by self-correction, and agreement with classifiers trained on original rows."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp

from sklearn.metrics import cohen_kappa_score

from eval.analysis.intervals import share_measure
from eval.analysis.results import AnalysisResult, Measure, combine_results, not_measured
from eval.analysis.sets import SetPair, group_by_instance, label_name, row_json
from eval.scoring.prediction import predict_cell
from targen.config.settings import Settings
from targen.runtime.jsonl import read_json, read_jsonl
from targen.tasks.task import Example, Row, Task
from train.grid.cells import Cell, cells, read_done_marker

log = logging.getLogger(__name__)
PART = "correctness"
UNREADABLE = "(not readable)"


@dataclass(frozen=True)
class Verdict:
    """The label of a row and a classifier's prediction; `confidence` is the probability of the prediction."""

    idx: int
    label: str
    prediction: str
    agrees: bool
    confidence: float


def correctness(settings: Settings, pair: SetPair, in_run: bool) -> AnalysisResult:
    """Flips by self-correction, and the agreement with classifiers that the run trained on original rows."""
    return combine_results([flips(pair), agreement(settings, pair) if in_run else _no_classifier()])


def _no_classifier() -> AnalysisResult:
    why = "two folders have no trained classifier. Run python -m eval.analyze for a run with a cell of the arm original"
    return not_measured(f"{PART}.agreement", why)


def flips(pair: SetPair) -> AnalysisResult:
    """The share of labels that self-correction changed, of all that it checked, and per requested label."""
    folder = pair.b.folder
    if folder is None or not (folder / "stats.json").is_file():
        return not_measured(f"{PART}.flips", f"{pair.b.name} has no stats.json of a generation")
    stats = read_json(folder / "stats.json")
    if not stats.get("checked"):
        return not_measured(f"{PART}.flips", "self-correction was off. To use it, set synth.self_correct=paper")
    measures = [
        share_measure(PART, "flips", "labels changed by self-correction", {"b": (stats["flips"], stats["checked"])},
               "of all checked instances, including those that were replaced later")
    ]  # fmt: skip
    for label, count in stats.get("checked_per_label", {}).items():
        title = f"of those requested as {label}, changed"
        measures.append(
            share_measure(PART, f"flips.{label}", title, {"b": (stats["flips_per_label"].get(label, 0), count)})
        )
    pairs: Counter[tuple[str, str]] = Counter()
    if pair.task.labels:
        instances = group_by_instance(pair.b.stories, pair.task)
        pairs.update((lines[0]["label_before"], lines[0]["label_after"]) for lines in instances)
    table = [{"before": before, "after": after, "instances": count} for (before, after), count in sorted(pairs.items())]
    details = {
        "checked": stats["checked"],
        "flips": stats["flips"],
        "flips_per_label": stats.get("flips_per_label", {}),
    }
    return AnalysisResult(tuple(measures), {"flips": details | {"kept": table}})


def agreement(settings: Settings, pair: SetPair) -> AnalysisResult:
    """The share of synthetic rows whose label is predicted by the classifiers of the arm original."""
    classifiers = [cell for cell in cells(settings) if cell.arm == "original" and pair.task.name in cell.tasks]
    trained = [cell for cell in classifiers if read_done_marker(settings.paths, cell) is not None]
    rows = pair.samples()["b"]
    labelled = [row for row in rows if label_name(pair.task, row) is not None]
    if not trained and pair.a is None:
        return not_measured(f"{PART}.agreement", pair.why_alone)
    if not trained or not labelled:
        why = (
            "no cell of the arm original is trained. Run phases=[train] 'arms=[original]'"
            if labelled
            else "no row has a label"
        )
        return not_measured(f"{PART}.agreement", why)
    examples = [example for row in labelled for example in pair.task.examples(row)]
    by_id = {example.id: (row, example) for row in labelled for example in pair.task.examples(row)}
    return combine_results([_cell_agreement(settings, pair, cell, examples, by_id) for cell in trained])


def _cell_agreement(
    settings: Settings, pair: SetPair, cell: Cell, examples: Sequence[Example], rows: dict[int, tuple[Row, Example]]
) -> AnalysisResult:
    judged = verdicts(settings, cell, pair.task, examples)
    measures = [_agreement_measure(cell, "", judged)]
    labels = [label.name for label in pair.task.classes]
    kappa = None
    if labels:
        measures += [
            _agreement_measure(cell, label, [verdict for verdict in judged if verdict.label == label])
            for label in labels
        ]
        actual, predicted = [verdict.label for verdict in judged], [verdict.prediction for verdict in judged]
        if len({*actual, *predicted}) > 1:
            kappa = round(float(cohen_kappa_score(actual, predicted, labels=[*labels, UNREADABLE])), 4)
    disagreements = [verdict for verdict in judged if not verdict.agrees]
    disagreements.sort(key=lambda verdict: (-verdict.confidence, verdict.idx))
    table = Counter((verdict.label, verdict.prediction) for verdict in judged)
    details = {
        "kappa": kappa,
        "table": [{"label": label, "said": prediction, "rows": count} for (label, prediction), count in sorted(table.items())] if labels else [],
        "score_on_original": _score(settings, cell, pair.task),
        "disagreements": [
            {"said": verdict.prediction, "confidence": round(verdict.confidence, 4), **row_json(pair.task, *rows[verdict.idx])}
            for verdict in disagreements[: settings.analysis.top]
        ],
    }  # fmt: skip
    return AnalysisResult(tuple(measures), {f"agreement {cell.name}": details})


def _agreement_measure(cell: Cell, label: str, judged: Sequence[Verdict]) -> Measure:
    title = f"{cell.name} agrees" + (f" with {label}" if label else "")
    name = f"agreement.{cell.name}" + (f".{label}" if label else "")
    counts = (sum(verdict.agrees for verdict in judged), len(judged))
    return share_measure(
        PART, name, title, {"b": counts if judged else None}, "a wrong label and a weak classifier both lower it"
    )


def verdicts(settings: Settings, cell: Cell, task: Task, examples: Sequence[Example]) -> list[Verdict]:
    """A trained cell's predictions for labelled examples; an unreadable answer agrees with no label."""
    result = []
    for prediction in predict_cell(settings, cell, task, examples):
        best = max(prediction.scores.values(), default=0.0)
        total = sum(exp(score - best) for score in prediction.scores.values())
        confidence = 1 / total if prediction.scores else 0.0
        answer = prediction.prediction
        agrees = answer is not None and answer in prediction.gold
        result.append(Verdict(prediction.idx, prediction.gold[0], answer or UNREADABLE, agrees, confidence))
    return result


def _score(settings: Settings, cell: Cell, task: Task) -> float | None:
    """The cell's score on the original evaluation rows; None if it was not scored."""
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
