"""Estimates the calls of a task and their tokens: runs the task's real workflows for some instances, without a model.

Their requests are answered from the shipped recording, by field name, so this works for any method, prompts and model. A task
that it does not fit gets answers as long as its prompts ask for.
"""

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from targen.config.groups.generation import STEPS, Generator, Step
from targen.cost.expected_answers import DEFAULT_WORDS, Length, any_answer, expected_lengths, expected_texts, filler
from targen.llm.backends.recorded import RECORDINGS
from targen.llm.fast_json import decode_json
from targen.llm.messages import Answer, Request
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.runtime.paths import visible_paths
from targen.runtime.randomness import rng
from targen.synthesis.engine import Workflow
from targen.synthesis.item_lists import CONTEXTS_PER_CALL, TIMES_AT_ONCE, write_lists
from targen.synthesis.prompts.step_prompts import SEED_NUMBER
from targen.synthesis.recipe import ItemLists, Recipe
from targen.synthesis.slots.assignment import Deal, Slot
from targen.synthesis.steps import make_instance

CHARACTERS_PER_TOKEN = 4  # a rule of thumb for English prose
ANY_LIST = "*"  # key of the texts for every list that has no texts under its own name
SAMPLED_ROWS = 24  # of the recording
MOST_SAMPLED = 48  # instances of a task that has no recording
SUPERGLUE = RECORDINGS / "superglue"
RECORDED_SEED = 0  # the master seed of the shipped recording, which decides the instance seed of a slot
CountTokens = Callable[[str], float]  # text -> tokens


@dataclass(frozen=True)
class StepEstimate:
    """One step: the number of calls per task (contexts) or per instance (other steps), and the mean tokens of a call."""

    times: int
    prompt: float
    completion: float


@dataclass(frozen=True)
class TaskEstimate:
    """Every step of the task. `expected`: the lengths that its prompts name, by field; None: those of recorded answers."""

    calls: dict[Step, StepEstimate]
    expected: dict[str, Length] | None = None


def estimate_task(recipe: Recipe, count: CountTokens) -> TaskEstimate:
    """Runs the workflows of a recipe for recorded instances; if none fit, for instances as long as its prompts ask for."""
    written_lists, exchanges = _run_workflow(write_lists(recipe), _context_lists(recipe.task.name))
    lists = _list_calls(recipe, written_lists.lists, exchanges, count)
    samples, expected = _recorded_samples(recipe), None
    recorded = replace(recipe, seed=RECORDED_SEED)
    calls = lists | _instance_calls(recorded, written_lists.lists, samples, count)
    if not _steps(recipe) <= set(calls):
        slots = [recipe.slot(cell.number, number) for number in range(SAMPLED_ROWS) for cell in recipe.task.label_cells]
        samples = [(slot, expected_texts(recipe, slot)) for slot in slots[:MOST_SAMPLED]]
        unchecked = replace(recipe, task=any_answer(recipe.task))
        calls = lists | _instance_calls(unchecked, written_lists.lists, samples, count)
        expected = expected_lengths(recipe, slots[0])
    return TaskEstimate(calls, expected)


def _steps(recipe: Recipe) -> set[Step]:
    """The steps that an instance takes."""
    steps: set[Step] = {"generation"}
    if recipe.method.instance_seed is not None and recipe.file_seeds is None:
        steps.add("instance_seed")
    if recipe.self_correct != "off":
        steps.add("self_correction")
    return steps


def _list_calls(
    recipe: Recipe, item_lists: ItemLists, exchanges: list[tuple[Request, str]], count: CountTokens
) -> dict[Step, StepEstimate]:
    if not exchanges:
        return {}
    prompts = sum(count(_prompt_text(request)) for request, _ in exchanges)
    list_tokens = count(json.dumps(item_lists, ensure_ascii=False))  # only the items used: an answer may list more
    list_tokens *= TIMES_AT_ONCE if recipe.few_rounds else 1
    return {"contexts": StepEstimate(len(exchanges), prompts / len(exchanges), list_tokens / len(exchanges))}


def _instance_calls(
    recipe: Recipe, item_lists: ItemLists, samples: Sequence[tuple[Slot, Json]], count: CountTokens
) -> dict[Step, StepEstimate]:
    """The steps of instances that are answered with these texts, up to the step whose answers are refused."""
    times: Counter[Step] = Counter()
    lengths: dict[Step, list[tuple[float, float]]] = defaultdict(list)
    for slot, texts in samples:
        answers = {**texts, "instance_seeds": [texts] * recipe.deal(recipe.group_of(slot)).per_call}
        _, exchanges = _run_workflow(make_instance(recipe, item_lists, slot, 0), itertools.repeat(answers))
        for step in STEPS:
            pairs = [(count(_prompt_text(request)), count(text)) for request, text in exchanges if request.step == step]
            times[step] = max(times[step], len(pairs))
            lengths[step] += pairs
    calls: dict[Step, StepEstimate] = {}
    for step, pairs in lengths.items():
        if not pairs:
            continue
        prompts, completions = (sum(column) for column in zip(*pairs, strict=True))
        calls[step] = StepEstimate(times[step], prompts / len(pairs), completions / len(pairs))
    return calls


def _run_workflow(workflow: Workflow[Any], texts: Iterator[Json]) -> tuple[Any, list[tuple[Request, str]]]:
    """The result of a workflow, and its requests with their answers, which take their fields from the next of `texts`."""
    exchanges: list[tuple[Request, str]] = []

    def drive(workflow: Workflow[Any]) -> Any:
        value: Any = None
        while True:
            try:
                yielded = workflow.send(value)
            except StopIteration as stop:
                return stop.value
            if isinstance(yielded, Request):
                text = json.dumps(_value(yielded.schema, "", next(texts)), ensure_ascii=False)
                exchanges.append((yielded, text))
                value = Answer(yielded.id, text, "stop", {}, "")
            else:
                value = [drive(inner) for inner in yielded]

    return drive(workflow), exchanges


