"""Rows as small students see them: the encoder's two texts of each question, its gold answer, and its group.

Rows that share a context or a text belong to one group. A group is never split between training and test rows, because
a student would then recognise the topic instead of learning the label.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

from targen.runtime.randomness import rng
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example, Row, Task
from targen.text.normalise import words

RUN = 8  # words; rows with the same run of words in a field are a group
MIN_SHARED_WORDS = 4  # rows with the same text are a group if it has at least so many words
MAX_CHOICES = 5  # of a question
MAX_WITH_RUN = 0.2  # of all rows; a run of words that more rows have belongs to the task's form
MAX_JOINED = 1 / 3  # of all rows, in one group


@dataclass(frozen=True)
class Instance:
    """One question. `options` has its texts, once if the answer is a label, else once per choice.

    `gold` are the indices of the right labels or choices, `row` is the index of its row.
    """

    options: tuple[tuple[str, ...], ...]
    gold: tuple[int, ...]
    answers: int  # the number of labels or choices
    group: int
    row: int


def instances_of(task: Task, rows: Sequence[Row], contexts: Sequence[str | None] | None = None) -> list[Instance]:
    """The questions of all rows, without those whose answer is hidden."""
    groups = groups_of(task, rows, contexts)
    instances = []
    for index, row in enumerate(rows):
        for example in task.examples(row):
            if example.gold:
                question = example if task.choices == "labels" else _fewer_choices(example)
                options = tuple(encoder_texts(task, question))
                instances.append(Instance(options, question.gold, len(question.choices), groups[index], index))
    return instances


def _fewer_choices(example: Example) -> Example:
    """The example with one right choice, and as many wrong ones as `MAX_CHOICES` allows, drawn."""
    if len(example.choices) <= MAX_CHOICES and len(example.gold) == 1:
        return example
    wrong = [number for number in range(len(example.choices)) if number not in example.gold]
    sampled = rng(0, example.task, "choices", example.id).sample(wrong, min(len(wrong), MAX_CHOICES - 1))
    indices = sorted([example.gold[0], *sampled])
    return replace(
        example, choices=tuple(example.choices[number] for number in indices), gold=(indices.index(example.gold[0]),)
    )


def groups_of(task: Task, rows: Sequence[Row], contexts: Sequence[str | None] | None = None) -> list[int]:
    """The number of each row's group: rows made together, or with the same context or run of words, share one.

    If that joins too many rows, because there are few contexts or chains of common runs, only runs make groups, or only
    contexts, or neither.
    """
    runs = _rows_by_run(task, rows)
    by_context: dict[str, list[int]] = defaultdict(list)
    for index, context in enumerate(contexts or ()):
        if context:
            by_context[context].append(index)
    for sharing in ([*by_context.values(), *runs], runs, [*by_context.values()]):
        groups = _joined_groups(task, len(rows), sharing)
        if max(Counter(groups).values(), default=0) <= max(task.rows_per_slot, MAX_JOINED * len(rows)):
            return groups
    return _joined_groups(task, len(rows), [])


def _rows_by_run(task: Task, rows: Sequence[Row]) -> list[list[int]]:
    """The rows that have a run of words in the same field, for each run that is not in too many of them."""
    sharing: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        view = task.view(row)
        for name in task.row:
            text_words = words(view[name])
            if len(text_words) >= MIN_SHARED_WORDS:
                last = max(1, len(text_words) - RUN + 1)
                for run in {" ".join(text_words[start : start + RUN]) for start in range(last)}:
                    sharing[name, run].append(index)
    most = max(2 * task.rows_per_slot, MAX_WITH_RUN * len(rows))
    return [members for members in sharing.values() if 1 < len(members) <= most]


def _joined_groups(task: Task, count: int, sets_of_rows: Sequence[Sequence[int]]) -> list[int]:
    """The group of each of `count` rows when the rows of each set are joined."""
    parents = [index // task.rows_per_slot * task.rows_per_slot for index in range(count)]

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    for members in sets_of_rows:
        for index in members[1:]:
            first, second = sorted((root(members[0]), root(index)))
            parents[second] = first
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(count)]


def folds_of(strata: Sequence[object], groups: Sequence[int], folds: int, draws: Random) -> list[int]:
    """The fold of each item: groups stay whole, and every stratum is spread evenly over the folds.

    Groups are dealt in random order, larger ones first, each to the fold that has the fewest items of its strata.
    """
    members: Mapping[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups):
        members[group].append(index)
    order = sorted(members)
    draws.shuffle(order)
    counts: list[dict[object, int]] = [defaultdict(int) for _ in range(folds)]
    fold_of = [0] * len(groups)
    for group in sorted(order, key=lambda group: -len(members[group])):
        items = members[group]
        load = [sum(count[strata[index]] for index in items) for count in counts]
        fold = min(range(folds), key=lambda number: (load[number], sum(counts[number].values()), number))
        for index in items:
            counts[fold][strata[index]] += 1
            fold_of[index] = fold
    return fold_of
