"""A cell ready to be trained: its model, its examples as token ids in the order of an epoch, its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import set_seed

from targen.config.losses import LOSSES
from targen.runtime.randomness import rng
from targen.tasks.task import Example
from train.families.base import UNWEIGHTED, Batch, Encoded
from train.families.registry import family_of
from train.grid.checkers import TrainingJob
from train.grid.encoding import EncodedExamples, encode_for_prediction, encode_for_training, log_truncated
from train.grid.mixture import epoch_examples
from train.grid.rows import stratified_sample, whole_groups
from train.loop.losses import CHECKERS, cell_loss, log_probabilities
from train.loop.saving import load_cell_to_device, load_initial_model
from train.models.loading import Loaded
from train.planning.fitting import ON_CPU
from train.runtime.processes import Processes

SINGLE = Processes()
Collate = Callable[[Sequence[Encoded]], Batch]


@dataclass(frozen=True)
class PreparedCell:
    """What the trainer needs of a cell: `epoch` are the examples of one epoch, `held_out` those of the validation."""

    loaded: Loaded
    epoch: EncodedExamples
    held_out: EncodedExamples | None
    collate: Collate
    loss: Callable[..., Any]


def prepare(job: TrainingJob, processes: Processes = SINGLE) -> PreparedCell:
    """The cell ready to be trained; its seed decides everything that is drawn."""
    train, family = job.settings.train, family_of(job.settings)
    checkers = _ask_checkers(job, processes)  # loads other models, so before the seed is set
    set_seed(job.cell.seed)
    loaded = load_initial_model(job.settings, job.cell, processes)
    collate = family.collator(loaded)
    encoded = encode_for_training(job.settings, job.cell, loaded, job.rows)
    if processes.first:
        log_truncated(job.settings, job.cell, encoded)
    return PreparedCell(
        loaded,
        epoch_of(job, encoded, checkers),
        _encode_held_out(job, loaded),
        collate if checkers is None else _with_checkers(collate),
        cell_loss(family, LOSSES[train.loss], train.label_smoothing),
    )


def epoch_of(
    job: TrainingJob, encoded: Sequence[EncodedExamples], checkers: Sequence[Sequence[float]] | None = None
) -> EncodedExamples:
    """The examples of one epoch, with what the checkers say of those of every source."""
    order = _epoch_order(job, encoded)
    examples = [encoded[source].examples[index] for source, index in order]
    token_ids: list[Encoded] = [encoded[source].encoded[index] for source, index in order]
    if checkers is not None:
        token_ids = [
            replace(example, checkers=checkers[source][index])
            for example, (source, index) in zip(token_ids, order, strict=True)
        ]
    return EncodedExamples(examples, token_ids)


def _encode_held_out(job: TrainingJob, loaded: Loaded) -> EncodedExamples | None:
    """The validation examples, encoded as in the evaluation."""
    if not job.held_out:
        return None
    examples: list[Example] = []
    token_ids: list[Encoded] = []
    for source in job.held_out:
        examples += source.examples()
        token_ids += encode_for_prediction(job.settings, job.cell, loaded, job.rows, source.task, source.examples())
    return EncodedExamples(examples, token_ids)


def _with_checkers(collate: Collate) -> Collate:
    def collate_checked(batch: Sequence[Encoded]) -> Batch:
        return {**collate(batch), CHECKERS: torch.tensor([example.checkers for example in batch])}

    return collate_checked


def _epoch_order(job: TrainingJob, encoded: Sequence[EncodedExamples]) -> list[tuple[int, int]]:
    """(number of the source, index in it) of the examples of an epoch: all, or those of a mixture."""
    train, seed = job.settings.train, job.cell.seed
    by_task: dict[str, list[tuple[int, int]]] = {}
    for number, source in enumerate(job.rows):
        by_task.setdefault(source.task.name, []).extend(
            (number, index) for index in range(len(encoded[number].encoded))
        )
    if train.setting == "single":
        return [position for positions in by_task.values() for position in positions]
    if train.mixture_cap is not None:
        for name, positions in by_task.items():
            by_task[name] = _capped(job, encoded, name, positions)
    sizes = [len(positions) for positions in by_task.values()]
    epoch = epoch_examples(list(by_task), sizes, train.mixture, train.mixture_temperature, seed)
    return [by_task[name][index] for name, index in epoch]


def _capped(
    job: TrainingJob, encoded: Sequence[EncodedExamples], name: str, positions: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """train.mixture_cap of a task's examples, each label in proportion; of MultiRC whole questions."""
    cap, draws = job.settings.train.mixture_cap or len(positions), rng(job.cell.seed, name, "cap")
    if next(source.task for source in job.rows if source.task.name == name).drawn_in_groups:
        groups = [(number, encoded[number].examples[index].groups) for number, index in positions]
        return [positions[index] for index in whole_groups(groups, cap, draws)]
    golds = [encoded[number].encoded[index].gold for number, index in positions]
    return list(stratified_sample(positions, golds, cap, draws))


def _ask_checkers(job: TrainingJob, processes: Processes) -> list[list[float]] | None:
    """For each source, log P of the right answer of each example by the first checker, minus that by the second if there is
    one; NaN for real rows. None: the loss has no weights."""
    if not job.checkers:
        return None
    first, *others = [_checker_log_probabilities(checker, job, processes) for checker in job.checkers]
    if not others:
        return first
    return [[p - q for p, q in zip(ps, qs, strict=True)] for ps, qs in zip(first, others[0], strict=True)]


def _checker_log_probabilities(checker: TrainingJob, job: TrainingJob, processes: Processes) -> list[list[float]]:
    settings = checker.settings
    loaded = load_cell_to_device(settings, checker.cell)
    family = family_of(settings)
    by_source = []
    for source, examples in zip(job.rows, encode_for_training(settings, checker.cell, loaded, job.rows), strict=True):
        most_sequences = max(example.sequence_count for example in examples.encoded)
        batch_size = max(1, (settings.train.device_batch_size or ON_CPU) // most_sequences)

        def ask(share: list[Encoded], batch_size: int = batch_size) -> list[float]:
            return log_probabilities(family, loaded, share, batch_size)

        unweighted = [UNWEIGHTED] * len(examples.encoded)
        by_source.append(unweighted if source.real else processes.distribute(examples.encoded, ask))
    return by_source
