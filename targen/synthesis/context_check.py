"""Whether what is asked fits into a model's context: found before a model is loaded, from the shortest prompts there are."""

from collections.abc import Callable, Iterator, Sequence

from targen.config.generation import Step
from targen.llm.messages import Request
from targen.runtime.errors import UserError
from targen.synthesis.item_lists import pools_of
from targen.synthesis.prompts import (
    Prompt,
    generation_prompt,
    instance_seed_prompt,
    self_correction_prompt,
    whole_prompt,
)
from targen.synthesis.recipe import Recipe
from targen.tasks.task import LabelCell

CountTokens = Callable[[list[dict[str, str]]], int]


def shortest_requests(recipe: Recipe) -> list[Request]:
    """For every label cell and step that the recipe asks, the request whose fields are all empty."""
    asked = [
        (step, f"shortest-c{cell.number}", prompt)
        for cell in recipe.task.cells
        for step, prompt in _empty_prompts(recipe, cell)
    ]
    return [recipe.request(step, place, prompt) for step, place, prompt in asked]


def _empty_prompts(recipe: Recipe, cell: LabelCell) -> Iterator[tuple[Step, Prompt]]:
    method, task = recipe.method, recipe.task
    for pool in pools_of(recipe):
        yield "contexts", pool.prompt(1, [])
    if method.instance_seed is None:
        yield "generation", whole_prompt(method, task, cell, dict.fromkeys(method.shown, ""))
    else:
        if recipe.file_seeds is None:
            yield "instance_seed", instance_seed_prompt(method, task, "", 1, cell.fields)
        texts = [name for name, spec in task.instance_seed.fields.items() if isinstance(spec, str)]
        values = {**dict.fromkeys([*texts, *task.drawn_fields, "context"], ""), **cell.fields}
        yield "generation", generation_prompt(method, task, cell.label, values)
    if recipe.self_correct != "off":
        view = dict.fromkeys([*task.row, *task.view_fields], "")
        options = [label.name for label in task.labels] or [""]
        yield "self_correction", self_correction_prompt(method, task, view, "", options)


def require_room(shortest: Sequence[Request], count: CountTokens, room: int, how_to_widen: str) -> None:
    """Raises: UserError with a line for each step of each task that cannot fit into `room` tokens."""
    least: dict[tuple[str, Step], tuple[int, int]] = {}
    for request in shortest:
        body = request.body
        needed = (count(body["messages"]), int(body["max_tokens"]))
        least[request.task, request.step] = min(needed, least.get((request.task, request.step), needed))
    problems = [
        f"synth.sampling.{step}.max_tokens: got {answer}, expected at most {max(room - prompt, 0)} for {task}, whose "
        f"shortest prompt of this step takes {prompt} of the model's {room} tokens. Lower it{how_to_widen}."
        for (task, step), (prompt, answer) in least.items()
        if prompt + answer > room
    ]
    if problems:
        raise UserError("\n".join(problems))
