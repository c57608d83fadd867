"""The prompts of a row's calls, rebuilt from its provenance: only a hash of each prompt is stored."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from targen.llm.messages import Request
from targen.runtime.errors import RowError
from targen.synthesis.recipe import InstanceSeed, Recipe, Round, StepError
from targen.synthesis.slots.assignment import Slot
from targen.synthesis.steps import generate, self_correct, write_instance_seed, write_whole
from targen.tasks.task import Row

MARKED = re.compile(r"-(h\d+-[0-9a-f]+-)[cg]\d")  # in the id of a call of a later round


def rebuilt_prompts(recipe: Recipe, story: Mapping[str, Any], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """(step, prompt) of every call of a line of provenance.jsonl or rejects.jsonl whose prompt can be rebuilt, in order.

    `rows`: the rows of the attempt, if it came so far. A rebuilt prompt counts only if the id of its request, a hash of
    everything that is sent, is the id of a call of the line.
    """
    if story.get("slot") is None or not (ids := set(story.get("call_ids") or ())):
        return []
    cell, _, index = str(story["slot"])[1:].partition("-")
    slot, attempt, context = Slot(int(index), int(cell)), int(story["attempt"]), story.get("context") or ""
    round_info = {name: story[name] for name in ("round", "failures") if name in story}
    if round_info.get("round", 1) > 1:
        recipe = replace(recipe, round=Round(round_info["round"], (context,), mark=_round_mark(ids)))
    seed = InstanceSeed(story.get("instance_seed") or {}, context, (), round_info)
    label = story.get("label_before") or story.get("label") or ""
    jobs: list[Callable[[], Generator[Any, Any, Any]]] = []
    if recipe.method.instance_seed is not None:
        # an instance that is written once more keeps the instance seed of the attempt before
        jobs += [
            partial(write_instance_seed, recipe, [context], slot, number) for number in {attempt, max(0, attempt - 1)}
        ]
        jobs += [partial(generate, recipe, slot, attempt, seed)] if seed.seed else []
    else:
        jobs += [partial(write_whole, recipe, _item_lists(story), slot, attempt)]
    if rows:
        jobs += [partial(self_correct, recipe, slot, attempt, rows[0], seed, label, ())]
    requests = [request for job in jobs if (request := _first_request(job)) is not None]
    prompts = {request.id: (request.step, request.body["messages"][-1]["content"]) for request in requests}
    return [prompts[call] for call in prompts if call in ids]


def _round_mark(ids: set[str]) -> str:
    """The mark of the round in the ids of its calls."""
    return next((match[1] for id in ids if (match := MARKED.search(id))), "")


def _item_lists(story: Mapping[str, Any]) -> dict[str, list[str]]:
    """The item lists of a prompt for a whole instance, each with only the item that was drawn for it."""
    lists = {f"attributes.{name}": [value] for name, value in (story.get("attributes") or {}).items()}
    lists |= {"context": [story["context"]]} if story.get("context") else {}
    return lists | ({"task_instruction": [story["task_instruction"]]} if "task_instruction" in story else {})


def _first_request(job: Callable[[], Generator[Any, Any, Any]]) -> Request | None:
    """The first call of a job; None if the provenance lacks what it needs."""
    try:
        first = next(job())
        while not isinstance(first, Request):  # several jobs at once
            first = next(first[0])
    except (StopIteration, StepError, RowError, KeyError, IndexError, ValueError):
        return None
    return first
