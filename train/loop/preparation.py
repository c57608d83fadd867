"""A cell ready to be trained: its model, its rows as token ids in the order of an epoch, its loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from targen.synthesis.slots import rng
from train.families.base import Encoded
from train.families.base import family as family_named
from train.grid.arms import stratified
from train.grid.checkers import Job
from train.grid.encoding import Encodings, encode_asked, encode_parts, examples_of, say_cut
from train.grid.mixture import epoch
from train.loop.saving import load_to_device, to_train
from train.models.loading import Loaded
from train.runtime.processes import Processes

CHECKED = "checked"  # of a batch: what the checkers say of its examples
ONE = Processes()


@dataclass(frozen=True)
class Prepared:
    """What a trainer needs of a cell: `data` are the examples of an epoch, `held` those of the validation."""

    loaded: Loaded
    data: Encodings
    held: Encodings | None
    collate: Callable[[list[Any]], dict[str, Any]]
    loss: Callable[..., Any]


@dataclass(frozen=True)
class Checked:
    """A training example with what its checkers say: IMP log P' - log Q, DIMP log P', NaN for a real row."""

    encoded: Encoded
    checked: float

    @property
    def gold(self) -> int:
        return self.encoded.gold

    @property
    def cut(self) -> bool:
        return self.encoded.cut

    @property
    def at_once(self) -> int:
        return self.encoded.at_once

    @property
    def length(self) -> int:
        return self.encoded.length


def prepared(job: Job, processes: Processes = ONE) -> Prepared:
    """The cell ready to be trained: everything drawn by its seed."""
    from transformers import set_seed

    from train.families.losses import cell_loss

    train, family = job.settings.train, family_named(job.settings.model.family)
    said = _checkers_say(job, processes)  # loads other models, so before the seed is set
    set_seed(job.cell.seed)
    loaded = to_train(job.settings, job.cell, processes)
    collate = family.collator(loaded)
    parts = encode_parts(job.settings, job.cell, loaded, job.parts)
    if processes.first:
        say_cut(job.settings, job.cell, parts)
    return Prepared(
        loaded,
        training_data(job, parts, said),
        _held_data(job, loaded),
        collate if said is None else _with_checked(collate),
        cell_loss(family, train.loss, train.label_smoothing),
    )


def training_data(job: Job, parts: Sequence[Encodings], said: Sequence[Sequence[float]] | None = None) -> Encodings:
    """The examples of one epoch, with what the checkers said of those of every part."""
    order = _epoch(job, [part.encoded for part in parts])
    encoded: list[Encoded] = [parts[part].encoded[place] for part, place in order]
    if said is not None:
        encoded = [Checked(one, said[part][place]) for one, (part, place) in zip(encoded, order, strict=True)]
    return Encodings([parts[part].examples[place] for part, place in order], encoded)


def _held_data(job: Job, loaded: Loaded) -> Encodings | None:
    """The examples of the validation, asked as in the evaluation."""
    if not job.held:
        return None
    by_part = [(part.task, examples_of(part)) for part in job.held]
    encoded = [encode_asked(job.settings, job.cell, loaded, job.parts, task, own) for task, own in by_part]
    return Encodings([one for _, own in by_part for one in own], [one for own in encoded for one in own])


def _with_checked(collate: Callable[[list[Any]], dict[str, Any]]) -> Callable[[list[Any]], dict[str, Any]]:
    import torch

    def collate_checked(batch: list[Checked]) -> dict[str, Any]:
        return {**collate([one.encoded for one in batch]), CHECKED: torch.tensor([one.checked for one in batch])}

    return collate_checked


def _epoch(job: Job, encoded: Sequence[Sequence[Encoded]]) -> list[tuple[int, int]]:
    """(number of the part, place in it) of the examples of an epoch: all, or those of a mixture."""
    train, seed = job.settings.train, job.cell.seed
    by_task: dict[str, list[tuple[int, int]]] = {}
    for number, part in enumerate(job.parts):
        by_task.setdefault(part.task.name, []).extend((number, place) for place in range(len(encoded[number])))
    if train.setting == "single":
        return [one for own in by_task.values() for one in own]
    if train.mixture_cap is not None:
        for name, own in by_task.items():
            golds = [encoded[part][place].gold for part, place in own]
            by_task[name] = list(stratified(own, golds, train.mixture_cap, rng(seed, name, "cap")))
    sizes = [len(own) for own in by_task.values()]
    chosen = epoch(list(by_task), sizes, train.mixture, train.mixture_temperature, seed)
    return [by_task[name][place] for name, place in chosen]


def _checkers_say(job: Job, processes: Processes) -> list[list[float]] | None:
    """What the trained checkers say of every example of every part: IMP log P' - log Q, DIMP log P'; NaN for real rows.

    None: the loss has no weights.
    """
    if not job.checkers:
        return None
    quality, *own = [_log_probabilities(checker, job, processes) for checker in job.checkers]
    if not own:
        return quality
    return [[one - other for one, other in zip(p, q, strict=True)] for p, q in zip(quality, own[0], strict=True)]


def _log_probabilities(checker: Job, job: Job, processes: Processes) -> list[list[float]]:
    from train.families.losses import NO_WEIGHT, log_probabilities

    settings = checker.settings
    loaded = load_to_device(settings, checker.cell)
    family = family_named(settings.model.family)
    found = []
    for part, own in zip(job.parts, encode_parts(settings, checker.cell, loaded, job.parts), strict=True):
        at_once = max(1, settings.train.device_batch_size // max(one.at_once for one in own.encoded))

        def ask(share: list[Encoded], size: int = at_once) -> list[float]:
            return log_probabilities(family, loaded, share, size)

        found.append([NO_WEIGHT] * len(own.encoded) if part.real else processes.shared_out(own.encoded, ask))
    return found
