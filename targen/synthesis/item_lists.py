"""Lists that the model writes before the instances: contexts, values of attributes, instructions."""

import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from targen.llm.messages import REMEDIES, Answer, Request, excerpt, read_object
from targen.runtime.errors import RowError, UserError
from targen.runtime.randomness import rng
from targen.synthesis.engine import Workflow
from targen.synthesis.prompts.step_prompts import Prompt, contexts_prompt, instructions_prompt, values_prompt
from targen.synthesis.recipe import ATTRIBUTE, InstanceSeed, ItemLists, Recipe, Reject
from targen.text.normalise import rouge_l, words
from targen.text.similarity import trigrams

log = logging.getLogger(__name__)
CONTEXTS_PER_CALL = 40
FURTHER_ROUNDS = 8  # beyond those that a list takes if no item is dropped. Constant: the prompts of a run depend on it
# synth.few_rounds asks for a whole list in one round, twice over, in calls that do not see each other's items. Items per call,
# how often the list is asked for, and the part of it that is enough.
MOST_AT_ONCE, TIMES_AT_ONCE, ENOUGH = 60, 2, 0.9
SAME = 0.8  # Jaccard similarity of trigrams from which an item repeats an earlier one

Feature = int | tuple[str, int]  # of an item: a trigram, or a word with the number of its occurrence, from 0


@dataclass(frozen=True)
class ListSpec:
    """A list to be written. `prompt` asks for a number of further items and shows some earlier ones."""

    name: str  # of its items, in prompts and provenance
    plural: str  # field of the answer
    prefix: str  # of its calls' positions in the run, before the number of the round
    size: int
    per_call: int
    prompt: Callable[[int, list[str]], Prompt]
    shown: int | None = None  # most earlier items in a prompt, drawn anew for every round; None: all
    near_copy: float | None = None  # ROUGE-L from which an item is a copy; None: equal up to a letter or two


@dataclass(frozen=True)
class WrittenLists:
    """The lists by name, and the answers that could not be read."""

    lists: ItemLists
    rejects: tuple[Reject, ...]


def write_lists(recipe: Recipe) -> Workflow[WrittenLists]:
    """All lists that the method needs, written side by side."""
    specs = list_specs(recipe)
    rejects: list[Reject] = []
    lists: list[list[str]] = yield [write_list(recipe, spec, rejects) for spec in specs]
    ordered = sorted(rejects, key=lambda reject: (reject.attempt, reject.call_ids))
    return WrittenLists({spec.name: items for spec, items in zip(specs, lists, strict=True)}, tuple(ordered))


def list_specs(recipe: Recipe) -> list[ListSpec]:
    """The lists that the method needs before the instances."""
    method, task = recipe.method, recipe.task
    specs = []
    if method.contexts is not None and recipe.file_seeds is None:
        prompt = partial(contexts_prompt, method, task)
        specs.append(ListSpec("context", "contexts", "", recipe.contexts, CONTEXTS_PER_CALL, prompt))
    if method.attributes is not None:
        size = method.attributes.values
        for number, name in enumerate(task.attributes):
            prompt = partial(values_prompt, method, task, name)
            specs.append(ListSpec(ATTRIBUTE + name, "values", f"attr{number}-", size, CONTEXTS_PER_CALL, prompt))
    if (step := method.instructions) is not None:
        prompt = partial(instructions_prompt, method, task)
        size, copy = recipe.contexts, step.near_copy
        specs.append(
            ListSpec("task_instruction", "instructions", "instr-", size, step.per_call, prompt, step.shown, copy)
        )
    return specs


def list_rounds(recipe: Recipe) -> int:
    """The rounds that the lists of a recipe take, if the model repeats nothing."""
    specs = list_specs(recipe)
    return max((1 if _one_round(recipe, spec) else math.ceil(spec.size / spec.per_call) for spec in specs), default=0)


def _one_round(recipe: Recipe, spec: ListSpec) -> bool:
    """Whether one round asks for the whole list. A list whose prompts show a few of its items grows from round to round."""
    return recipe.few_rounds and spec.shown is None


def write_list(recipe: Recipe, spec: ListSpec, rejects: list[Reject]) -> Workflow[list[str]]:
    """Distinct items, requested in rounds that show earlier ones; fewer than requested if the model runs out of them.

    An answer that cannot be read is added to `rejects`, with its round as the attempt. Raises: UserError if no answer
    can be read.
    """
    distinct = DistinctItems(spec.near_copy)
    items, answer_count = distinct.items, 0
    unreadable: list[Reject] = []
    one_round = _one_round(recipe, spec)
    enough = math.ceil(spec.size * ENOUGH) if one_round else spec.size
    rounds = math.ceil(spec.size / spec.per_call) + FURTHER_ROUNDS
    for number in range(rounds):
        if len(items) >= enough:
            break
        lacking = spec.size - len(items)
        counts = _counts_of_round(lacking) if one_round else [min(spec.per_call, lacking)]
        requests = _round_requests(recipe, spec, items, number, counts)
        answers: list[Answer] = yield [_ask(request) for request in requests]
        answer_count += len(answers)
        for request, answer, count in zip(requests, answers, counts, strict=True):
            try:
                for item in read_object(answer, request.schema)[spec.plural][:count]:
                    if len(items) < spec.size:
                        distinct.add(item)
            except RowError as err:
                seed = InstanceSeed({}, "", (answer.id,))
                unreadable.append(Reject(None, number, "contexts", str(err), answer.text, (answer.id,), seed))
                rejects.append(unreadable[-1])
    if not items:
        raise UserError(_why_empty(recipe, spec, answer_count, unreadable))
    if len(items) < enough:
        log.warning(
            "generate: %s: got %d different items for %s from %d answers, expected %d. The rows will be less varied. For "
            "more, use a model that repeats itself less or a higher synth.sampling.contexts.temperature, in another run.dir.",
            *(recipe.task.name, len(items), spec.name, answer_count, spec.size),
        )
    return items


