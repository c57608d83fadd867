"""Lists that a model writes before the instances: contexts, values of attributes, instructions."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from functools import partial

from targen.llm.messages import Answer, read_object
from targen.runtime.errors import RowError, UserError
from targen.runtime.randomness import rng
from targen.synthesis.prompts import Prompt, contexts_prompt, instructions_prompt, values_prompt
from targen.synthesis.recipe import ATTRIBUTE, Awaited, ItemLists, Job, Recipe
from targen.text.normalise import rouge_l, words
from targen.text.similarity import trigrams

log = logging.getLogger(__name__)
CONTEXTS_PER_CALL = 40
FURTHER_ROUNDS = 8  # beyond those that a list takes if nothing is dropped. Constant: a run's prompts depend on it
SAME = 0.8  # similarity from which an item repeats another

Part = int | tuple[str, int]  # a trigram, or a word with the number of its occurrence


@dataclass(frozen=True)
class Pool:
    """A list to be written: `prompt` asks for so many more items, shown some of those that there are."""

    name: str  # of its items, in prompts and provenance
    plural: str  # field of the answer
    place: str  # before the number of the round, in the place of a call
    size: int
    per_call: int
    prompt: Callable[[int, list[str]], Prompt]
    shown: int | None = None  # at most so many, drawn anew for every call; None: all
    near_copy: float | None = (
        None  # an item with this ROUGE-L to an earlier one is dropped; None: one that is the same up to a letter or two
    )


def write_lists(recipe: Recipe) -> Generator[Awaited, list[list[str]], ItemLists]:
    """All lists that the method needs, side by side."""
    pools = list_specs(recipe)
    jobs: list[Job] = [list_items(recipe, pool) for pool in pools]
    lists = yield jobs
    return {pool.name: items for pool, items in zip(pools, lists, strict=True)}


def list_specs(recipe: Recipe) -> list[Pool]:
    """The lists that a method needs before the instances."""
    method, task = recipe.method, recipe.task
    found = []
    if method.contexts is not None and recipe.file_seeds is None:
        prompt = partial(contexts_prompt, method, task)
        found.append(Pool("context", "contexts", "", recipe.contexts, CONTEXTS_PER_CALL, prompt))
    if method.attributes is not None:
        size = method.attributes.values
        for number, name in enumerate(task.attributes):
            prompt = partial(values_prompt, method, task, name)
            found.append(Pool(ATTRIBUTE + name, "values", f"attr{number}-", size, CONTEXTS_PER_CALL, prompt))
    if (step := method.instructions) is not None:
        prompt = partial(instructions_prompt, method, task)
        size, copy = recipe.contexts, step.near_copy
        found.append(Pool("task_instruction", "instructions", "instr-", size, step.per_call, prompt, step.shown, copy))
    return found


def list_items(recipe: Recipe, pool: Pool) -> Generator[Awaited, Answer, list[str]]:
    """Different items, asked for in rounds that show those named so far; fewer than asked where they run out."""
    named = _Named(pool.near_copy)
    found = named.items
    rounds = math.ceil(pool.size / pool.per_call) + FURTHER_ROUNDS
    for number in range(rounds):
        count = min(pool.per_call, pool.size - len(found))
        if count == 0:
            return found
        request = recipe.request(
            "contexts", f"{pool.place}r{number}", pool.prompt(count, _shown(recipe, pool, found, number))
        )
        answer = yield request
        try:
            items = read_object(answer, request.schema)[pool.plural][:count]
        except RowError:
            continue
        for item in items:
            named.add(item)
    if not found:
        raise UserError(
            f"{recipe.task.name}: no {pool.name} could be read from {rounds} answers of {recipe.model}, expected "
            f"{pool.size}. Look at the texts in calls/{recipe.task.name}.jsonl of the run, and take another model and run.dir."
        )
    if len(found) < pool.size:
        log.warning(
            "generate: %s: got %d different items for %s from %d answers, %d were asked for. The rows are less varied; a "
            "model that repeats itself less, or a higher synth.sampling.contexts.temperature, in another run.dir gives more.",
            *(recipe.task.name, len(found), pool.name, rounds, pool.size),
        )
    return found


def _shown(recipe: Recipe, pool: Pool, found: list[str], number: int) -> list[str]:
    if pool.shown is None or len(found) <= pool.shown:
        return found
    chance = rng(recipe.seed, recipe.task.name, pool.name, number)
    return [found[place] for place in sorted(chance.sample(range(len(found)), pool.shown))]


@dataclass
class _Named:
    """The items named so far, and beside each what a new one is held against."""

    near_copy: float | None  # as of the pool
    items: list[str] = field(default_factory=list)
    _words: list[list[str]] = field(default_factory=list)
    _parts: list[frozenset[Part]] = field(default_factory=list)

    def add(self, item: str) -> None:
        """Takes an item up, unless it has no words or is a copy of one that is there."""
        own = words(item)
        parts = _trigrams(item) if self.near_copy is None else _counted(own)
        if own and not self._has_copy(own, parts):
            self.items.append(" ".join(item.split()))
            self._words.append(own)
            self._parts.append(parts)

    def _has_copy(self, own: list[str], parts: frozenset[Part]) -> bool:
        if self.near_copy is None:
            return own in self._words or self._has_like(parts)
        return any(
            _most_rouge_l(parts, shared) >= self.near_copy and rouge_l(own, other) >= self.near_copy
            for other, shared in zip(self._words, self._parts, strict=True)
        )

    def _has_like(self, parts: frozenset[Part]) -> bool:
        """Whether the Jaccard similarity to an item reaches SAME; only where the sizes let it, shared parts are counted."""
        least, most = SAME * len(parts), len(parts) / SAME
        near = (other for other in self._parts if least <= len(other) <= most)
        return any((both := len(parts & other)) and both / (len(parts) + len(other) - both) >= SAME for other in near)


def _trigrams(item: str) -> frozenset[Part]:
    return frozenset(trigrams(item).tolist())


def _counted(own: list[str]) -> frozenset[Part]:
    """The words, each with the number of its occurrence: a multiset as a set."""
    seen: Counter[str] = Counter()
    found: list[Part] = []
    for word in own:
        found.append((word, seen[word]))
        seen[word] += 1
    return frozenset(found)


def _most_rouge_l(one: frozenset[Part], other: frozenset[Part]) -> float:
    """A bound of ROUGE-L: no common subsequence is longer than the words that both have."""
    return 2 * len(one & other) / (len(one) + len(other))
