"""Hard cases: rows are made in rounds, and each round after the first asks for more of what students get wrong in the rows so far.

Small students answer questions about rows that they were not taught, nor any of the same context. The next round uses the
contexts in which they fail more often than on average, in proportion to the excess; within each label the variants share in
proportion to their failures. The labels keep their shares, in every round and over contexts, so that no context goes with one
label only. All of it follows from the rows so far, so that a rerun decides the same.
"""

import hashlib
import json
import logging
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from targen.quality.instances import instances_of
from targen.quality.learnability import why_too_few
from targen.quality.scores import StudentAnswer, accuracy, cross_validated_answers, folds, group_weights
from targen.quality.students import Student
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.synthesis.recipe import Candidate, Recipe, Round
from targen.synthesis.slots.assignment import Slot, quotas
from targen.tasks.task import LabelCell, Task

log = logging.getLogger(__name__)
DIGITS = 3
MARK = 6  # hexadecimal digits of contexts and failures in the positions of a round's calls
PRIOR = 2  # questions by which the failure rate of each context shrinks towards the overall rate: most have few rows
StudentsFor = Callable[[Sequence[str]], list[Student]]  # the students that can be asked about these texts
Question = tuple[Slot, int]  # an instance, and the number of its question
Answers = Mapping[Question, StudentAnswer]


@dataclass
class HardCases:
    """The rounds of one task: the current one, and the results of the earlier ones. A method without rounds has a single one."""

    recipe: Recipe
    size: int  # rows of the finished set
    students: StudentsFor
    quotas: list[int] = field(init=False)  # instances per label cell at the end of the round
    current: Recipe = field(init=False)
    reports: list[Json] = field(default_factory=list)  # of the rounds that are over
    _later_recipes: dict[Slot, Recipe] = field(default_factory=dict)  # of slots of later rounds
    _answers_before: Mapping[str, Answers] = field(default_factory=dict)  # by student, from the end of the round before

    def __post_init__(self) -> None:
        self.quotas, self.current = first_quotas(self.recipe, self.size), self.recipe

    def recipe_of(self, slot: Slot) -> Recipe:
        """The recipe of the round in which a slot is made."""
        return self._later_recipes.get(slot, self.recipe)

    def round_of(self, slot: Slot) -> int:
        """The number of the round in which a slot is made, from 1."""
        round_of_slot = self.recipe_of(slot).round
        return round_of_slot.number if round_of_slot is not None else 1

    def open(self, slots: Sequence[Slot]) -> None:
        """Assigns these slots to the current round."""
        if self.current is not self.recipe:
            self._later_recipes.update(dict.fromkeys(slots, self.current))

    def next(self, candidate_of: Callable[[Slot], Candidate], slots: Sequence[Slot], contexts: Sequence[str]) -> bool:
        """Ends the round and begins the next; `slots` have its rows and all earlier ones. False: it was the last one."""
        settings, task = self.recipe.method.rounds, self.recipe.task
        if settings is None or self.recipe.round is None:
            return False
        sampled = _sample(self.recipe, slots, settings.most_rows)
        candidates = {slot: candidate_of(slot) for slot in sampled}
        answers = ask(self.recipe, list(candidates.values()), self.students)
        number = len(self.reports) + 1
        new = {slot for slot in sampled if self.round_of(slot) == number}
        self.reports.append({"round": number, "students": _scores(self.recipe, self._answers_before, answers, new)})
        self._answers_before = answers
        ends = ends_of(self.recipe, self.size)
        _log(task, self.reports[-1], len(ends))
        if number == len(ends):
            return False
        best = max(answers, key=lambda name: _share_right(answers[name].values()), default=None)
        best_answers = answers[best] if best is not None else {}

        def context_of(slot: Slot) -> str:
            return candidates[slot].context

        by_context = failure_rates(best_answers, context_of)
        by_variant = failure_rates(best_answers, lambda slot: task.label_cells[slot.cell].variant)
        before, self.quotas = self.quotas, next_quotas(self.recipe, self.quotas, self.size, ends[number], by_variant)
        added = sum(self.quotas) - sum(before)
        next_contexts = contexts_of_round(self.recipe, best_answers, context_of, contexts, added)
        kinds = kinds_of_failures(self.recipe, candidates, best_answers)
        digest = hashlib.sha256(json.dumps([next_contexts, kinds]).encode()).hexdigest()[:MARK]
        self.current = replace(self.recipe, round=Round(number + 1, next_contexts, kinds, f"h{number + 1}-{digest}-"))
        by_cell = failure_rates(best_answers, lambda slot: str(task.label_cells[slot.cell]))
        self.reports[-1] |= {
            "decided_by": best,
            "failures": {"label_cells": by_cell, "contexts": _largest_first(by_context)},
        }
        return True


