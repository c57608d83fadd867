"""Models that answer in words, asked: in batches of like length, each prompt once for all its answers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor


class Asked(Protocol):
    """A prompt and what may be answered, as token ids, each answer with its end."""

    @property
    def prompt(self) -> list[int]: ...

    @property
    def answers(self) -> tuple[list[int], ...]: ...


# The log-probability of each answer of each prompt, (answers,) each.
Score = Callable[[Sequence[list[int]], Sequence[Sequence[list[int]]]], Sequence[Tensor]]


def ranked(
    score: Score, encoded: Sequence[Asked], batch_size: int, by_token: bool = False
) -> Iterator[tuple[int, list[float]]]:
    """(place, log-probability of each answer among the possible ones), long prompts first.

    An answer counts by the sum of its tokens' log-probabilities, its end included, or by their mean.
    """
    for place, sums in log_likelihoods(score, encoded, batch_size):
        tokens = torch.tensor([len(answer) for answer in encoded[place].answers])
        yield place, (sums / tokens if by_token else sums).log_softmax(dim=0).tolist()


def log_likelihoods(score: Score, encoded: Sequence[Asked], batch_size: int) -> Iterator[tuple[int, Tensor]]:
    """(place, sum of the tokens' log-probabilities of each answer), long prompts first, at most `batch_size` answers at once."""
    found: dict[int, list[Tensor]] = defaultdict(list)
    for batch in _batches(encoded, batch_size):
        with torch.inference_mode():
            sums = score([encoded[place].prompt for place, _ in batch], [answers for _, answers in batch])
        for (place, _), own in zip(batch, sums, strict=True):
            found[place].append(own)
            if sum(map(len, found[place])) == len(encoded[place].answers):
                yield place, torch.cat(found.pop(place))


def _batches(encoded: Sequence[Asked], batch_size: int) -> Iterator[list[tuple[int, Sequence[list[int]]]]]:
    """(place, answers) of prompts of like length; what has more answers than fit is asked again for the others."""
    batch: list[tuple[int, Sequence[list[int]]]] = []
    held = 0
    for place in by_length(encoded):
        answers = encoded[place].answers
        for start in range(0, len(answers), batch_size):
            some = answers[start : start + batch_size]
            if batch and held + len(some) > batch_size:
                yield batch
                batch, held = [], 0
            batch.append((place, some))
            held += len(some)
    if batch:
        yield batch


def by_length(encoded: Sequence[Asked]) -> list[int]:
    """Places, long prompts first."""
    return sorted(range(len(encoded)), key=lambda place: (-len(encoded[place].prompt), place))
