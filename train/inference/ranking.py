"""Models that answer in words, asked: in batches of like length, each prompt once for all its answers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from train.inference.batching import Size, batches


class Asked(Protocol):
    """A prompt and what may be answered, as token ids, each answer with its end."""

    @property
    def prompt(self) -> list[int]: ...

    @property
    def answers(self) -> tuple[list[int], ...]: ...


# The log-probability of each answer of each prompt, (answers,) each.
Score = Callable[[Sequence[list[int]], Sequence[Sequence[list[int]]]], Sequence[Tensor]]


def ranked(
    score: Score, encoded: Sequence[Asked], batch_size: int, device: torch.device, by_token: bool = False
) -> Iterator[tuple[int, list[float]]]:
    """(place, log-probability of each answer among the possible ones), long prompts first.

    An answer counts by the sum of its tokens' log-probabilities, its end included, or by their mean.
    """
    for place, sums in log_likelihoods(score, encoded, batch_size, device):
        tokens = torch.tensor([len(answer) for answer in encoded[place].answers])
        yield place, (sums / tokens if by_token else sums).log_softmax(dim=0).tolist()


def log_likelihoods(
    score: Score, encoded: Sequence[Asked], batch_size: int, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """(place, sum of the tokens' log-probabilities of each answer), long prompts first.

    At most `batch_size` answers go through at once; a prompt that has more is asked again for the others.
    """
    found: dict[int, list[Tensor]] = defaultdict(list)
    asked = [
        (place, one.answers[start : start + batch_size])
        for place, one in enumerate(encoded)
        for start in range(0, len(one.answers), batch_size)
    ]
    sizes = [Size(len(encoded[place].prompt), 1, len(answers)) for place, answers in asked]
    for numbers in batches(sizes, batch_size, device):
        batch = [asked[number] for number in numbers]
        with torch.inference_mode():
            sums = score([encoded[place].prompt for place, _ in batch], [answers for _, answers in batch])
        for (place, _), own in zip(batch, sums, strict=True):
            found[place].append(own)
            if sum(map(len, found[place])) == len(encoded[place].answers):
                yield place, torch.cat(found.pop(place))


def by_length(encoded: Sequence[Asked]) -> list[int]:
    """Places, long prompts first."""
    return sorted(range(len(encoded)), key=lambda place: (-len(encoded[place].prompt), place))
