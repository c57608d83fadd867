"""What the families that answer in words share: examples as prompt and answers, their loss, ranking and generation."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from targen.tasks.task import Example
from train.families.base import IGNORED, Encoded, ExampleLosses, Family, gold_of, of_type
from train.inference.arithmetic import inference_context
from train.inference.generation import GeneratedText
from train.inference.ranking import rank_answers
from train.models.loading import Loaded


@dataclass(frozen=True)
class EncodedText(Encoded):
    """A prompt and every possible answer with its end token."""

    prompt: list[int]
    answers: tuple[list[int], ...]

    @property
    def has_equal_options(self) -> bool:
        """Whether two possible answers are the same tokens."""
        return len(set(map(tuple, self.answers))) < len(self.answers)

    @property
    def right_answer(self) -> list[int]:
        """Token ids of the gold answer."""
        return self.answers[self.gold]

    @property
    def length(self) -> int:
        """Tokens that the model reads before its first answer token."""
        return len(self.prompt)


@dataclass(frozen=True)
class EncodedContinuation(EncodedText):
    """A prompt whose answers continue it in the same sequence."""

    @property
    def length(self) -> int:
        """Tokens of prompt and longest answer."""
        return len(self.prompt) + max(map(len, self.answers))


class TextFamily(Family):
    """A family whose models answer in words. Predictions rank the possible answers by their log-likelihood."""

    def example_losses(self, outputs: Any, labels: Tensor, smoothing: float) -> ExampleLosses:
        """Sums over the tokens of each answer, its end token included."""
        return token_sums(outputs.logits, labels, smoothing)

    def predict(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, by_token: bool = False
    ) -> Iterator[tuple[int, list[float]]]:
        """(index, log-probability of each possible answer among them), longest prompts first.

        `by_token`: answers are ranked by the mean over their tokens, not by the sum.
        """
        loaded.model.eval()

        def score(prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]) -> tuple[Tensor, ...]:
            with inference_context(loaded):
                return self.answer_scores(loaded, prompts, answers)

        return rank_answers(score, of_type(EncodedText, encoded), batch_size, device_of(loaded), by_token)

    @abstractmethod
    def answer_scores(
        self, loaded: Loaded, prompts: Sequence[list[int]], answers: Sequence[Sequence[list[int]]]
    ) -> tuple[Tensor, ...]:
        """For each prompt the log-probability of each of its answers, (answers,) each."""

    @abstractmethod
    def generate(
        self, loaded: Loaded, encoded: Sequence[Encoded], batch_size: int, max_new_tokens: int
    ) -> Iterator[tuple[int, GeneratedText]]:
        """(index, what the model generates greedily after the prompt), longest prompts first."""


def encoded_texts(
    encoded_type: type[EncodedText],
    prompts: Sequence[list[int]],
    truncated: Sequence[bool],
    examples: Sequence[Example],
    answers: Sequence[Sequence[str]],
    ids: dict[str, list[int]],
) -> list[EncodedText]:
    """The examples from their prompts and the texts of their answers, whose token ids `ids` has."""
    return [
        encoded_type(prompt, tuple(ids[text] for text in texts), gold=gold_of(example), truncated=is_truncated)
        for prompt, texts, example, is_truncated in zip(prompts, answers, examples, truncated, strict=True)
    ]


def token_sums(logits: Tensor, labels: Tensor, smoothing: float) -> ExampleLosses:
    """Cross-entropy and log-probability summed over the labels (examples, tokens) that count; logits (examples, tokens, vocabulary)."""
    rows, targets = logits.float().transpose(1, 2), labels.to(logits.device)

    def entropy(label_smoothing: float) -> Tensor:
        by_token = nn.functional.cross_entropy(
            rows, targets, ignore_index=IGNORED, reduction="none", label_smoothing=label_smoothing
        )
        return by_token.sum(dim=1)

    plain = entropy(0.0)
    return ExampleLosses(entropy(smoothing) if smoothing else plain, -plain)


def padded_answers(answers: Sequence[list[int]]) -> Tensor:
    """Labels (answers, tokens), padded on the right with IGNORED."""
    return nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in answers], batch_first=True, padding_value=IGNORED)


def prompt_of_each_answer(answers: Sequence[Sequence[list[int]]], device: torch.device) -> Tensor:
    """(answers of all prompts,): the index of each answer's prompt."""
    counts = torch.tensor([len(texts) for texts in answers], device=device)
    return torch.arange(len(answers), device=device).repeat_interleave(counts)


def split_by_prompt(logits: Tensor, labels: Tensor, answers: Sequence[Sequence[list[int]]]) -> tuple[Tensor, ...]:
    """The answers' log-probabilities, a tensor on the CPU for each prompt."""
    sums = token_sums(logits, labels, 0.0).log_probability.cpu()
    return torch.split(sums, [len(texts) for texts in answers])


def device_of(loaded: Loaded) -> torch.device:
    """Where the model's weights are."""
    device: torch.device = next(loaded.model.parameters()).device
    return device