def ends_of(recipe: Recipe, size: int) -> list[int]:
    """The rows so far at the end of each round; a pilot ends early."""
    return [*(end for end in recipe.round_ends if end < size), size]


def round_ends(count: int, first: float, size: int, rows_per_slot: int) -> tuple[int, ...]:
    """The rows so far at the end of each round but the last: the share `first` in the first, equal parts of the rest in the others."""
    instances = size // rows_per_slot
    first_end = max(1, round(instances * first))
    ends = [first_end + (instances - first_end) * part // (count - 1) for part in range(count - 1)]
    return tuple(end * rows_per_slot for end in ends)


def first_quotas(recipe: Recipe, size: int) -> list[int]:
    """Instances per label cell in the first round, of no label more than in the whole set."""
    first = recipe.quotas(ends_of(recipe, size)[0])
    return [min(pair) for pair in zip(first, recipe.quotas(size), strict=True)]


def next_quotas(
    recipe: Recipe, before: Sequence[int], size: int, end: int, rates: Mapping[Hashable, float]
) -> list[int]:
    """Instances per label cell with `end` rows: labels keep their shares of the remaining rows, variants share by failure rates."""
    cells, final = recipe.task.label_cells, recipe.quotas(size)
    by_label: dict[str | None, list[LabelCell]] = defaultdict(list)
    for cell in cells:
        by_label[cell.label].append(cell)
    remaining = [sum(final[cell.number] - before[cell.number] for cell in group) for group in by_label.values()]
    further = quotas(remaining, end // recipe.task.rows_per_slot - sum(before))
    goals = list(before)
    for group, part in zip(by_label.values(), further, strict=True):
        weights = [rates.get(cell.variant, 0.0) for cell in group]
        if not any(weights):
            weights = [max(0.0, final[cell.number] - before[cell.number]) for cell in group]
        for cell, count in zip(group, quotas(weights, part) if part else [0] * len(group), strict=True):
            goals[cell.number] += count
    return goals


def contexts_of_round(
    recipe: Recipe, answers: Answers, context_of: Callable[[Slot], str], contexts: Sequence[str], instances: int
) -> tuple[str, ...]:
    """A context for each call for instance seeds of a round: those with an excess of failures, in proportion to it; else all."""
    totals = Counter(context_of(slot) for slot, _ in answers)
    errors = Counter(context_of(slot) for (slot, _), answer in answers.items() if not answer.is_right)
    rate = errors.total() / max(1, totals.total())
    excess = {context: (errors[context] - rate * totals[context]) / (totals[context] + PRIOR) for context in contexts}
    failing = [context for context in contexts if round(excess[context], DIGITS) > 0]
    if not failing:
        return tuple(contexts)
    calls = math.ceil(instances / recipe.deal(recipe.groups[0]).per_call)
    counts = quotas([excess[context] for context in failing], calls)
    return tuple(context for context, count in zip(failing, counts, strict=True) for _ in range(count))


def ask(recipe: Recipe, candidates: Sequence[Candidate], students_for: StudentsFor) -> dict[str, Answers]:
    """The answers of each student to all questions, none of which it was taught; empty if there are too few questions."""
    task = recipe.task
    pairs = [(candidate, row) for candidate in candidates for row in candidate.rows]
    rows = [task.with_idx(row, idx) for idx, (_, row) in enumerate(pairs)]
    questions = instances_of(task, rows, [candidate.context for candidate, _ in pairs])
    if (reason := why_too_few(task, questions)) is not None:
        log.info("generate: %s: no student was asked (%s)", task.name, reason)
        return {}
    fold_of = folds(questions, rng(recipe.seed, task.name, "rounds", "folds"))
    asked_so_far: Counter[Slot] = Counter()
    keys: list[Question] = []
    for question in questions:
        slot = pairs[question.row][0].slot
        keys.append((slot, asked_so_far[slot]))
        asked_so_far[slot] += 1
    students = students_for([text for question in questions for option in question.options for text in option])
    return {
        student.name.replace(" ", "_"): dict(
            zip(keys, cross_validated_answers(student, questions, fold_of), strict=True)
        )
        for student in students
    }


def failure_rates(answers: Answers, key: Callable[[Slot], Hashable]) -> dict[Hashable, float]:
    """The share of wrong answers of the instances with each key."""
    questions, errors = Counter[Hashable](), Counter[Hashable]()
    for (slot, _), answer in answers.items():
        questions[key(slot)] += 1
        errors[key(slot)] += not answer.is_right
    return {name: round(errors[name] / count, DIGITS) for name, count in questions.items()}


def kinds_of_failures(
    recipe: Recipe, candidates: Mapping[Slot, Candidate], answers: Answers
) -> dict[str, tuple[Json, ...]]:
    """In each context, the kinds of instances with a wrong answer, the most frequent first: label, variant, and the answer.

    If one of several texts is right, label and answer are positions, which say nothing, and are left out; if a row's answers
    have the labels (MultiRC), the kind has the answer's label.
    """
    task = recipe.task
    has_label = bool(task.labels) and task.choices == "labels"
    failures: dict[str, dict[str, Json]] = defaultdict(dict)
    for (slot, _), answer in answers.items():
        if answer.is_right:
            continue
        candidate = candidates[slot]
        kind: Json = {
            "label": candidate.label_after if has_label else None,
            "variant": {**recipe.variant_of(slot), **candidate.free_variants},
            "taken_for": task.classes[answer.predicted].name if has_label or task.answer_labels else None,
        }
        kind |= {"answer": task.classes[answer.gold[0]].name} if task.answer_labels else {}
        slots = failures[candidate.context].setdefault(str(kind), kind | {"slots": []})["slots"]
        slots += [str(slot)] if str(slot) not in slots else []
    return {
        context: tuple(sorted(kinds.values(), key=lambda kind: -len(kind["slots"])))
        for context, kinds in failures.items()
    }


def _sample(recipe: Recipe, slots: Sequence[Slot], most_rows: int) -> list[Slot]:
    """At most as many slots as have `most_rows` rows, in their order; those of an earlier sample are drawn again first."""
    most = max(1, most_rows // recipe.task.rows_per_slot)
    shuffled = sorted(slots, key=lambda slot: (rng(recipe.seed, recipe.task.name, "rounds", slot).random(), slot))
    return sorted(shuffled[:most])


def _scores(recipe: Recipe, before: Mapping[str, Answers], after: Mapping[str, Answers], new: set[Slot]) -> Json:
    """The accuracy of each student: on the earlier rows before and after the round, and on the round's new rows."""
    scores: Json = {}
    for name, answers in after.items():
        common = [question for question in answers if question in before.get(name, {})]
        parts = {
            "before": [before[name][question] for question in common],
            "after": [answers[question] for question in common],
            "new": [answer for (slot, _), answer in answers.items() if slot in new],
        }
        scores[name] = {part: _score(recipe, part_answers) for part, part_answers in parts.items()}
    return scores


def _score(recipe: Recipe, answers: Sequence[StudentAnswer]) -> Json | None:
    if not answers:
        return None
    sample = accuracy(answers, group_weights(answers, rng(recipe.seed, recipe.task.name, "rounds", "resamples")))
    value, low, high = (round(number, DIGITS) for number in (sample.value, *sample.bounds))
    return {"value": value, "low": low, "high": high, "questions": len(answers)}


def _share_right(answers: Collection[StudentAnswer]) -> float:
    return sum(answer.is_right for answer in answers) / len(answers)


def _largest_first(rates: Mapping[Hashable, float]) -> dict[str, float]:
    """The rates above zero by name, the largest first."""
    return {str(name): rate for name, rate in sorted(rates.items(), key=lambda pair: -pair[1]) if rate}


def _log(task: Task, report: Json, rounds: int) -> None:
    scores = [
        f"{name.replace('_', ' ')} "
        + ", ".join(f"{part} {100 * score['value']:.1f}" for part, score in parts.items() if score)
        for name, parts in report["students"].items()
    ]
    accuracies = "; accuracy in percent of " + "; ".join(scores) if scores else ""
    log.info("generate: %s: round %d of %d is made%s", task.name, report["round"], rounds, accuracies)
