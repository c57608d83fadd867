"""Ranks the possible answers to each prompt by their log-likelihood."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from train.inference.batching import ItemSize, length_batches


class Prompted(Protocol):
    """A prompt and its possible answers as token ids, each answer with its end token."""

    @property
    def prompt(self) -> list[int]:
        """Token ids of the prompt."""
        ...

    @property
    def answers(self) -> tuple[list[int], ...]:
        """Token ids of every possible answer."""
        ...


# (prompts, answers of each) -> log-probability of each answer of each prompt, (answers,) each.
AnswerScorer = Callable[[Sequence[list[int]], Sequence[Sequence[list[int]]]], Sequence[Tensor]]


def rank_answers(
    score: AnswerScorer,
    examples: Sequence[Prompted],
    batch_size: int,
    device: torch.device,
    by_token: bool = False,
) -> Iterator[tuple[int, list[float]]]:
    """(index, log-probability of each answer among the possible ones), longest prompts first.

    An answer counts by the sum of its tokens' log-probabilities, its end token included, or by their mean (`by_token`).
    """
    for index, sums in log_likelihoods(score, examples, batch_size, device):
        tokens = torch.tensor([len(answer) for answer in examples[index].answers])
        yield index, (sums / tokens if by_token else sums).log_softmax(dim=0).tolist()


def log_likelihoods(
    score: AnswerScorer, examples: Sequence[Prompted], batch_size: int, device: torch.device
) -> Iterator[tuple[int, Tensor]]:
    """(index, (answers,) sums of the tokens' log-probabilities), longest prompts first.

    At most `batch_size` answers go through the model at once; a prompt with more is computed again for the rest.
    """
    partial_sums: dict[int, list[Tensor]] = defaultdict(list)
    requests = [
        (index, example.answers[start : start + batch_size])
        for index, example in enumerate(examples)
        for start in range(0, len(example.answers), batch_size)
    ]
    sizes = [ItemSize(len(examples[index].prompt), 1, len(answers)) for index, answers in requests]
    for numbers in length_batches(sizes, batch_size, device):
        batch = [requests[number] for number in numbers]
        with torch.no_grad():
            batch_sums = score([examples[index].prompt for index, _ in batch], [answers for _, answers in batch])
        for (index, _), sums in zip(batch, batch_sums, strict=True):
            partial_sums[index].append(sums)
            if sum(map(len, partial_sums[index])) == len(examples[index].answers):
                yield index, torch.cat(partial_sums.pop(index))


def longest_first(examples: Sequence[Prompted]) -> list[int]:
    """Indices, longest prompts first."""
    return sorted(range(len(examples)), key=lambda index: (-len(examples[index].prompt), index))
