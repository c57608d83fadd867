"""Texts truncated to so many tokens: what an example asks stays whole, its long field gives way."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from targen.runtime.errors import UserError
from targen.tasks.task import Example, Task

Render = Callable[[Task, Example, Sequence[Example]], str]  # the text of an example, with those shown before it
Tokenize = Callable[[list[str]], list[list[int]]]


def truncated_texts(
    tokenize: Tokenize,
    render: Render,
    task: Task,
    examples: Sequence[Example],
    few_shot: Sequence[Sequence[Example]],
    limit: int,
    tail: int,
) -> tuple[list[list[int]], list[bool]]:
    """Token ids of the examples' texts, at most `limit` each, and whether each was truncated.

    `few_shot`: for each example, those shown with their answers before it; empty: none. Of a text that is too long, these
    go first, the last of them before the others; then the task's long field is truncated. If even that is not enough,
    the middle goes: the last `tail` tokens, which ask for the answer, always stay.
    """
    truncation = _Truncation(tokenize, render, task, limit, tail)
    shots_per_example = list(few_shot) or [()] * len(examples)
    token_ids = tokenize([render(task, *pair) for pair in zip(examples, shots_per_example, strict=True)])
    truncated = [len(ids) > limit for ids in token_ids]
    shortened = [
        truncation.apply(example, shots, ids) if is_long else ids
        for example, shots, ids, is_long in zip(examples, shots_per_example, token_ids, truncated, strict=True)
    ]
    return shortened, truncated


@dataclass(frozen=True)
class _Truncation:
    """How the texts of a task are shortened to `limit` tokens."""

    tokenize: Tokenize
    render: Render
    task: Task
    limit: int
    tail: int

    def apply(self, example: Example, shots: Sequence[Example], ids: list[int]) -> list[int]:
        """The token ids of a text that is too long, whose own are `ids`, shortened."""
        while len(ids) > self.limit and shots:
            shots = shots[:-1]
            ids = self._ids(example, shots)
        return ids if len(ids) <= self.limit else self._with_less_of_long_field(example, shots)

    def _ids(self, example: Example, shots: Sequence[Example]) -> list[int]:
        (ids,) = self.tokenize([self.render(self.task, example, shots)])
        return ids

    def _with_less_of_long_field(self, example: Example, shots: Sequence[Example]) -> list[int]:
        """The text with as many characters of the long field as fit, by bisection: a token may have one character or ten."""
        name, limit = self.task.long_field, self.limit
        text = example.fields[name]

        def rendered(characters: int) -> list[int]:
            part = text[len(text) - characters :] if self.task.encoder.cut == "beginning" else text[:characters]
            return self._ids(replace(example, fields={**example.fields, name: part}), shots)

        fitting, too_many, ids = 0, len(text), rendered(0)
        while len(ids) < limit and too_many - fitting > 1:
            middle = (fitting + too_many) // 2
            longer = rendered(middle)
            if len(longer) <= limit:
                fitting, ids = middle, longer
            else:
                too_many = middle
        return ids if len(ids) <= limit else [*ids[: limit - self.tail], *ids[len(ids) - self.tail :]]


def check_answers(task: Task, answers: Sequence[tuple[str, list[int]]], room: int) -> None:
    """Raises: UserError if an answer has no token or more than `room`, since answers are never truncated, or if two labels have
    the same tokens."""
    text_of_ids: dict[tuple[int, ...], str] = {}
    for text, ids in answers:
        if not ids:
            raise UserError(
                f"{task.name}: the answer {text!r} has no token in this model's vocabulary. Choose another model."
            )
        if len(ids) > room:
            raise UserError(
                f"train.max_length: leaves {max(0, room)} tokens for an answer, but {text[:40]!r} of {task.name} has "
                f"{len(ids)}, and answers are never truncated. Set a larger train.max_length."
            )
        if (other := text_of_ids.setdefault(tuple(ids), text)) != text and task.classes:
            raise UserError(
                f"{task.name}: the answers {other!r} and {text!r} are the same tokens in this model's vocabulary, expected "
                "different ones. Set other verbalizers, or choose another model."
            )
