"""The steps that make an instance, as jobs: TarGEN's, and those of the methods it is compared with.

A job is a generator: it yields a request and is sent its answer, or yields jobs and is sent the list of their results.
The engine (targen/synthesis/engine.py) decides what runs when; nothing here knows of time, servers or files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from targen.config.groups.generation import UNUSABLE
from targen.llm.messages import Answer, Request, read_object
from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.runtime.randomness import rng
from targen.synthesis.engine import Workflow
from targen.synthesis.prompts.step_prompts import (
    SEED_NUMBER,
    attributes_text,
    demonstrations_text,
    generation_prompt,
    lists_purposes,
    self_correction_prompt,
    whole_prompt,
    whole_seed_fields,
    without_required_number,
)
from targen.synthesis.recipe import (
    ATTRIBUTE,
    Candidate,
    InstanceSeed,
    ItemLists,
    Recipe,
    Reject,
    StepError,
    seed_request,
    shared_seed_request,
)
from targen.synthesis.slots.assignment import Slot, context_of_call, draw_items, number_in_group
from targen.tasks.task import Fields, LabelCell, Row, Task


def make_instance(
    recipe: Recipe,
    pools: ItemLists,
    slot: Slot,
    attempt: int,
    kept_seed: InstanceSeed | None = None,
    on_written: Callable[[Candidate], None] = lambda _: None,
) -> Workflow[Candidate | Reject]:
    """Steps 2 to 4 for one attempt of a slot; without instance seeds, one answer stands for steps 2 and 3.

    `kept_seed` is the instance seed of the attempt before, if this one starts from it too. `on_written` gets the instance
    before step 4, with the label that it was written for.
    """
    rows: list[Row] = []
    try:
        free_variants: dict[str, str] = {}
        if recipe.method.instance_seed is None:
            seed, rows = yield from write_whole(recipe, pools, slot, attempt)
            calls = seed.call_ids
        else:
            seed = kept_seed or (yield from write_instance_seed(recipe, pools.get("context", []), slot, attempt))
            rows, free_variants, calls = yield from generate(recipe, slot, attempt, seed)
        before = recipe.task.gold_option(rows[0])
        origin = (seed.context, seed.prompt_details, seed.seed, tuple(rows))
        candidate = Candidate(slot, attempt, *origin, before, before, "", calls, free_variants=free_variants)
        if recipe.self_correct == "off":
            return candidate
        on_written(candidate)
        verdict = yield from self_correct(recipe, slot, attempt, rows[0], seed, before, calls)
    except StepError as err:
        return Reject(slot, attempt, err.step, err.reason, err.text, err.call_ids, err.seed, rows=tuple(rows))
    after = verdict.label
    if after != before:
        if recipe.self_correct == "drop":
            reason, label_change, text = f"label changed from {before}", (before, after), verdict.explanation
            return Reject(
                slot, attempt, "self_correction", reason, text, verdict.call_ids, seed, label_change, tuple(rows)
            )
        rows = [recipe.task.relabel(row, after) for row in rows]
    explanation, calls = verdict.explanation, verdict.call_ids
    return replace(
        candidate, rows=tuple(rows), label_after=after, explanation=explanation, call_ids=calls, votes=verdict.votes
    )


def write_instance_seed(recipe: Recipe, contexts: Sequence[str], slot: Slot, attempt: int) -> Workflow[InstanceSeed]:
    """Step 2. First attempts share calls, several seeds each; a later attempt has its own."""
    task = recipe.task
    if recipe.file_seeds is not None:
        return _seed_of_file(recipe, slot, attempt)
    if recipe.round is not None and recipe.round.contexts:
        contexts = recipe.round.contexts
    if attempt == 0:
        group = recipe.group_of(slot)
        call, position = recipe.deal(group).call_and_position(slot)
        context = context_of_call(recipe.seed, task.name, contexts, call)
        count, request = shared_seed_request(recipe, group, call, context)
    else:
        count, position = 1, 0
        context = rng(recipe.seed, task.name, slot, attempt, "context").choice(contexts)
        request = seed_request(recipe, f"{slot}-a{attempt}", context, [slot])
    answer: Answer = yield request
    calls, prompt_details = (answer.id,), recipe.round_details(slot, context)
    try:
        seeds = read_object(answer, without_required_number(request.schema))["instance_seeds"]
        seed = _seed_at(task, seeds, position, count)
        task.check_instance_seed(seed)
    except RowError as err:
        failed_seed = InstanceSeed({}, context, calls, prompt_details)
        raise StepError("instance_seed", str(err), answer.text, calls, failed_seed) from None
    return InstanceSeed(seed, context, calls, prompt_details)


def _seed_at(task: Task, seeds: list[Json], position: int, expected: int) -> Json:
    """The instance seed at a position: by its number if the prompt numbers them, else by its order in the answer.

    By its order also if none of them has a number and all are there: without an enforced schema, some models leave it out.
    """
    if lists_purposes(task) and (any(SEED_NUMBER in seed for seed in seeds) or len(seeds) != expected):
        seeds = [seed for seed in seeds if seed.get(SEED_NUMBER) == position + 1]
        if len(seeds) != 1:
            raise RowError(f"answer holds {len(seeds)} instance seeds with number {position + 1}, expected one")
        return {name: value for name, value in seeds[0].items() if name != SEED_NUMBER}
    if position >= len(seeds):
        raise RowError(f"answer holds {len(seeds)} instance seeds, expected {expected}")
    return seeds[position]


def _seed_of_file(recipe: Recipe, slot: Slot, attempt: int) -> InstanceSeed:
    """The slot's line of the seed file; a later attempt draws another."""
    assert recipe.file_seeds is not None
    group = recipe.group_of(slot)
    seeds = recipe.file_seeds[group.number]
    number = number_in_group(recipe.seed, recipe.task.name, group, slot)
    if attempt > 0:
        number = rng(recipe.seed, recipe.task.name, slot, attempt, "file").randrange(len(seeds))
    seed = seeds[number % len(seeds)]
    try:
        recipe.task.check_instance_seed(seed)
    except RowError as err:
        raise StepError("instance_seed", str(err), str(seed), (), InstanceSeed({}, "", ())) from None
    return InstanceSeed(seed, "", ())


