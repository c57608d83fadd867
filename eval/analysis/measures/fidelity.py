"""Fidelity: how far two sets of a task are apart, as small students see them.

- Transfer: students that were taught one set answer the questions of the other. Both sets are split into folds. The
  questions of a fold are answered by students that were taught the other folds of either set. So the transferred score
  and the set's own, cross-validated score come from equal numbers of rows and can be compared.
- Two-sample test: a student tells rows of one set from rows of the other, with the same number of rows per label from
  both; 50 % is the goal. Source: D. Lopez-Paz and M. Oquab, Revisiting classifier two-sample tests, arXiv 1610.06545.

Intervals come from a bootstrap over groups of rows that share a context or a text.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from eval.analysis.intervals import Estimate, measure
from eval.analysis.measures.cues import cues
from eval.analysis.measures.semantic import embedder_of
from eval.analysis.results import AnalysisResult, Measure, Missing, combine_results, not_measured
from eval.analysis.sets import DataSet, SetPair, label_name
from targen.config.settings import Settings
from targen.quality.encoder import EmbeddingCache
from targen.quality.instances import Instance, groups_of, instances_of
from targen.quality.scores import (
    ScoreSample,
    StudentAnswer,
    accuracy,
    cross_validated_answers,
    folds,
    group_weights,
    macro_f1,
    transfer_answers,
)
from targen.quality.students import BagOfWords, LinearOnEncoder, Student, classifier, vectorizer_of
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task
from train.models.embeddings import embeddings

PART = "fidelity"
MIN_QUESTIONS = 20  # in each set
OTHER = {"a": "b", "b": "a"}


def fidelity(settings: Settings, pair: SetPair) -> AnalysisResult:
    """Own scores, transfer, the two-sample test and the cues of both sets."""
    top = settings.analysis.top
    rows = pair.samples(settings.analysis.fidelity_rows)
    groups = {side: _contexts(pair.sets[side], sample) for side, sample in rows.items()}
    questions = {side: instances_of(pair.task, sample, groups[side]) for side, sample in rows.items()}
    too_small = [side for side, instances in questions.items() if len(instances) < MIN_QUESTIONS]
    if too_small:
        counts = " and ".join(f"{len(questions[side])} in {side}" for side in too_small)
        return not_measured(PART, f"{counts} labelled questions, expected at least {MIN_QUESTIONS}")
    results = [AnalysisResult(missing=_unequal_labels(questions))]
    for student in students(settings):
        results.append(_scores(pair, questions, student))
        if len(rows) == 2:
            results.append(_two_sample_test(pair, rows, groups, student, top))
    cue_result = cues(pair, rows, top)
    result = combine_results(results)
    details = {PART: result.details | cue_result.details}
    return AnalysisResult(result.measures, details, (*result.missing, *cue_result.missing))


def students(settings: Settings) -> list[Student]:
    """The students of analysis.students; embeddings are kept in the run's folder."""
    result: list[Student] = []
    if "bag_of_words" in settings.analysis.students:
        result.append(BagOfWords())
    if "encoder" in settings.analysis.students:
        model = embedder_of(settings.analysis.embedder)
        cache = EmbeddingCache(settings.paths.embeddings, model, partial(embeddings, model))
        result.append(LinearOnEncoder(cache.embed))
    return result


def _unequal_labels(questions: Mapping[str, Sequence[Instance]]) -> tuple[Missing, ...]:
    """Labels that a set lacks."""
    lacking = []
    for side, instances in questions.items():
        if len(instances[0].options) == 1:
            labels = {instance.gold[0] for instance in instances}
            if len(labels) < instances[0].answers:
                lacking.append(f"{side} has {len(labels)} of {instances[0].answers} labels")
    return (Missing(PART, "; ".join(lacking)),) if lacking else ()


def _contexts(data_set: DataSet, rows: Sequence[Row]) -> list[str | None] | None:
    """The context of each row as far as the set's provenance says."""
    by_idx = {story["idx"]: story.get("context") for story in data_set.stories}
    return [by_idx.get(row["idx"]) for row in rows] if by_idx else None


def _scores(pair: SetPair, questions: Mapping[str, Sequence[Instance]], student: Student) -> AnalysisResult:
    """Own and transferred scores of a student, and the share of the own score that transfer keeps."""
    fold_of = {side: folds(instances, pair.draws(PART, "folds", side)) for side, instances in questions.items()}
    answers: dict[str, dict[str, list[StudentAnswer]]] = {"own": {}, "transfer": {}}
    for side, instances in questions.items():
        answers["own"][side] = cross_validated_answers(student, instances, fold_of[side])
        if (other_side := OTHER[side]) in questions:
            source, folds_of_source = questions[other_side], fold_of[other_side]
            answers["transfer"][side] = transfer_answers(student, source, folds_of_source, instances, fold_of[side])
    titles = {"own": "cross-validated", "transfer": "taught the other set"}
    labels = len(pair.task.labels)
    scores: dict[str, dict[str, dict[str, ScoreSample]]] = {}
    for kind, by_side in answers.items():
        for side, side_answers in by_side.items():
            weights = group_weights(side_answers, pair.draws(PART, "resamples", side))
            scores.setdefault("accuracy", {}).setdefault(kind, {})[side] = accuracy(side_answers, weights)
            if labels:
                scores.setdefault("f1", {}).setdefault(kind, {})[side] = macro_f1(side_answers, labels, weights)
    measures = []
    for metric in ("f1", "accuracy"):
        for kind, sides in scores.get(metric, {}).items():
            title = f"{'macro-F1' if metric == 'f1' else 'accuracy'} of {student.name}, {titles[kind]}"
            measures.append(_measure(questions, f"{kind}_{metric}", title, "share", student, sides))
        by_kind = scores.get(metric, {})
        if "transfer" in by_kind:
            ratios = {side: _ratio(score, by_kind["own"][side]) for side, score in by_kind["transfer"].items()}
            title = f"{'macro-F1' if metric == 'f1' else 'accuracy'} of {student.name}: other set / own"
            kept = _measure(questions, f"kept_{metric}", title, "ratio", student, ratios)
            measures.append(replace(kept, difference=None))
    baselines = {side: _baselines(instances) for side, instances in questions.items()}
    return AnalysisResult(tuple(measures), {"baselines": baselines})


