"""Rows as small students see them: the encoder's two texts of each question, its gold answer, and what it goes with.

Rows that share a context or a text belong to one group. A group is never split between training and test rows, because
a student would then recognise the topic instead of reading the label.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Row, Task
from targen.text.normalise import words

RUN = 8  # words; rows with the same run of words in a field are a group
MIN_SHARED_WORDS = 4  # of a shorter text that makes rows a group if it is the same
MAX_GROUP = 0.2  # of all rows; a text or context of more rows than this does not make a group


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
    """The questions of all rows whose answer is not hidden."""
    groups = groups_of(task, rows, contexts)
    return [
        Instance(tuple(encoder_texts(task, example)), example.gold, len(example.choices), groups[index], index)
        for index, row in enumerate(rows)
        for example in task.examples(row)
        if example.gold
    ]


def groups_of(task: Task, rows: Sequence[Row], contexts: Sequence[str | None] | None = None) -> list[int]:
    """The number of each row's group: rows made together, or with the same context or run of words, share one."""
    sharing: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        view = task.view(row)
        for name in task.row:
            text_words = words(view[name])
            if len(text_words) >= MIN_SHARED_WORDS:
                last = max(1, len(text_words) - RUN + 1)
                for run in {" ".join(text_words[start : start + RUN]) for start in range(last)}:
                    sharing[name, run].append(index)
        if contexts is not None and (context := contexts[index]):
            sharing["", context].append(index)
    parents = [index // task.rows_per_slot * task.rows_per_slot for index in range(len(rows))]

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    for members in sharing.values():
        if len(members) <= max(2 * task.rows_per_slot, MAX_GROUP * len(rows)):
            for index in members[1:]:
                roots = sorted((root(members[0]), root(index)))
                parents[roots[1]] = roots[0]
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(index), len(numbers)) for index in range(len(rows))]


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