def generate(
    recipe: Recipe, slot: Slot, attempt: int, seed: InstanceSeed
) -> Workflow[tuple[list[Row], dict[str, str], tuple[str, ...]]]:
    """Step 3: the rest of the instance, so that the slot's label holds by construction. (rows, free variants, call ids)"""
    task, cell = recipe.task, recipe.task.label_cells[slot.cell]
    drawn_fields = task.draw_fields(cell, seed.seed, rng(recipe.seed, task.name, slot, attempt, "draw"))
    texts = {name: text for name, text in seed.seed.items() if isinstance(text, str)}
    values = {**recipe.variant_of(slot), **texts, **drawn_fields, "context": seed.context}
    prompt = generation_prompt(recipe.method, task, cell.label, values, seed.prompt_details.get("failures", ()))
    request = recipe.request("generation", f"{slot}-a{attempt}", prompt)
    answer: Answer = yield request
    calls = (*seed.call_ids, answer.id)
    try:
        fields = read_object(answer, request.schema)
        free_variants = {name: fields[name].strip() for name in task.free_variants}
        rest = {name: text for name, text in fields.items() if name not in free_variants}
        rows = _checked_rows(recipe, slot, attempt, seed.seed, drawn_fields, rest)
    except RowError as err:
        raise StepError("generation", str(err), answer.text, calls, seed) from None
    return rows, free_variants, calls


def write_whole(recipe: Recipe, pools: ItemLists, slot: Slot, attempt: int) -> Workflow[tuple[InstanceSeed, list[Row]]]:
    """A whole instance in one answer. Its fields are split by name, so that it passes the checks of steps 2 and 3."""
    task = recipe.task
    assert task.whole is not None
    texts, prompt_details = _prompt_texts(recipe, pools, slot, attempt)
    prompt = whole_prompt(recipe.method, task, recipe.purpose_of(slot), texts)
    request = recipe.request("generation", f"{slot}-a{attempt}", prompt)
    answer: Answer = yield request
    try:
        fields = read_object(answer, request.schema)
        seed, drawn_fields, rest = (
            {name: fields[name] for name in part}
            for part in (whole_seed_fields(task), task.whole.fields, task.generation.fields)
        )
        task.check_instance_seed(seed)
        rows = _checked_rows(recipe, slot, attempt, seed, drawn_fields, rest)
        if recipe.train_rows is not None:
            recipe.train_rows.check_no_copy(recipe.seed, task, slot, attempt, rows)
    except RowError as err:
        failed_seed = InstanceSeed({}, texts.get("context", ""), (answer.id,), prompt_details)
        raise StepError("generation", str(err), answer.text, (answer.id,), failed_seed) from None
    return InstanceSeed(seed, texts.get("context", ""), (answer.id,), prompt_details), rows


def _checked_rows(recipe: Recipe, slot: Slot, attempt: int, seed: Json, drawn: Fields, answer: Json) -> list[Row]:
    """The official rows of an answer. Raises: RowError with the reason for a refusal."""
    task, cell = recipe.task, recipe.task.label_cells[slot.cell]
    build_rng = rng(recipe.seed, task.name, slot, attempt, "build")
    rows = task.build_rows(cell, seed, drawn, answer, build_rng)
    for row in rows:
        task.check_format(task.with_idx(row, 0))
        task.check_quality(row, seed)
    return rows


