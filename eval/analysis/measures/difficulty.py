"""Difficulty: how much information about the label a model extracts from a row, in bits.

V-usable information is the mean of PVI(x -> y) = -log2 g[null](y) + log2 g'[x](y), where g' was trained on rows and g on
the same labels with empty texts. Source: K. Ethayarajh et al., arXiv 2110.08420. Here every row is held out once:
the rows are split into folds, and the models of a fold are trained on the other folds, so no model predicts rows it was
trained on. Both sets have equal size, and so do their training sets. Intervals are over rows, for the models as trained.

If each choice is scored by itself (COPA, ReCoRD), empty choices are indistinguishable: g is uniform and not trained.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import exp, log, log2
from random import Random

import numpy as np

from eval.analysis.intervals import measure, ratio, share_measure
from eval.analysis.results import AnalysisResult, Measure, not_measured
from eval.analysis.sets import SetPair, group_by_instance, label_name, row_json
from targen.config.arms import ArmName
from targen.config.settings import Settings
from targen.runtime.jsonl import Json, read_jsonl, write_jsonl
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from targen.tasks.task import Example, Row, Task
from train.families.checks import check_loadable
from train.families.registry import family_of
from train.grid.cells import Cell, fingerprint, read_done_marker
from train.grid.checkers import TrainingJob, checker_settings
from train.grid.encoding import encode_for_prediction
from train.grid.pending_jobs import TrainContext
from train.grid.rows import TaskRows
from train.loop.predictions import predict_scores
from train.loop.saving import load_cell_to_device
from train.runtime.processes import Processes

logger = logging.getLogger(__name__)
PART = "difficulty"
BINS = 24  # of the histogram
MIN_PER_FOLD = 4  # labelled instances


@dataclass(frozen=True)
class ExampleInformation:
    """log2 of the probability of the gold answer of an example: without the text, `null`, and with it, `text`.

    `is_right`: whether the model that sees the text predicts the gold answer.
    """

    idx: int
    instance: int
    null: float
    text: float
    is_right: bool

    @property
    def pvi(self) -> float:
        """Pointwise V-information in bits. Source: arXiv 2110.08420, definition 4.1."""
        return self.text - self.null


def difficulty(settings: Settings, pair: SetPair, stop: StopRequest) -> AnalysisResult:
    """V-usable information, the PVI of every row, and the hardest and easiest rows. Raises: Stopped after a signal."""
    classifier = _classifier_settings(settings)
    if not classifier.model.has_head:
        why = f"{classifier.model.name} is not an encoder. Name one: analysis.model=deberta_v3_large"
        return not_measured(PART, why)
    folds = settings.analysis.folds
    rows = pair.samples(settings.analysis.difficulty_rows)
    count = len(rows["b"]) // pair.task.rows_per_slot
    if hidden := [side for side in rows if any(label_name(pair.task, row) is None for row in rows[side])]:
        set_names = " and ".join(f"{side} ({pair.sets[side].name})" for side in hidden)
        return not_measured(PART, f"{set_names} has rows without labels")
    if count < MIN_PER_FOLD * folds:
        why = f"{count} instances in a set, expected at least {MIN_PER_FOLD * folds} for analysis.folds={folds}"
        return not_measured(PART, why)
    check_loadable(classifier.model, classifier.train)
    models_per_fold = 1 if pair.task.choices == "texts" else 2
    with Progress(PART, "steps") as progress:
        context = TrainContext(Processes(), stop, progress)
        logger.info(
            "%s: %s: %d models of %s",
            PART,
            pair.task.name,
            folds * models_per_fold * len(rows) + (len(rows) == 2) * 2,
            classifier.model.name,
        )
        information = {
            side: _held_out_information(classifier, context, pair, side, sample) for side, sample in rows.items()
        }
        crossed = _transfer(classifier, context, pair, rows)
    details: Json = {
        side: _details(pair.task, rows[side], examples, settings.analysis.top) for side, examples in information.items()
    }
    pvi = {side: [example.pvi for example in examples] for side, examples in information.items()}
    edges = np.histogram_bin_edges([value for values in pvi.values() for value in values], BINS)
    histogram = {side: np.histogram(values, edges)[0].tolist() for side, values in pvi.items()}
    details["histogram"] = {"edges": [round(float(edge), 4) for edge in edges], **histogram}
    details |= {"model": classifier.model.name, "folds": folds}
    return AnalysisResult(
        (*_measures(pair, information, f"{classifier.model.name}, {folds} folds"), *crossed), {"pvi": details}
    )


def _classifier_settings(settings: Settings) -> Settings:
    """Settings that train the model of analysis.model in the plain way, below <run.dir>/analysis/difficulty."""
    train = replace(
        settings.train, checker_model=settings.analysis.model, init_from=None, setting="single", max_rows=None
    )
    checker = checker_settings(replace(settings, train=train))
    return replace(checker, run=replace(checker.run, dir=str(settings.paths.analysis / PART)))


def _measures(pair: SetPair, information: dict[str, list[ExampleInformation]], note: str) -> tuple[Measure, ...]:
    values: tuple[tuple[str, str, str, Callable[[ExampleInformation], float]], ...] = (
        ("v_information", "V-usable information", "bits", lambda example: example.pvi),
        ("label_entropy", "entropy of the label without the text", "bits", lambda example: -example.null),
        ("conditional_entropy", "entropy of the label given the text", "bits", lambda example: -example.text),
        ("accuracy", "accuracy on held-out rows", "share", lambda example: float(example.is_right)),
    )
    measures = []
    for name, title, unit, value_of in values:
        sides = {}
        for side, examples in information.items():
            instances = max(example.instance for example in examples) + 1
            sums, counts = np.zeros(instances), np.zeros(instances)
            for example in examples:
                sums[example.instance] += value_of(example)
                counts[example.instance] += 1
            sides[side] = ratio(sums, counts, pair.draws(PART, name, side))
        measures.append(measure(PART, name, title, unit, sides, note))
    return tuple(measures)


def _transfer(settings: Settings, context: TrainContext, pair: SetPair, rows: dict[str, list[Row]]) -> list[Measure]:
    """The accuracy on each set of a model trained on the other set; wrong labels lower it, and so do different rows."""
    if len(rows) < 2:
        return []
    counts = {}
    directions: tuple[tuple[str, str, ArmName], ...] = (("a", "b", "synthetic"), ("b", "a", "original"))
    for side, other_side, arm in directions:
        predictions = _gold_probabilities(
            settings, context, pair.task, arm, tuple(rows[other_side]), tuple(rows[side]), blank=False
        )
        counts[side] = sum(line["right"] for line in predictions), len(predictions)
    title = "accuracy of a model trained on the other set"
    return [share_measure(PART, "accuracy_of_other", title, counts, settings.model.name)]


def _details(task: Task, rows: Sequence[Row], examples: Sequence[ExampleInformation], top: int) -> Json:
    by_idx = {example.id: (row, example) for row in rows for example in task.examples(row)}
    ranked = sorted(examples, key=lambda example: (example.pvi, example.idx))

    def rows_json(extremes: Sequence[ExampleInformation]) -> list[Json]:
        return [
            {
                "pvi": round(example.pvi, 4),
                "right": example.is_right,
                "example": example.idx,
                **row_json(task, *by_idx[example.idx]),
            }
            for example in extremes
        ]

    pvi_of_row: dict[int, float] = {}  # of a row with several examples that of its hardest
    for example in reversed(ranked):
        pvi_of_row[by_idx[example.idx][0]["idx"]] = round(example.pvi, 4)
    by_row = [[idx, pvi] for idx, pvi in sorted(pvi_of_row.items())]
    return {"hardest": rows_json(ranked[:top]), "easiest": rows_json(ranked[::-1][:top]), "rows": by_row}


def _held_out_information(
    settings: Settings, context: TrainContext, pair: SetPair, side: str, rows: Sequence[Row]
) -> list[ExampleInformation]:
    """The information of every row, from models that were trained on the other folds."""
    task, instances = pair.task, group_by_instance(rows, pair.task)
    labels = [label_name(task, instance[0]) if task.labels else None for instance in instances]
    fold_of = folds_of(labels, settings.analysis.folds, pair.draws(PART, "folds", side))
    information = []
    folded = [(fold_of[index], index, row) for index, instance in enumerate(instances) for row in instance]
    for fold in range(settings.analysis.folds):
        held_out = [(index, row) for row_fold, index, row in folded if row_fold == fold]
        held_rows = tuple(row for _, row in held_out)
        train_rows = tuple(row for row_fold, _, row in folded if row_fold != fold)
        arm: ArmName = "original" if side == "a" else "synthetic"
        predict = partial(_gold_probabilities, settings, context, task, arm, train_rows, held_rows)
        with_text = predict(blank=False)
        without_text = None if task.choices == "texts" else predict(blank=True)
        examples = [(instance, example) for instance, row in held_out for example in task.examples(row)]
        for number, (instance_index, example) in enumerate(examples):
            uniform = log2(len(example.gold) / len(example.choices))
            null, text = uniform if without_text is None else without_text[number]["log2"], with_text[number]
            information.append(ExampleInformation(example.id, instance_index, null, text["log2"], text["right"]))
    return information


def folds_of(labels: Sequence[str | None], folds: int, draws: Random) -> list[int]:
    """The fold of each instance, stratified by label."""
    indices = list(range(len(labels)))
    draws.shuffle(indices)
    fold_of = [0] * len(labels)
    for turn, index in enumerate(sorted(indices, key=lambda index: labels[index] or "")):
        fold_of[index] = turn % folds
    return fold_of


def _gold_probabilities(
    settings: Settings,
    context: TrainContext,
    task: Task,
    arm: ArmName,
    train_rows: tuple[Row, ...],
    held_out: tuple[Row, ...],
    blank: bool,
) -> list[Json]:
    """For each held-out example, log2 of the probability of its gold answer, and whether that was the most probable one.

    Read from disk if these models predicted these rows before. A model is deleted after its predictions.
    """
    part = TaskRows(task, train_rows, real=arm == "original", blank=blank)
    job = _job(settings, arm, part, held_out)
    path = settings.paths.predictions(job.cell.name)
    if path.is_file():
        return [line for _, line in read_jsonl(path)]
    if read_done_marker(settings.paths, job.cell) is None:
        from train.loop.finetune import train_cell

        train_cell(context, job)
    loaded = load_cell_to_device(settings, job.cell)
    examples = replace(part, rows=held_out).examples()
    encoded = encode_for_prediction(settings, job.cell, loaded, (), task, examples)
    family = family_of(settings)
    scores = predict_scores(family, loaded, encoded, settings.eval.batch_size, context.processes)
    lines = [_line(example, choice_scores) for example, choice_scores in zip(examples, scores, strict=True)]
    write_jsonl(path, lines)
    shutil.rmtree(settings.paths.model(job.cell.name))
    return lines


def _line(example: Example, scores: Sequence[float]) -> Json:
    """`scores` are log-probabilities of the choices, normalised; those of several gold choices are summed."""
    highest = max(scores[choice] for choice in example.gold)
    summed = highest + log(sum(exp(scores[choice] - highest) for choice in example.gold))
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"idx": example.id, "log2": summed / log(2), "right": best in example.gold}


def _job(settings: Settings, arm: ArmName, part: TaskRows, held_out: Sequence[Row]) -> TrainingJob:
    """The training of a cell whose name has the hash of everything it depends on, including the rows it will predict."""
    name = f"pvi-{'null' if part.blank else 'text'}"
    cell = Cell(settings.model.name, name, part.task.name, arm, settings.seeds[0], (part.task.name,))
    cell_fingerprint = fingerprint(settings, cell, part.rows) | {"blank": part.blank}
    digest = hashlib.sha256(json.dumps([cell_fingerprint, held_out], sort_keys=True).encode()).hexdigest()[:12]
    return TrainingJob(settings, replace(cell, digest=digest), (part,), (), cell_fingerprint)
