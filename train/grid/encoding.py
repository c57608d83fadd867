"""The examples of a cell as token ids: for training, and for prediction."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from targen.config.settings import Settings
from targen.runtime.randomness import rng
from targen.tasks.task import Example, Task
from targen.text.normalise import normalised
from train.data.rendering import answers, fewer_choices
from train.families.base import Encoded, FewShot
from train.families.registry import family_of
from train.grid.cells import Cell
from train.grid.rows import TaskRows
from train.models.loading import Loaded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EncodedExamples:
    """Examples with their token ids, in the same order."""

    examples: Sequence[Example]
    encoded: Sequence[Encoded]


def encode_for_training(
    settings: Settings, cell: Cell, loaded: Loaded, rows: Sequence[TaskRows]
) -> list[EncodedExamples]:
    """The examples of every source, as the cell is trained on them."""
    train, family = settings.train, family_of(settings)
    draws = rng(cell.seed, cell.task, cell.arm, "choices")
    encoded = []
    for source in rows:
        examples = source.examples()
        positive = positive_examples(settings, cell, rows, source.task, examples, training=True)
        if source.task.choices == "texts" and family.scores_choices:
            examples = [fewer_choices(example, train.max_choices, draws) for example in examples]
        few_shot = None if positive is None else FewShot(positive, instructs=True)
        token_ids = family.encode(loaded, source.task, examples, train.max_length, few_shot)
        encoded.append(EncodedExamples(examples, token_ids))
    return encoded


def encode_for_prediction(
    settings: Settings, cell: Cell, loaded: Loaded, rows: Sequence[TaskRows], task: Task, examples: Sequence[Example]
) -> Sequence[Encoded]:
    """Examples with all their choices; the examples shown before them are drawn from `rows`."""
    positive = positive_examples(settings, cell, rows, task, examples, training=False)
    shots = demonstrations(settings, cell, rows, task, examples)
    layout = positive if positive is not None else shots
    few_shot = None if layout is None else FewShot(layout, instructs=positive is not None)
    family, length = family_of(settings), settings.train.max_length
    encoded = family.encode(loaded, task, examples, length, few_shot)
    if truncated := sum(example.truncated for example in encoded):
        log.info(
            "%s: %d of %d examples of %s are truncated to train.max_length=%d%s",
            cell.name,
            truncated,
            len(encoded),
            task.name,
            length,
            ", shown examples first" if positive or shots else "",
        )
    if equal := sum(example.has_equal_options for example in encoded):
        log.warning(
            "%s: %d of %d examples of %s have options that are the same tokens for this model, which can only choose the first",
            cell.name,
            equal,
            len(encoded),
            task.name,
        )
    return encoded


def log_truncated(settings: Settings, cell: Cell, encoded: Sequence[EncodedExamples]) -> None:
    """Logs how many training examples of a cell are truncated, if any."""
    counts: Counter[str] = Counter()
    for source in encoded:
        for example, token_ids in zip(source.examples, source.encoded, strict=True):
            counts[example.task] += token_ids.truncated
    if truncated := sum(counts.values()):
        log.info(
            "train: %s: %d of %d examples are truncated to train.max_length=%d%s",
            cell.name,
            truncated,
            sum(len(source.examples) for source in encoded),
            settings.train.max_length,
            "" if len(counts) == 1 else f" ({', '.join(f'{task} {count}' for task, count in counts.items())})",
        )


def check_answer_room(settings: Settings, rows: Sequence[TaskRows]) -> None:
    """Raises: UserError if train.max_length leaves no room for an answer, which depends on the model's tokenizer.

    Of every source only the example with the longest answers, in characters, is encoded.
    """
    family = family_of(settings)
    if family.scores_choices:
        return
    loaded = Loaded(None, family.load_tokenizer(settings.model))
    few_shot = FewShot([()], instructs=True) if settings.train.instruct else None
    for source in rows:
        longest = max(source.examples(), key=lambda example: max(map(len, answers(source.task, example))))
        family.encode(loaded, source.task, [longest], settings.train.max_length, few_shot)


def positive_examples(
    settings: Settings,
    cell: Cell,
    rows: Sequence[TaskRows],
    task: Task,
    examples: Sequence[Example],
    training: bool,
) -> list[Sequence[Example]] | None:
    """For each example those shown with it under train.instruct: other training examples of its task, drawn by the cell's
    seed and the example's id; AX-g without rows of its own takes RTE's. None: no instructions."""
    if not settings.train.instruct:
        return None
    pool, phase = _pool(rows, task), "train" if training else "evaluate"
    return [
        _draw_others(
            pool, example, settings.train.instruct_examples, rng(cell.seed, task.name, "positive", phase, example.id)
        )
        for example in examples
    ]


def demonstrations(
    settings: Settings, cell: Cell, rows: Sequence[TaskRows], task: Task, examples: Sequence[Example]
) -> list[Sequence[Example]] | None:
    """For each example the eval.shots few-shot examples of a model that is not finetuned, drawn likewise. None: no shots."""
    if cell.trained or not settings.eval.shots:
        return None
    pool = _pool(rows, task)
    return [
        _draw_others(pool, example, settings.eval.shots, rng(cell.seed, task.name, "solved", example.id))
        for example in examples
    ]


def _pool(rows: Sequence[TaskRows], task: Task) -> list[Example]:
    """The examples of the task's own rows, or else those of its stand-in with this task's names of the texts."""
    if own_examples := [example for source in rows if source.task.name == task.name for example in source.examples()]:
        return own_examples
    names = {theirs: ours for ours, theirs in task.original_fields.items()}
    return [
        replace(example, fields={names.get(name, name): text for name, text in example.fields.items()})
        for source in rows
        if source.task.name == task.original_train
        for example in source.examples()
    ]


def _draw_others(pool: Sequence[Example], example: Example, count: int, draws: Random) -> Sequence[Example]:
    """`count` of the pool, without the example itself and its twins, which would give its answer away."""
    drawn = draws.sample(pool, min(len(pool), count + 1))  # one more than needed: usually enough
    others = [candidate for candidate in drawn if not _are_twins(candidate, example)]
    if len(others) < count and len(drawn) < len(pool):
        candidates = [candidate for candidate in pool if not _are_twins(candidate, example)]
        others = draws.sample(candidates, min(len(candidates), count))
    return others[:count]


def _are_twins(first: Example, second: Example) -> bool:
    """Whether their texts are the same up to order (COPA's choices), case, punctuation and spacing."""
    return first.fields == second.fields or sorted(map(normalised, first.fields.values())) == sorted(
        map(normalised, second.fields.values())
    )