def _ratio(upper: ScoreSample, lower: ScoreSample) -> ScoreSample:
    return ScoreSample(upper.value / max(lower.value, 1e-9), upper.resampled / np.maximum(lower.resampled, 1e-9))


def _baselines(instances: Sequence[Instance]) -> Json:
    """Accuracy and macro-F1 of chance and of the most frequent label."""
    chance = sum(len(instance.gold) / instance.answers for instance in instances) / len(instances)
    if len(instances[0].options) > 1:
        return {"chance": round(chance, 4)}
    counts = Counter(instance.gold[0] for instance in instances)
    share = max(counts.values()) / len(instances)
    return {
        "chance": round(chance, 4),
        "majority_accuracy": round(share, 4),
        "majority_f1": round(2 * share / (1 + share) / len(counts), 4),
    }


def _measure(
    questions: Mapping[str, Sequence[Instance]],
    name: str,
    title: str,
    unit: str,
    student: Student,
    sides: Mapping[str, ScoreSample],
) -> Measure:
    estimates = {side: Estimate(score.value, score.resampled, len(questions[side])) for side, score in sides.items()}
    return measure(PART, f"{name}.{student.name.replace(' ', '_')}", title, unit, estimates)


def _two_sample_test(
    pair: SetPair,
    rows: Mapping[str, Sequence[Row]],
    contexts: Mapping[str, Sequence[str | None] | None],
    student: Student,
    top: int,
) -> AnalysisResult:
    """The share of rows that a student assigns to the right set, and the words that it goes by."""
    sampled = _equal_labels(pair, rows)
    instances: list[Instance] = []
    for number, side in enumerate(("a", "b")):
        groups = groups_of(pair.task, rows[side], contexts[side])
        start = 1 + max((instance.group for instance in instances), default=-1)
        instances += [
            Instance((_texts(pair.task, rows[side][index]),), (number,), 2, start + groups[index], index)
            for index in sampled[side]
        ]
    fold_of = folds(instances, pair.draws(PART, "folds", "two samples"))
    answers = cross_validated_answers(student, instances, fold_of)
    weights = group_weights(answers, pair.draws(PART, "resamples", "two samples"))
    score = accuracy(answers, weights)
    estimate = Estimate(score.value, score.resampled, len(answers))
    accuracy_measure = measure(
        PART,
        f"told_apart.{student.name.replace(' ', '_')}",
        f"rows that {student.name} tells apart",
        "share",
        {"b": estimate},
        "0.5: the sets cannot be told apart; labels are equally frequent in both",
    )
    details = {"tells_apart": _giveaways(pair.task, instances, top)} if isinstance(student, BagOfWords) else {}
    return AnalysisResult((accuracy_measure,), details)


def _equal_labels(pair: SetPair, rows: Mapping[str, Sequence[Row]]) -> dict[str, list[int]]:
    """Indices of the rows of each set, drawn so that every label is equally frequent in both."""
    by_label: dict[str, dict[str | None, list[int]]] = {"a": {}, "b": {}}
    for side, sample in rows.items():
        for index, row in enumerate(sample):
            label = label_name(pair.task, row) if pair.task.choices == "labels" and pair.task.labels else None
            by_label[side].setdefault(label, []).append(index)
    sampled: dict[str, list[int]] = {"a": [], "b": []}
    for label in by_label["a"]:
        count = min(len(labels.get(label, [])) for labels in by_label.values())
        for side, labels in by_label.items():
            sampled[side] += labels.get(label, [])[:count]
    return sampled


def _texts(task: Task, row: Row) -> tuple[str, ...]:
    view = task.view(row)
    return tuple(view[name] for name in task.row)


def _giveaways(task: Task, instances: Sequence[Instance], top: int) -> Json:
    """The words with the largest weights for either set, with the number of rows of each set that have them."""
    vectorizer = vectorizer_of()
    features = vectorizer.fit_transform([instance.options[0] for instance in instances])
    sides = np.array([instance.gold[0] for instance in instances])
    weights = classifier(BagOfWords().strength).fit(features, sides).coef_[0]
    names, present = vectorizer.get_feature_names_out(), features > 0
    counts = {side: np.asarray(present[sides == number].sum(axis=0)).ravel() for number, side in enumerate("ab")}
    order = np.argsort(weights, kind="stable")
    return {
        side: [
            {
                "term": _term_with_fields(task, str(names[index])),
                "weight": round(float(weights[index]), 3),
                "a": int(counts["a"][index]),
                "b": int(counts["b"][index]),
            }
            for index in indices
        ]
        for side, indices in (("a", order[:top]), ("b", order[::-1][:top]))
    }


def _term_with_fields(task: Task, term: str) -> str:
    """The term with the names of its fields."""
    numbers, _, words = term.partition(":")
    return f"{'+'.join(task.row[int(number) - 1] for number in numbers.split('+'))}: {words}"
