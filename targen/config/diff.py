"""Differences between two resolved configurations, and which of them change the answers of a run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from targen.config.validation import check
from targen.runtime.errors import UserError
from targen.tasks.task import Task

# The keys that decide the answers of a run. If one changed in an existing run.dir, old and new rows would be mixed.
ANSWER_KEYS = (
    ("seed",),
    ("method",),
    ("generator", "model"),
    ("generator", "chat_template_sha256"),
    ("generator", "chat_template_kwargs"),
    ("synth", "sampling"),
    ("synth", "contexts"),
    ("synth", "seeds_per_context"),
    ("synth", "seed_source"),
    ("synth", "seed_dir"),
    ("synth", "self_correct"),
    ("synth", "correct_blind"),
    ("synth", "correct_refuses"),
    ("synth", "few_rounds"),
)
# The values of runs from before these keys existed.
VALUES_BEFORE = {("synth", "few_rounds"): False}
TASK_KEYS = tuple(
    field.name
    for field in dataclasses.fields(Task)
    if field.name
    not in (
        "question",
        "metrics",
        "sizes",
        "eval_split",
        "encoder",
        "long_field",
        "original_train",
        "original_fields",
        "cues",
        "label_counts",
        "ordinal",
        "answer_labels",
        "synthetic_size",
        "example_sizes",
        "hub",
        "columns",
        "label_names",
    )
)


def changed_answer_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys that decide answers and differ between two resolved configurations, with both values."""
    changes = []
    votes = (("synth", "vote_temperature"),) if _value_at(new, ("synth", "self_correct")) == "vote" else ()
    for path in (*ANSWER_KEYS, *votes):
        before = _value_at(old, path)
        before = VALUES_BEFORE.get(path) if before is None else before
        changes += differences(".".join(path), before, _value_at(new, path))
    shared_tasks = set(old.get("tasks") or {}) & set(new.get("tasks") or {})
    for name in sorted(shared_tasks):
        old_task, new_task = _with_defaults(old["tasks"][name], new["tasks"][name])
        for key in TASK_KEYS:
            changes += differences(f"tasks.{name}.{key}", _value_at(old_task, (key,)), _value_at(new_task, (key,)))
    return changes


def _with_defaults(*specs: Any) -> list[Any]:
    """The specifications of a task with defaults for keys that they leave out; unchanged if one is of another version."""
    try:
        return [dataclasses.asdict(check(Task, spec)) for spec in specs]
    except UserError:
        return list(specs)


def _value_at(values: Any, path: tuple[str, ...]) -> Any:
    for part in path:
        values = values.get(part) if isinstance(values, Mapping) else None
    return None if values == {} else values  # empty is like absent, as in files from before the key existed


def differences(key: str, old: Any, new: Any) -> list[str]:
    """A text for each value at or below the key that differs: `key was 1 and is 2`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        names = sorted({*old, *new})
        return [line for name in names for line in differences(f"{key}.{name}", old.get(name), new.get(name))]
    if old == new:
        return []
    start = _first_difference(old, new) if isinstance(old, str) and isinstance(new, str) else 0
    return [f"{key} was {_short(old, start)} and is {_short(new, start)}"]


def _first_difference(old: str, new: str) -> int:
    """Where two texts begin to differ, some words before it; 0 if that is near their beginnings."""
    pairs = enumerate(zip(old, new, strict=False))
    position = next((index for index, (old_char, new_char) in pairs if old_char != new_char), 0)
    return max(0, position - 20) if position > 40 else 0


def _short(value: Any, start: int = 0) -> str:
    text = repr(value[start:] if start else value)
    text = f"'...{text[1:]}" if start else text
    return text if len(text) <= 60 else text[:57] + "..."
