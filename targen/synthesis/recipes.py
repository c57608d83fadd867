"""The recipes of a run, from its settings, after all checks that need no call."""

import logging
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

from targen.config.loading import mistakes_by_file
from targen.config.settings import Settings
from targen.llm.messages import schema_problem
from targen.llm.registry import backend_named
from targen.quality.available import check_students
from targen.quality.learnability import MIN_PER_LABEL, MIN_QUESTIONS
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl, without_surrogates
from targen.synthesis.demonstrations import train_rows
from targen.synthesis.hard_cases import round_ends
from targen.synthesis.prompts.step_prompts import file_seed_schema, seed_variant_keys
from targen.synthesis.prompts.template_checks import checked_templates
from targen.synthesis.recipe import Recipe, Round
from targen.synthesis.slots.assignment import seed_groups
from targen.tasks.task import Task

log = logging.getLogger(__name__)


def recipes(settings: Settings, runs_here: bool = True) -> list[Recipe]:
    """The recipe of every task, after all checks that need no call. `runs_here`: the backend must be ready on this machine.

    Raises: UserError with all problems that would otherwise stop the phase after calls were paid for or files written.
    """
    with mistakes_by_file(settings.task_dir):
        checked_templates(settings.method, list(settings.tasks.values()))
    backend = backend_named(settings.generator.backend)
    if runs_here:
        backend.check(settings)
    if settings.method.rounds is not None:
        check_students(settings.method.rounds.students)
    task_recipes, problems = [], []
    for task in settings.tasks.values():
        try:
            task_recipes.append(recipe_of(settings, task))
            _check_rows_of_labels(settings, task_recipes[-1])
            _check_rounds(settings, task_recipes[-1])
        except UserError as err:
            problems.append(str(err))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    return task_recipes


def _check_rows_of_labels(settings: Settings, recipe: Recipe) -> None:
    """Raises: UserError if the size is too small for a row of each label. Published shares and pilots may lack a label."""
    task, synth = recipe.task, settings.synth
    if not task.labels or synth.label_share == "original" or synth.pilot is not None:
        return
    rows = Counter[str]()
    for cell, count in zip(task.label_cells, recipe.quotas(synth.size_of(task)), strict=True):
        rows[cell.label or ""] += count
    if without := [label.name for label in task.labels if not rows[label.name]]:
        key = "synth.size" if synth.label_share == "balanced" else "synth.label_share"
        more = f" and {len(without) - 3} more" if len(without) > 3 else ""
        raise UserError(
            f"{key}: got {synth.size_of(task)} rows of {task.name}, which leaves none for {', '.join(without[:3])}{more}, expected a "
            f"row of each of its {len(task.labels)} labels. Set a larger synth.size"
            f"{'' if key == 'synth.size' else ', or larger shares for these labels'}."
        )


def _check_rounds(settings: Settings, recipe: Recipe) -> None:
    """Raises: UserError if the first round has too few rows to teach a student, or a later one has none."""
    rounds, task = settings.method.rounds, recipe.task
    if rounds is None:
        return
    size, ends = settings.synth.whole_size_of(task), recipe.round_ends
    rows = Counter[str]()
    for cell, count in zip(task.label_cells, recipe.quotas(ends[0]), strict=True):
        rows[cell.label or ""] += count * task.rows_per_slot
    rarest = min(rows.values()) if task.labels and task.choices == "labels" else MIN_PER_LABEL
    if ends[0] < MIN_QUESTIONS or rarest < MIN_PER_LABEL:
        raise UserError(
            f"synth.size: got {size} rows of {task.name}, of which method={settings.method.name} makes {ends[0]} in its first round "
            f"(method.rounds.first={rounds.first:g}), expected at least {MIN_QUESTIONS} there and {MIN_PER_LABEL} of each label, or no student "
            "can be taught. Raise synth.size, or method.rounds.first."
        )
    if len({*ends, size}) <= len(ends):
        raise UserError(
            f"method.rounds.count: got {rounds.count} rounds for {size} rows of {task.name} with method.rounds.first={rounds.first:g}, which "
            "leaves one without rows. Lower either of them."
        )


def recipe_of(settings: Settings, task: Task) -> Recipe:
    """The recipe of one task. Raises: UserError if seed file or demonstrations are missing or do not fit."""
    synth, demonstrations, rounds = settings.synth, settings.method.demonstrations, settings.method.rounds
    ends: tuple[int, ...] = ()
    if rounds is not None:
        ends = round_ends(rounds.count, rounds.first, synth.whole_size_of(task), task.rows_per_slot)
    return Recipe(
        task=task,
        method=settings.method,
        model=settings.generator.model,
        sampling=synth.sampling,
        seed=settings.seed,
        contexts=synth.contexts,
        seeds_per_context=synth.seeds_per_context,
        self_correct=synth.self_correct,
        votes=synth.votes,
        vote_temperature=synth.vote_temperature,
        max_attempts=synth.max_attempts,
        max_slots=synth.max_slots,
        spare=synth.spare,
        near_duplicates=synth.near_duplicates,
        file_seeds=_file_seeds(Path(synth.seed_dir), task) if synth.seed_dir else None,
        label_shares=synth.label_shares(task),
        correct_blind=synth.correct_blind,
        correct_refuses=synth.correct_refuses,
        few_rounds=synth.few_rounds,
        round_ends=ends,
        round=Round(1) if rounds is not None else None,
        train_rows=train_rows(settings, task, demonstrations.count) if demonstrations is not None else None,
    )


def _file_seeds(folder: Path, task: Task) -> tuple[tuple[Json, ...], ...]:
    """The instance seeds of a file, per group of label cells that share them.

    A line has the fields of the task's instance seed, and the keys of the variant that the seed depends on (AX-g: the
    referent). Raises: UserError with file and line of the first line that does not fit, or if a group has no line.
    """
    path, keys = folder / f"{task.name}.jsonl", seed_variant_keys(task)
    schema = file_seed_schema(task)
    by_variant: dict[tuple[str, ...], list[Json]] = defaultdict(list)
    repaired_lines: list[int] = []
    for number, raw in read_jsonl(path, surrogates=True):
        if (line := without_surrogates(raw)) != raw:
            repaired_lines.append(number)
        if (problem := schema_problem(line, schema)) is not None:
            raise UserError(f"{path}:{number}: {problem}. Expected the fields {sorted(schema['properties'])}.")
        by_variant[tuple(line[key] for key in sorted(keys))].append({k: v for k, v in line.items() if k not in keys})
    if repaired_lines:
        _warn_repaired(path, repaired_lines[0], len(repaired_lines))
    groups = []
    for group in seed_groups(task.label_cells, keys):
        variant = tuple(task.label_cells[group.cells[0]].fields[key] for key in sorted(keys))
        if variant not in by_variant:
            raise UserError(
                f"{path}: got no line for {dict(zip(sorted(keys), variant, strict=True)) or task.name}, expected at least one."
            )
        groups.append(tuple(by_variant[variant]))
    return tuple(groups)


@cache
def _warn_repaired(path: Path, first: int, count: int) -> None:
    """Warns once that half characters of seeds are dropped, as in passages that were cut in the middle of an emoji."""
    more = f" and {count - 1} more lines hold" if count > 1 else " holds"
    log.warning("generate: %s:%d%s half a character (a lone surrogate), which is left out", path, first, more)
