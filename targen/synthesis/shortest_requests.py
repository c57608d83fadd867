"""The shortest request of every step and label cell: the least that a model's context must hold."""

from collections.abc import Iterator

from targen.config.groups.generation import Step
from targen.llm.messages import Request
from targen.synthesis.item_lists import list_specs
from targen.synthesis.prompts.step_prompts import (
    Prompt,
    generation_prompt,
    instance_seed_prompt,
    self_correction_prompt,
    whole_prompt,
)
from targen.synthesis.recipe import Recipe
from targen.synthesis.slots.assignment import Slot
from targen.tasks.task import LabelCell


def shortest_requests(recipe: Recipe) -> list[Request]:
    """One request for every label cell and step of the recipe, with all fields empty."""
    return [
        recipe.request(step, f"shortest-c{cell.number}", prompt)
        for cell in recipe.task.label_cells
        for step, prompt in _empty_prompts(recipe, cell)
    ]


def _empty_prompts(recipe: Recipe, cell: LabelCell) -> Iterator[tuple[Step, Prompt]]:
    method, task = recipe.method, recipe.task
    purpose = recipe.purpose_of(Slot(0, cell.number))
    for pool in list_specs(recipe):
        yield "contexts", pool.prompt(1, [])
    if method.instance_seed is None:
        yield "generation", whole_prompt(method, task, purpose, dict.fromkeys(method.shown, ""))
    else:
        if recipe.file_seeds is None:
            yield "instance_seed", instance_seed_prompt(method, task, "", [purpose])
        texts = [name for name, spec in task.instance_seed.fields.items() if isinstance(spec, str)]
        values = {**dict.fromkeys([*texts, *task.drawn_fields, "context"], ""), **purpose.variant}
        yield "generation", generation_prompt(method, task, cell.label, values)
    if recipe.self_correct != "off":
        view = dict.fromkeys([*task.row, *task.view_fields], "")
        options = [label.name for label in task.labels] or [""]
        label = None if recipe.correct_blind else ""
        yield "self_correction", self_correction_prompt(method, task, view, label, options, recipe.correct_refuses)