def _value(schema: Json, name: str, texts: Json) -> Any:
    """A value that fits the schema, with the texts of its fields' names."""
    if "properties" in schema:
        inner = texts if not isinstance(texts.get(name), dict) else texts[name]
        return {key: _value(part, key, inner) for key, part in schema["properties"].items()}
    if schema.get("type") == "array":
        items: Json = schema["items"]
        texts_of_list: list[Any] = texts[name] if name in texts else texts.get(ANY_LIST, [])
        if "properties" not in items:
            return list(texts_of_list)
        return [_value(items, "", {**item, SEED_NUMBER: number}) for number, item in enumerate(texts_of_list, start=1)]
    if schema.get("type") == "integer":
        return int(texts[name])
    if "enum" in schema:
        return texts.get(name) if texts.get(name) in schema["enum"] else schema["enum"][0]
    return str(texts.get(name, filler(name, DEFAULT_WORDS)))


def _prompt_text(request: Request) -> str:
    return "\n".join(message["content"] for message in request.body["messages"])


def _context_lists(task: str) -> Iterator[Json]:
    """Lists of distinct phrases of recorded length: first the task's contexts, then those of the other tasks."""
    phrases = _phrases([task, *(path.stem for path in visible_paths(SUPERGLUE, "*.jsonl"))])
    while True:
        yield {ANY_LIST: list(itertools.islice(phrases, CONTEXTS_PER_CALL))}


def _phrases(tasks: list[str]) -> Iterator[str]:
    """The recorded contexts of these tasks, then the same with numbers, without end. A recording is read when it is needed."""
    phrases: dict[str, None] = {}
    for phrase in (phrase for name in tasks for phrase in _recorded_contexts(name)):
        if phrase not in phrases:
            phrases[phrase] = None
            yield phrase
    for turn in itertools.count(1):
        yield from (f"{phrase} {turn}" for phrase in phrases)


def _recorded_samples(recipe: Recipe) -> list[tuple[Slot, Json]]:
    """Slots with the texts of their recorded answers, by field; empty if the recording does not fit the task."""
    task, answers = recipe.task, _recording(recipe.task.name)
    seeds: dict[tuple[int, int], list[Json]] = {}
    for position, answer in answers.items():
        if match := re.match(r"instance_seed-g(\d+)-(\d+)$", position):
            seeds[int(match[1]), int(match[2])] = answer["instance_seeds"]
    contexts, per_call = len(_recorded_contexts(task.name)), max(map(len, seeds.values()), default=1)
    samples = []
    for position, answer in answers.items():
        if match := re.match(r"generation-c(\d+)-(\d+)-a0$", position):
            slot = Slot(int(match[2]), int(match[1]))
            if slot.cell >= len(task.label_cells):
                return []
            group = recipe.group_of(slot)
            call, number = Deal(RECORDED_SEED, task.name, group, contexts, per_call).call_and_position(slot)
            if number >= len(served := seeds.get((group.number, call), [])):
                return []
            seed = served[number]
            if not seed.keys() >= set(task.instance_seed.fields):
                return []
            drawn = task.draw_fields(task.label_cells[slot.cell], seed, rng(RECORDED_SEED, task.name, slot, 0, "draw"))
            correction = answers.get(position.replace("generation", "self_correction"), {})
            samples.append((slot, {**correction, **drawn, **seed, **answer}))
    if not all(texts.keys() >= set(task.generation.fields) for _, texts in samples):
        return []
    return sorted(samples, key=lambda sample: sample[0])[: SAMPLED_ROWS // task.rows_per_slot]


def _recorded_contexts(task: str) -> list[str]:
    return [
        name
        for position, answer in _recording(task).items()
        if position.startswith("contexts")
        for name in answer["contexts"]
    ]


@lru_cache(maxsize=64)
def _recording(task: str) -> dict[str, Json]:
    """The shipped answers of a task as objects, by position (`generation-c0-00003-a0`); empty for other tasks."""
    path = SUPERGLUE / f"{task}.jsonl"
    if not path.is_file():
        return {}
    records = map(decode_json, path.read_bytes().splitlines())
    return {record["id"].rpartition("-")[0].removeprefix(f"{task}-"): decode_json(record["text"]) for record in records}


def token_counter(generator: Generator) -> tuple[CountTokens, str]:
    """A function that counts tokens, and a sentence that says how: with the model's tokenizer if its file is on this machine.

    Raises: UserError if the file is not a tokenizer.
    """
    path = _tokenizer_file(generator)
    if path is None:
        return lambda text: len(text) / CHARACTERS_PER_TOKEN, (
            f"Tokens are estimated at {CHARACTERS_PER_TOKEN} characters each: no tokenizer.json of the model is on this machine."
        )
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises no narrower type
        raise UserError(f"{path}: not a tokenizer ({err}). Repair it, or remove it from generator.path.") from None
    tokenizer.no_truncation()  # the file may enable both
    tokenizer.no_padding()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids), f"Tokens are counted with {path}."


def _tokenizer_file(generator: Generator) -> Path | None:
    """tokenizer.json of `generator.path`, or of the Hub's cache; nothing is downloaded."""
    if generator.path and (path := Path(generator.path) / "tokenizer.json").is_file():
        return path
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", generator.model):
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(generator.model, "tokenizer.json")
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None
