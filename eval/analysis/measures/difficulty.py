"""Difficulty: how much of a label a model can read out of a row, in bits.

V-usable information is the mean of PVI(x -> y) = -log2 g[null](y) + log2 g'[x](y), where g' was trained on rows and g on
the same labels with empty texts. Source: K. Ethayarajh et al., arXiv 2110.08420. Here every row is held out once: the rows
are dealt into folds, and a fold's models are trained on the other folds, so that no model is asked what it was taught.
Both sets are of equal size, and so are their training sets; intervals are over the rows, for the models as they were trained.

Where each choice is scored by itself (COPA, ReCoRD), empty choices cannot be told apart: g is uniform, and is not trained.
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

from eval.analysis.intervals import measure, ratio, shares
from eval.analysis.results import Found, Measure, Missing
from eval.analysis.sets import Pair, grouped, label_name, shown
from targen.config.arms import ArmName
from targen.config.settings import Settings
from targen.runtime.jsonl import Json, read_jsonl, write_jsonl
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from targen.tasks.task import Example, Row, Task
from train.families.checks import check_loadable
from train.families.registry import family_named
from train.grid.cells import Cell, done, fingerprint
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
FEWEST = 4  # labelled instances for each fold


@dataclass(frozen=True)
class Asked:
    """What the two models gave the right answer of an example, in bits (log2), and whether the one that read it was right."""

    idx: int
    instance: int
    null: float
    read: float
    right: bool

    @property
    def pvi(self) -> float:
        return self.read - self.null


def difficulty(settings: Settings, pair: Pair, stop: StopRequest) -> Found:
    """V-usable information, PVI of every row, the hardest and the easiest. Raises: Stopped after a signal."""
    own = _own_settings(settings)
    if own.model.family != "encoder":
        why = f"{own.model.name} is no encoder. Name one: analysis.model=deberta_v3_large"
        return Found(missing=(Missing(PART, why),))
    folds = settings.analysis.folds
    rows = pair.samples(settings.analysis.difficulty_rows)
    count = len(rows["b"]) // pair.task.rows_per_slot
    if hidden := [side for side in rows if any(label_name(pair.task, row) is None for row in rows[side])]:
        named = " and ".join(f"{side} ({pair.sets[side].name})" for side in hidden)
        return Found(missing=(Missing(PART, f"{named} has rows without labels"),))
    if count < FEWEST * folds:
        why = f"{count} instances in a set, expected at least {FEWEST * folds} for analysis.folds={folds}"
        return Found(missing=(Missing(PART, why),))
    check_loadable(own.model, own.train)
    kinds = 1 if pair.task.choices == "texts" else 2
    with Progress(PART, "steps") as progress:
        context = TrainContext(Processes(), stop, progress)
        logger.info(
            "%s: %s: %d models of %s",
            PART,
            pair.task.name,
            folds * kinds * len(rows) + (len(rows) == 2) * 2,
            own.model.name,
        )
        asked = {side: _asked_all(own, context, pair, side, found) for side, found in rows.items()}
        crossed = _crossed(own, context, pair, rows)
    details: Json = {
        side: _details(pair.task, rows[side], found, settings.analysis.top) for side, found in asked.items()
    }
    edges = _edges([one.pvi for found in asked.values() for one in found])
    histogram = {side: np.histogram([one.pvi for one in found], edges)[0].tolist() for side, found in asked.items()}
    details["histogram"] = {"edges": [round(float(edge), 4) for edge in edges], **histogram}
    details |= {"model": own.model.name, "folds": folds}
    return Found((*_measures(pair, asked, f"{own.model.name}, {folds} folds"), *crossed), {"pvi": details})


def _own_settings(settings: Settings) -> Settings:
    """The plain training of the model that is named, below <run.dir>/analysis/difficulty."""
    train = replace(
        settings.train, checker_model=settings.analysis.model, init_from=None, setting="single", max_rows=None
    )
    own = checker_settings(replace(settings, train=train))
    return replace(own, run=replace(own.run, dir=str(settings.paths.analysis / PART)))


def _measures(pair: Pair, asked: dict[str, list[Asked]], note: str) -> tuple[Measure, ...]:
    values: tuple[tuple[str, str, str, Callable[[Asked], float]], ...] = (
        ("v_information", "V-usable information", "bits", lambda one: one.pvi),
        ("label_entropy", "entropy of the label without the text", "bits", lambda one: -one.null),
        ("conditional_entropy", "entropy of the label given the text", "bits", lambda one: -one.read),
        ("accuracy", "accuracy on held-out rows", "share", lambda one: float(one.right)),
    )
    found = []
    for name, title, unit, of in values:
        sides = {}
        for side, own in asked.items():
            instances = max(one.instance for one in own) + 1
            sums, counts = np.zeros(instances), np.zeros(instances)
            for one in own:
                sums[one.instance] += of(one)
                counts[one.instance] += 1
            sides[side] = ratio(sums, counts, pair.draws(PART, name, side))
        found.append(measure(PART, name, title, unit, sides, note))
    return tuple(found)


def _crossed(settings: Settings, context: TrainContext, pair: Pair, rows: dict[str, list[Row]]) -> list[Measure]:
    """How often a model that was trained on one set gives the labels of the other: a wrong label, or another kind of row."""
    if len(rows) < 2:
        return []
    counts = {}
    trained: tuple[tuple[str, str, ArmName], ...] = (("a", "b", "synthetic"), ("b", "a", "original"))
    for side, other, arm in trained:
        asked = _log2_of_right(settings, context, pair.task, arm, tuple(rows[other]), tuple(rows[side]), blank=False)
        counts[side] = sum(one["right"] for one in asked), len(asked)
    title = "labels that a model trained on the other set gives"
    return [shares(PART, "accuracy_of_other", title, counts, settings.model.name)]


def _edges(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    return np.histogram_bin_edges(values, BINS)


def _details(task: Task, rows: Sequence[Row], asked: Sequence[Asked], top: int) -> Json:
    by_idx = {example.id: row for row in rows for example in task.examples(row)}
    ranked = sorted(asked, key=lambda one: (one.pvi, one.idx))

    def listed(some: Sequence[Asked]) -> list[Json]:
        return [
            {"pvi": round(one.pvi, 4), "right": one.right, "example": one.idx, **shown(task, by_idx[one.idx])}
            for one in some
        ]

    every = [[one.idx, round(one.pvi, 4)] for one in sorted(asked, key=lambda one: one.idx)]
    return {"hardest": listed(ranked[:top]), "easiest": listed(ranked[::-1][:top]), "rows": every}


def _asked_all(settings: Settings, context: TrainContext, pair: Pair, side: str, rows: Sequence[Row]) -> list[Asked]:
    """Every row, asked of models that were trained on the other folds."""
    task, every = pair.task, grouped(rows, pair.task)
    labels = [label_name(task, instance[0]) if task.labels else None for instance in every]
    dealt = folds_of(labels, settings.analysis.folds, pair.draws(PART, "folds", side))
    found = []
    for fold in range(settings.analysis.folds):
        held = [(place, row) for place, instance in enumerate(every) if dealt[place] == fold for row in instance]
        taught = tuple(row for place, instance in enumerate(every) if dealt[place] != fold for row in instance)
        arm: ArmName = "original" if side == "a" else "synthetic"
        ask = partial(_log2_of_right, settings, context, task, arm, taught, tuple(row for _, row in held))
        read, null = ask(blank=False), None if task.choices == "texts" else ask(blank=True)
        examples = [(place, one) for place, row in held for one in task.examples(row)]
        for number, (place, one) in enumerate(examples):
            alone = log2(len(one.gold) / len(one.choices)) if null is None else null[number]["log2"]
            found.append(Asked(one.id, place, alone, read[number]["log2"], read[number]["right"]))
    return found


def folds_of(labels: Sequence[str | None], folds: int, draws: Random) -> list[int]:
    """The fold of each instance: every label is dealt out in turn, so that all folds have their share of it."""
    places = list(range(len(labels)))
    draws.shuffle(places)
    dealt = [0] * len(labels)
    for turn, place in enumerate(sorted(places, key=lambda place: labels[place] or "")):
        dealt[place] = turn % folds
    return dealt


def _log2_of_right(
    settings: Settings,
    context: TrainContext,
    task: Task,
    arm: ArmName,
    taught: tuple[Row, ...],
    held: tuple[Row, ...],
    blank: bool,
) -> list[Json]:
    """Of each held-out example log2 of the probability of what is right, and whether that was the most probable answer.

    From the disk, where these models were asked these rows before. A model is removed when it was asked.
    """
    part = TaskRows(task, taught, real=arm == "original", blank=blank)
    job = _job(settings, arm, part, held)
    path = settings.paths.predictions(job.cell.name)
    if path.is_file():
        return [line for _, line in read_jsonl(path)]
    if done(settings.paths, job.cell) is None:
        from train.loop.finetune import train_cell

        train_cell(context, job)
    loaded = load_cell_to_device(settings, job.cell)
    examples = replace(part, rows=held).examples()
    encoded = encode_for_prediction(settings, job.cell, loaded, (), task, examples)
    family = family_named(settings.model.family)
    scores = predict_scores(family, loaded, encoded, settings.eval.batch_size, context.processes)
    found = [_line(example, own) for example, own in zip(examples, scores, strict=True)]
    write_jsonl(path, found)
    shutil.rmtree(settings.paths.model(job.cell.name))
    return found


def _line(example: Example, scores: Sequence[float]) -> Json:
    """`scores` are log-probabilities that sum to one in all; of several right choices they are summed."""
    right = max(scores[place] for place in example.gold)
    summed = right + log(sum(exp(scores[place] - right) for place in example.gold))
    best = max(range(len(scores)), key=scores.__getitem__)
    return {"idx": example.id, "log2": summed / log(2), "right": best in example.gold}


def _job(settings: Settings, arm: ArmName, part: TaskRows, held: Sequence[Row]) -> TrainingJob:
    """A cell that is named by all it depends on, the rows that it will be asked included."""
    name = f"pvi-{'null' if part.blank else 'text'}"
    cell = Cell(settings.model.name, name, part.task.name, arm, settings.seeds[0], (part.task.name,))
    mark = fingerprint(settings, cell, part.rows) | {"blank": part.blank}
    digest = hashlib.sha256(json.dumps([mark, held], sort_keys=True).encode()).hexdigest()[:12]
    return TrainingJob(settings, replace(cell, digest=digest), (part,), (), mark)
