"""How long the calls of a task are: its own jobs, driven by hand for some instances, and the tokens of what they ask.

What they ask is answered from the shipped recording, by the names of the fields, whatever the method, the prompts and the model.
"""

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from targen.config.groups.generation import Generator, Step
from targen.llm.backends.recorded import SHIPPED
from targen.llm.messages import Answer, Request
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.randomness import rng
from targen.synthesis.engine import Workflow
from targen.synthesis.item_lists import CONTEXTS_PER_CALL, write_lists
from targen.synthesis.recipe import Recipe
from targen.synthesis.slots import Slot, seed_place
from targen.synthesis.steps import make_instance
from targen.tasks.task import Task

CHARACTERS_PER_TOKEN = 4  # of English prose, as a rule of thumb
ANY_LIST = "*"  # among the texts of an answer: what any list holds that has no text of its own name
RECORDED_SEED = 0  # the master seed of the shipped recording: it decides which instance seed a slot has
Counted = Callable[[str], float]  # text -> tokens


@dataclass(frozen=True)
class Call:
    """One step: its calls for a task (contexts) or for an instance (the others), and the tokens of a call on the mean."""

    times: int
    prompt: float
    completion: float


@dataclass(frozen=True)
class Measure:
    """The steps that were reached; `recorded`: with recorded answers, else with fields of their usual length."""

    calls: dict[Step, Call]
    recorded: bool


def measure(recipe: Recipe, count: Counted) -> Measure:
    """Drives the jobs of a recipe for the instances on record, or for one of each label cell."""
    calls: dict[Step, Call] = {}
    written_lists, seen = _driven(write_lists(recipe), _lists(recipe.task.name))
    item_lists = written_lists.lists
    if seen:
        prompts = sum(count(_text(request)) for request, _ in seen)
        written = count(json.dumps(item_lists, ensure_ascii=False))  # what was taken, for an answer may list more
        calls["contexts"] = Call(len(seen), prompts / len(seen), written / len(seen))
    samples = _recorded_samples(recipe)
    recorded = bool(samples)
    if not samples:
        samples = [(Slot(0, cell.number), _described(recipe.task)) for cell in recipe.task.label_cells]
    times: Counter[Step] = Counter()
    lengths: dict[Step, list[tuple[float, float]]] = defaultdict(list)
    recipe = replace(recipe, seed=RECORDED_SEED)
    for slot, texts in samples:
        shown = {**texts, "instance_seeds": [texts] * recipe.seeds_per_context}
        _, seen = _driven(make_instance(recipe, item_lists, slot, 0), itertools.repeat(shown))
        times |= Counter(request.step for request, _ in seen)
        for request, text in seen:
            lengths[request.step].append((count(_text(request)), count(text)))
    for step, pairs in lengths.items():
        prompts, written = (sum(column) for column in zip(*pairs, strict=True))
        calls[step] = Call(times[step], prompts / len(pairs), written / len(pairs))
    return Measure(calls, recorded)


def _driven(workflow: Workflow[Any], texts: Iterator[Json]) -> tuple[Any, list[tuple[Request, str]]]:
    """A job's result, and what it asked, each with its answer: the next of `texts`, in the form that is asked for."""
    seen: list[tuple[Request, str]] = []

    def drive(workflow: Workflow[Any]) -> Any:
        value: Any = None
        while True:
            try:
                yielded = workflow.send(value)
            except StopIteration as stop:
                return stop.value
            if isinstance(yielded, Request):
                text = json.dumps(_value(yielded.schema, "", next(texts)), ensure_ascii=False)
                seen.append((yielded, text))
                value = Answer(yielded.id, text, "stop", {}, "")
            else:
                value = [drive(inner) for inner in yielded]

    return drive(workflow), seen


def _value(schema: Json, name: str, texts: Json) -> Any:
    """A value that fits a schema, with the texts in the fields of these names."""
    if "properties" in schema:
        inner = texts if not isinstance(texts.get(name), dict) else texts[name]
        return {key: _value(part, key, inner) for key, part in schema["properties"].items()}
    if schema.get("type") == "array":
        items: Json = schema["items"]
        texts_of_list: list[Any] = texts[name] if name in texts else texts.get(ANY_LIST, [])
        return [_value(items, "", item) for item in texts_of_list] if "properties" in items else list(texts_of_list)
    if "enum" in schema:
        return texts.get(name) if texts.get(name) in schema["enum"] else schema["enum"][0]
    return str(texts.get(name, _filler(name)))


