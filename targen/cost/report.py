"""Plans as tables, and the planned and actual cost of a run: `<run.dir>/cost.json`."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence

from targen.config.groups.generation import STEPS, Price
from targen.config.settings import Settings
from targen.cost.gpu_hours import generation_hours
from targen.cost.plan import Plan, PlannedStep, plan
from targen.runtime.jsonl import Json, read_json, write_text
from targen.synthesis.recipe import Recipe

log = logging.getLogger(__name__)
MILLION = 1_000_000
COUNTS = ("calls", "prompt_tokens", "completion_tokens")


def plan_text(settings: Settings, recipes: Sequence[Recipe]) -> str:
    """The plan of the generate phase as a table: calls left per task and step, with totals and assumptions."""
    planned = plan(_sized(settings, recipes), settings.generator, settings.paths)
    resumed = any(any(steps.values()) for steps in planned.answered.values())
    head = ["task", "step", *(["answered"] if resumed else []), "calls", "prompt tokens", "completion tokens"]
    head += ["time"] * bool(settings.price.tokens_per_second) + [settings.price.currency] * _priced(settings.price)

    def line(task: str, step: str, answered: int, planned: PlannedStep) -> list[str]:
        return [task, step, *([f"{answered:,}"] if resumed else []), *_cells(planned, settings.price)]

    rows: list[list[str]] = []
    for task, steps in planned.tasks.items():
        used_steps = [step for step in STEPS if steps[step].calls or planned.answered[task][step]]
        rows += [
            line(task if not number else "", step, planned.answered[task][step], steps[step])
            for number, step in enumerate(used_steps)
        ]
        rows.append([])
    steps_of_all = [step for step in STEPS if any(line[1] == step for line in rows if line)] if len(recipes) > 1 else []
    for number, step in enumerate(steps_of_all):
        answered = sum(steps[step] for steps in planned.answered.values())
        total = _sum(steps[step] for steps in planned.tasks.values())
        rows.append(line("all" if not number else "", step, answered, total))
    answered = sum(sum(steps.values()) for steps in planned.answered.values())
    total = _sum(planned for steps in planned.tasks.values() for planned in steps.values())
    rows.append(line("total", "", answered, total))
    size = sum(settings.synth.size_of(recipe.task) for recipe in recipes)
    name = f"{settings.method.name}, {settings.generator.model}, {len(recipes)} task{'s' * (len(recipes) > 1)}, {size:,} rows"
    notes = "\n".join([*(f"- {note}" for note in _footer(settings, planned)), *generation_hours(settings, total)])
    return f"plan of the generate phase: {name}\n\n{_aligned([head, *rows], left_columns=2)}\n\n{notes}\n"


def _footer(settings: Settings, planned: Plan) -> list[str]:
    price = settings.price
    notes = list(planned.notes)
    if price.tokens_per_second:
        rate = f"{price.tokens_per_second:g} completion tokens a second, all requests together"
        notes.append(f"Time: at {rate}; prompt processing is not counted.")
    if _priced(price):
        rates = [f"{name} {'--' if value is None else f'{value:g}'}" for name, value in _prices(price)]
        notes.append(f"Money: {price.currency} per million tokens, {', '.join(rates)}; discounts are not counted.")
    if settings.generator.backend == "recorded":
        notes.append("generator=recorded replays recorded answers: no model is called, and nothing is paid.")
    return notes


def write_cost(settings: Settings, recipes: Sequence[Recipe]) -> None:
    """Writes planned and actual cost of every task, the latter from its stats.json, to cost.json, and logs a table."""
    planned = plan(_sized(settings, recipes), settings.generator)
    tasks: Json = {}
    if settings.paths.cost.exists():  # keep the tasks that this start does not touch
        tasks = dict(read_json(settings.paths.cost).get("tasks") or {})
    for task, steps in planned.tasks.items():
        actual = read_json(settings.paths.synthetic(task) / "stats.json")["calls"]
        tasks[task] = {
            step: {
                "planned": {name: getattr(steps[step], name) for name in COUNTS},
                "actual": {name: actual[step][name] if actual[step]["calls"] else 0 for name in COUNTS},
            }
            for step in STEPS
        }
    per_step = {step: _compared([tasks[task][step] for task in planned.tasks], settings.price) for step in STEPS}
    total = _compared([steps[step] for steps in tasks.values() for step in STEPS], settings.price)
    price = {"currency": settings.price.currency} | dict(_prices(settings.price))
    record = {"price": price, "assumptions": list(planned.notes), "total": total, "tasks": dict(sorted(tasks.items()))}
    text = json.dumps(record, indent=2) + "\n"
    path = settings.paths.cost
    if path.exists() and path.read_text(encoding="utf-8") == text:
        log.info("cost: no new calls were made; planned and actual counts are in %s", path)
        return
    write_text(path, text)
    own_total = _compared([tasks[task][step] for task in planned.tasks for step in STEPS], settings.price)
    table = _comparison(per_step | {"total": own_total}, settings)
    log.info("cost: planned and actual; per task in %s\n%s", path, table)


def _comparison(lines: Mapping[str, Json], settings: Settings) -> str:
    names = [*COUNTS, *(["money"] if _priced(settings.price) else [])]
    words = {
        "prompt_tokens": "prompt tokens",
        "completion_tokens": "completion tokens",
        "money": settings.price.currency,
    }
    head = ["step", *(part for name in names for part in (words.get(name, name), "actual"))]
    rows = [
        [step, *(_number(entry[column][name]) for name in names for column in ("planned", "actual"))]
        for step, entry in lines.items()
    ]
    return _aligned([head, *rows], left_columns=1)


def _compared(steps: Sequence[Json], price: Price) -> Json:
    """Sums of planned and actual counts, with their money; None if a part is unknown."""
    columns: Json = {}
    for column in ("planned", "actual"):
        sums: Json = {name: _total([step[column][name] for step in steps]) for name in COUNTS}
        columns[column] = sums | {"money": _money(sums["prompt_tokens"], sums["completion_tokens"], price)}
    return columns


def _total(values: Sequence[int | None]) -> int | None:
    known_values = [value for value in values if value is not None]
    return sum(known_values) if len(known_values) == len(values) else None


def _money(prompt_tokens: int | None, completion_tokens: int | None, price: Price) -> float | None:
    if prompt_tokens is None or completion_tokens is None or price.prompt is None or price.completion is None:
        return None
    return round((prompt_tokens * price.prompt + completion_tokens * price.completion) / MILLION, 6)


def _prices(price: Price) -> list[tuple[str, float | None]]:
    return [("prompt", price.prompt), ("completion", price.completion)]


def _priced(price: Price) -> bool:
    return price.prompt is not None or price.completion is not None


def _sized(settings: Settings, recipes: Sequence[Recipe]) -> list[tuple[Recipe, int]]:
    return [(recipe, settings.synth.size_of(recipe.task)) for recipe in recipes]


def _sum(parts: Iterable[PlannedStep]) -> PlannedStep:
    planned = list(parts)
    return PlannedStep(*(sum(getattr(part, name) for part in planned) for name in COUNTS))


def _cells(planned: PlannedStep, price: Price) -> list[str]:
    cells = [f"{getattr(planned, name):,}" for name in COUNTS]
    if price.tokens_per_second:
        cells.append(_duration(planned.completion_tokens / price.tokens_per_second))
    if _priced(price):
        cells.append(_number(_money(planned.prompt_tokens, planned.completion_tokens, price)))
    return cells


def _number(value: float | int | None) -> str:
    if value is None:
        return "--"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def _aligned(rows: Sequence[Sequence[str]], left_columns: int) -> str:
    """Rows of text in aligned columns: the first `left_columns` flush left, the others flush right."""
    widths = [max(len(row[column]) for row in rows if row) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column < left_columns else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True) if row else ())
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