def _why_empty(recipe: Recipe, spec: ListSpec, answers: int, unreadable: list[Reject]) -> str:
    """The error if no answer held an item: the most frequent reason, with an example."""
    name, why, remedy = recipe.task.name, "they hold none", REMEDIES[None]
    if unreadable:
        ((reason, count),) = Counter(reject.reason for reject in unreadable).most_common(1)
        text = next(reject.text for reject in unreadable if reject.reason == reason)
        why = f"{count} x {reason}, such as {excerpt(text)}" if text else f"{count} x {reason}"
        remedy = REMEDIES.get(reason, remedy)
    return (
        f"{name}: got no readable {spec.name} in {answers} answers of {recipe.model} ({why}), expected {spec.size}. {remedy}, "
        f"in another run.dir. All answers are in calls/{name}.jsonl of this one."
    )


def _counts_of_round(lacking: int) -> list[int]:
    """The items that each call of a round asks for: enough that a repeated item or a lost answer takes no further round."""
    calls = math.ceil(lacking / MOST_AT_ONCE)
    return [math.ceil(lacking / calls)] * calls * TIMES_AT_ONCE


def _round_requests(recipe: Recipe, spec: ListSpec, items: list[str], number: int, counts: list[int]) -> list[Request]:
    """The calls of a round."""
    shown_items = _shown_items(recipe, spec, items, number)
    positions = [f"{spec.prefix}r{number}", *(f"{spec.prefix}r{number}-{part}" for part in range(1, len(counts)))]
    return [
        recipe.request("contexts", position, spec.prompt(count, shown_items))
        for position, count in zip(positions, counts, strict=True)
    ]


def _ask(request: Request) -> Workflow[Answer]:
    answer: Answer = yield request
    return answer


def _shown_items(recipe: Recipe, spec: ListSpec, items: list[str], number: int) -> list[str]:
    if spec.shown is None or len(items) <= spec.shown:
        return items
    draws = rng(recipe.seed, recipe.task.name, spec.name, number)
    return [items[position] for position in sorted(draws.sample(range(len(items)), spec.shown))]


@dataclass
class DistinctItems:
    """The items so far, each with its words and features, with which new ones are compared."""

    near_copy: float | None  # as in ListSpec
    trigrams_of: Callable[[str], frozenset[int]] = lambda item: frozenset(trigrams(item).tolist())  # once per item
    items: list[str] = field(default_factory=list)
    _words: list[list[str]] = field(default_factory=list)
    _features: list[frozenset[Feature]] = field(default_factory=list)

    def add(self, item: str) -> None:
        """Adds an item unless it has no words or is a copy of an earlier one."""
        item_words = words(item)
        features = self.trigrams_of(item) if self.near_copy is None else _multiset(item_words)
        if item_words and not self._has_copy(item_words, features):
            self.items.append(" ".join(item.split()))
            self._words.append(item_words)
            self._features.append(features)

    def _has_copy(self, item_words: list[str], features: frozenset[Feature]) -> bool:
        if self.near_copy is None:
            return item_words in self._words or self._has_similar(features)
        return any(
            _most_rouge_l(features, earlier) >= self.near_copy and rouge_l(item_words, earlier_words) >= self.near_copy
            for earlier_words, earlier in zip(self._words, self._features, strict=True)
        )

    def _has_similar(self, features: frozenset[Feature]) -> bool:
        """Whether the Jaccard similarity to an item reaches SAME. Shared features are counted only if the sizes allow it."""
        least, most = SAME * len(features), len(features) / SAME
        near = (earlier for earlier in self._features if least <= len(earlier) <= most)
        return any(
            (shared := len(features & earlier)) and shared / (len(features) + len(earlier) - shared) >= SAME
            for earlier in near
        )


def _multiset(item_words: list[str]) -> frozenset[Feature]:
    """The words, each with the number of its occurrence, from 0: a multiset as a set."""
    occurrences: Counter[str] = Counter()
    features: list[Feature] = []
    for word in item_words:
        features.append((word, occurrences[word]))
        occurrences[word] += 1
    return frozenset(features)


def _most_rouge_l(first: frozenset[Feature], second: frozenset[Feature]) -> float:
    """An upper bound of ROUGE-L: no common subsequence is longer than the words that both have."""
    return 2 * len(first & second) / (len(first) + len(second))