def _prompt_texts(recipe: Recipe, pools: ItemLists, slot: Slot, attempt: int) -> tuple[dict[str, str], Json]:
    """What the prompt of an attempt shows beside the task: texts for the template, and the entries of provenance."""
    items = draw_items(recipe.seed, recipe.task, pools, slot, attempt)
    attributes = {name.removeprefix(ATTRIBUTE): items[name] for name in items if name.startswith(ATTRIBUTE)}
    texts = {name: item for name, item in items.items() if not name.startswith(ATTRIBUTE)}
    prompt_details: Json = {"task_instruction": texts["task_instruction"]} if "task_instruction" in texts else {}
    if attributes:
        texts["attributes"] = attributes_text(attributes)
        prompt_details["attributes"] = attributes
    if (train := recipe.train_rows) is not None:
        rows = train.of(recipe.seed, recipe.task, slot, attempt)
        texts["demonstrations"] = demonstrations_text(recipe.method, recipe.task, train.task, rows)
        prompt_details["demonstrations"] = train.provenance(rows)
    return texts, prompt_details


@dataclass(frozen=True)
class Verdict:
    """The result of self-correction; `call_ids` are all calls of the instance so far."""

    label: str
    explanation: str
    call_ids: tuple[str, ...]
    votes: Mapping[str, int] | None = None


def self_correct(
    recipe: Recipe, slot: Slot, attempt: int, row: Row, seed: InstanceSeed, label: str, calls: tuple[str, ...]
) -> Workflow[Verdict]:
    """Step 4: the kept or corrected label, by one correction as in the paper or the majority of several.

    A correction that cannot be read is no vote. In a tie with another label the instance keeps its own.

    Raises: StepError if no correction can be read, or the instance is judged unusable.
    """
    prompt = self_correction_prompt(
        recipe.method,
        recipe.task,
        recipe.task.view(row),
        None if recipe.correct_blind else label,
        recipe.task.label_options(row),
        recipe.correct_refuses,
    )
    if recipe.self_correct != "vote":
        opinion = yield from _correction(recipe, recipe.request("self_correction", f"{slot}-a{attempt}", prompt))
        calls = (*calls, opinion.call_id)
        if opinion.problem is not None:
            raise StepError("self_correction", opinion.problem, opinion.text, calls, seed)
        return _unless_refused(Verdict(opinion.label, opinion.text, calls), seed)
    sampling = replace(recipe.sampling["self_correction"], temperature=recipe.vote_temperature)
    positions = [f"{slot}-a{attempt}-v{number}" for number in range(recipe.votes)]
    opinions = yield [
        _correction(recipe, recipe.request("self_correction", position, prompt, sampling)) for position in positions
    ]
    calls = (*calls, *(opinion.call_id for opinion in opinions))
    readable = [opinion for opinion in opinions if opinion.problem is None]
    if not readable:
        raise StepError("self_correction", opinions[0].problem, opinions[0].text, calls, seed)
    votes = Counter(opinion.label for opinion in readable)
    winner = max(votes, key=lambda name: (votes[name], name == label, name))
    explanation = next(opinion.text for opinion in readable if opinion.label == winner)
    return _unless_refused(Verdict(winner, explanation, calls, dict(sorted(votes.items()))), seed)


def _unless_refused(verdict: Verdict, seed: InstanceSeed) -> Verdict:
    """The same verdict. Raises: StepError if it refuses the instance."""
    if verdict.label == UNUSABLE:
        raise StepError("self_correction", "judged unusable", verdict.explanation, verdict.call_ids, seed)
    return verdict


@dataclass(frozen=True)
class _Opinion:
    """One correction: label and explanation, or the problem with its answer and the raw text."""

    call_id: str
    label: str
    text: str
    problem: str | None = None


def _correction(recipe: Recipe, request: Request) -> Workflow[_Opinion]:
    answer: Answer = yield request
    try:
        fields = read_object(answer, request.schema)
    except RowError as err:
        return _Opinion(answer.id, "", answer.text, str(err))
    return _Opinion(answer.id, fields["label"], fields["explanation"].strip())


def final_cell(task: Task, candidate: Candidate) -> LabelCell:
    """The label cell to which the corrected label moves the instance."""
    cell = task.label_cells[candidate.slot.cell]
    if cell.label is None or not candidate.flipped:
        return cell
    return next(c for c in task.label_cells if c.label == candidate.label_after and c.variant == cell.variant)
