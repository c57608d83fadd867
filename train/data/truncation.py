"""Texts cut to so many tokens: what an example asks stays whole, its long field gives way."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from targen.runtime.errors import UserError
from targen.tasks.task import Example, Task

Positive = Sequence[Example]  # shown with their answers before an example
Text = Callable[[Task, Example, Positive], str]
Tokenize = Callable[[list[str]], list[list[int]]]


def fitted(
    tokenize: Tokenize,
    text: Text,
    task: Task,
    examples: Sequence[Example],
    positive: Sequence[Positive],
    limit: int,
    tail: int,
) -> tuple[list[list[int]], list[bool]]:
    """Token ids of the examples' texts, at most `limit` each, and whether something of them was left out.

    Where they are too many, the examples shown before are left out from the last on, then the task's long field is cut.
    If even that is not enough, the middle goes: the last `tail` tokens, with which the model is asked, always stay.
    """
    shown = list(positive) or [()] * len(examples)
    found = tokenize([text(task, one, own) for one, own in zip(examples, shown, strict=True)])
    cut = [len(ids) > limit for ids in found]
    kept = [
        _cut(tokenize, text, task, one, own, ids, limit, tail) if is_long else ids
        for one, own, ids, is_long in zip(examples, shown, found, cut, strict=True)
    ]
    return kept, cut


def _cut(
    tokenize: Tokenize,
    text: Text,
    task: Task,
    example: Example,
    shown: Positive,
    ids: list[int],
    limit: int,
    tail: int,
) -> list[int]:
    while len(ids) > limit and shown:
        shown = shown[:-1]
        (ids,) = tokenize([text(task, example, shown)])
    long = example.fields[task.long_field]
    while len(ids) > limit and long:
        share = 1 - (len(ids) - limit) / max(1, len(tokenize([long])[0]))
        kept = max(0, min(len(long) - 1, int(len(long) * share)))
        long = long[len(long) - kept :] if task.encoder.cut == "beginning" else long[:kept]
        shorter = replace(example, fields={**example.fields, task.long_field: long})
        (ids,) = tokenize([text(task, shorter, shown)])
    return ids if len(ids) <= limit else [*ids[: limit - tail], *ids[len(ids) - tail :]]


def check_answers(task: Task, answers: Sequence[tuple[str, list[int]]], room: int) -> None:
    """Raises: UserError where an answer has no token, or more than there is room for: none is ever cut."""
    for text, ids in answers:
        if not ids:
            raise UserError(
                f"{task.name}: the answer {text!r} has no token in this model's vocabulary. Take another model."
            )
        if len(ids) > room:
            raise UserError(
                f"train.max_length: leaves {max(0, room)} tokens for an answer, but {text[:40]!r} of {task.name} has "
                f"{len(ids)}, and no answer is cut. Set a larger train.max_length."
            )
