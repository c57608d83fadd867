"""The rows of a cell as token ids, as they are trained on and asked."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from targen.config.settings import Settings
from targen.synthesis.slots import rng
from targen.tasks.task import Example, Task
from targen.text.normalise import normalised
from train.data.rendering import answers, fewer_choices
from train.data.truncation import Positive
from train.families.base import Encoded
from train.families.base import family as family_named
from train.grid.arms import Part
from train.grid.cells import Cell
from train.models.loading import Loaded, load_tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Encodings:
    """Examples with their token ids, in the same order."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]


def encode_parts(settings: Settings, cell: Cell, loaded: Loaded, parts: Sequence[Part]) -> list[Encodings]:
    """The examples of every part as token ids, as they are trained on."""
    train, family = settings.train, family_named(settings.model.family)
    draws = rng(cell.seed, cell.task, cell.arm, "choices")
    found = []
    for part in parts:
        examples = examples_of(part)
        shown = positive_examples(settings, cell, parts, part.task, examples, training=True)
        if part.task.choices == "texts" and family.SCORES_CHOICES:
            examples = [fewer_choices(example, train.max_choices, draws) for example in examples]
        found.append(Encodings(examples, family.encode(loaded, part.task, examples, train.max_length, shown)))
    return found


def encode_asked(
    settings: Settings, cell: Cell, loaded: Loaded, parts: Sequence[Part], task: Task, examples: Sequence[Example]
) -> Sequence[Encoded]:
    """Examples as they are asked, all choices of each; `parts` are the rows of which some are shown."""
    positive = positive_examples(settings, cell, parts, task, examples, training=False)
    solved = solved_examples(settings, cell, parts, task, examples)
    encode, length = family_named(settings.model.family).encode, settings.train.max_length
    found = encode(loaded, task, examples, length, positive, solved)
    if cut := sum(one.cut for one in found):
        first = ", the examples shown before them first" if positive or solved else ""
        where = (cell.name, cut, len(found), task.name, length, first)
        log.info("%s: %d of %d examples of %s that are asked are cut to train.max_length=%d%s", *where)
    return found


def say_cut(settings: Settings, cell: Cell, parts: Sequence[Encodings]) -> None:
    """Logs how many examples of a cell train.max_length cuts, where it cuts any."""
    counts: Counter[str] = Counter()
    for part in parts:
        for example, encoded in zip(part.examples, part.encoded, strict=True):
            counts[example.task] += encoded.cut
    if cut := sum(counts.values()):
        rows = sum(len(part.examples) for part in parts)
        tasks = "" if len(counts) == 1 else f" ({', '.join(f'{task} {count}' for task, count in counts.items())})"
        length = settings.train.max_length
        log.info("train: %s: %d of %d examples are cut to train.max_length=%d%s", cell.name, cut, rows, length, tasks)


def check_room(settings: Settings, cell: Cell, parts: Sequence[Part]) -> None:
    """Raises: UserError where train.max_length leaves an answer no room, which the model's tokenizer alone tells.

    Of every part the example with the longest answers is encoded, by letters.
    """
    family = family_named(settings.model.family)
    if family.SCORES_CHOICES:
        return
    loaded = Loaded(None, load_tokenizer(settings.model))
    for part in parts:
        example = max(examples_of(part), key=lambda one: max(map(len, answers(part.task, one))))
        shown: list[Sequence[Example]] | None = [()] if settings.train.instruct else None
        family.encode(loaded, part.task, [example], settings.train.max_length, shown)


def examples_of(part: Part) -> list[Example]:
    found = [example for row in part.rows for example in part.task.examples(row)]
    return [blanked(example) for example in found] if part.blank else found


def blanked(example: Example) -> Example:
    """The example without a word of its own."""
    return replace(example, fields=dict.fromkeys(example.fields, ""))


def positive_examples(
    settings: Settings,
    cell: Cell,
    parts: Sequence[Part],
    task: Task,
    examples: Sequence[Example],
    training: bool,
) -> list[Positive] | None:
    """What is shown with each example under train.instruct: other training examples of its task, drawn by the cell's seed
    and the example's id; AX-g without rows of its own takes RTE's. None: no instructions."""
    if not settings.train.instruct:
        return None
    pool, when = _pool(parts, task), "train" if training else "evaluate"
    return [
        _others(pool, one, settings.train.instruct_examples, rng(cell.seed, task.name, "positive", when, one.id))
        for one in examples
    ]


def solved_examples(
    settings: Settings, cell: Cell, parts: Sequence[Part], task: Task, examples: Sequence[Example]
) -> list[Positive] | None:
    """The eval.shots examples shown before each one to a model that is not finetuned, drawn likewise. None: none are."""
    if cell.trained or not settings.eval.shots:
        return None
    pool = _pool(parts, task)
    return [_others(pool, one, settings.eval.shots, rng(cell.seed, task.name, "solved", one.id)) for one in examples]


def _pool(parts: Sequence[Part], task: Task) -> list[Example]:
    own = [part for part in parts if part.task.name == task.name]
    stand_in = [part for part in parts if part.task.name == task.original_train]
    return [one for part in own or stand_in for one in examples_of(part)]


def _others(pool: Sequence[Example], example: Example, count: int, draws: Random) -> Positive:
    """So many of the pool, without the example itself and twins of it, which give its answer away as well."""
    drawn = draws.sample(pool, min(len(pool), count + 1))  # one more than needed: mostly enough
    found = [one for one in drawn if not _twins(one, example)]
    if len(found) < count and len(drawn) < len(pool):
        others = [one for one in pool if not _twins(one, example)]
        found = draws.sample(others, min(len(others), count))
    return found[:count]


def _twins(one: Example, other: Example) -> bool:
    """Whether their texts are the same, in whatever order (COPA's choices), up to case, punctuation and spacing."""
    return one.fields == other.fields or sorted(map(normalised, one.fields.values())) == sorted(
        map(normalised, other.fields.values())
    )