def _text(request: Request) -> str:
    return "\n".join(message["content"] for message in request.body["messages"])


def _lists(task: str) -> Iterator[Json]:
    """Lists of phrases that differ from one another, of recorded length: the task's contexts, then those of the other tasks."""
    tasks = [task, *(path.stem for path in sorted(SHIPPED.glob("*.jsonl")))]
    phrases = list(dict.fromkeys(phrase for name in tasks for phrase in _recorded_contexts(name)))
    named = (f"{phrase} {turn}" if turn else phrase for turn in itertools.count() for phrase in phrases)
    while True:
        yield {ANY_LIST: list(itertools.islice(named, CONTEXTS_PER_CALL))}


def _recorded_samples(recipe: Recipe) -> list[tuple[Slot, Json]]:
    """Slots with the texts of their recorded answers, by field; none where they do not fit the task."""
    task, answers = recipe.task, _recording(recipe.task.name)
    seeds: dict[int, list[Json]] = defaultdict(list)
    for place in sorted(answers):
        if match := re.match(r"instance_seed-g(\d+)-", place):
            seeds[int(match[1])] += answers[place]["instance_seeds"]
    samples = []
    for place, answer in answers.items():
        if match := re.match(r"generation-c(\d+)-(\d+)-a0$", place):
            slot = Slot(int(match[2]), int(match[1]))
            if slot.cell >= len(task.label_cells):
                return []
            group = recipe.group_of(slot)
            number, _ = seed_place(RECORDED_SEED, task.name, group, slot, 1)
            if number >= len(seeds[group.number]) or not seeds[group.number][number].keys() >= set(
                task.instance_seed.fields
            ):
                return []
            seed = seeds[group.number][number]
            drawn = task.draw_fields(task.label_cells[slot.cell], seed, rng(RECORDED_SEED, task.name, slot, 0, "draw"))
            correction = answers.get(place.replace("generation", "self_correction"), {})
            samples.append((slot, {**correction, **drawn, **seed, **answer}))
    return samples if all(texts.keys() >= set(task.generation.fields) for _, texts in samples) else []


def _described(task: Task) -> Json:
    """Every field of the task with a text of the usual length in it: its own description, as far as that goes."""
    fields = {**task.instance_seed.fields, **task.generation.fields}
    return {name: _filler(spec) if isinstance(spec, str) else [_filler(name)[:12]] * 3 for name, spec in fields.items()}


def _filler(text: str) -> str:
    return (f"{text} " * _usual_length())[: _usual_length()].strip()


@lru_cache(maxsize=1)
def _usual_length() -> int:
    """Characters of a recorded field, on the mean."""
    lengths = [
        len(value)
        for path in sorted(SHIPPED.glob("*.jsonl"))
        for answer in _recording(path.stem).values()
        for part in answer.get("instance_seeds", [answer])
        for name, value in part.items()
        if isinstance(value, str) and name != "label"
    ]
    return round(sum(lengths) / len(lengths))


def _recorded_contexts(task: str) -> list[str]:
    return [
        name
        for place, answer in _recording(task).items()
        if place.startswith("contexts")
        for name in answer["contexts"]
    ]


@lru_cache(maxsize=64)
def _recording(task: str) -> dict[str, Json]:
    """The shipped answers of a task, as objects, by place (`generation-c0-00003-a0`); empty for another task."""
    path = SHIPPED / f"{task}.jsonl"
    if not path.is_file():
        return {}
    records = (record for _, record in read_jsonl(path))
    return {record["id"].rpartition("-")[0].removeprefix(f"{task}-"): json.loads(record["text"]) for record in records}


def tokens_of(generator: Generator) -> tuple[Counted, str]:
    """How tokens are counted, and a sentence on it: by the model's tokenizer where its file lies on this machine."""
    path = _tokenizer_file(generator)
    if path is None:
        return lambda text: len(text) / CHARACTERS_PER_TOKEN, (
            f"Tokens are estimated at {CHARACTERS_PER_TOKEN} characters each: no tokenizer.json of the model is on this machine."
        )
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises no narrower type
        raise UserError(f"{path}: not a tokenizer ({err}). Repair it, or take it out of generator.path.") from None
    tokenizer.no_truncation()  # the file may ask for both
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
