"""Checks of a task's specification, beyond its types, before anything is asked, paid for or trained."""

from collections.abc import Iterator
from string import Formatter

from targen.tasks.choosing import Choosing
from targen.tasks.specification import Label
from targen.tasks.task import Task


def task_problems(task: Task) -> list[str]:
    """A line for each mistake in the labels, and in the templates with which rows are shown."""
    where = f"tasks.{task.name}"
    return [
        *_label_problems(task.labels, f"{where}.labels"),
        *_label_problems(task.answer_labels, f"{where}.answer_labels"),
        *_silent_labels(task, where),
        *_variant_problems(task, where),
        *_choice_problems(task, where),
        *_view_problems(task, where),
        *_data_problems(task, where),
    ]


def _data_problems(task: Task, where: str) -> Iterator[str]:
    """Names of columns and labels in data files that belong to no text or label of the task."""
    for key in task.columns:
        if key not in (*task.row, "label"):
            yield (
                f"{where}.columns: got {key!r}, expected {', '.join(task.row)} or label, each with the name of its column. Correct it."
            )
    names = [label.name for label in task.classes]
    for file_label, name in task.label_names.items():
        if name not in names:
            yield (
                f"{where}.label_names: got {name!r} for {file_label!r}, expected one of {', '.join(names)}. Write what the file says first: "
                f"`label_names: {{{file_label}: {names[0] if names else 'label'}}}`."
            )


def template_problems(key: str, text: str, fields: set[str]) -> list[str]:
    """A line for each field of a template that nothing fills, or for a template that cannot be read."""
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as err:
        return [f"{key}: {err}. Write a literal brace twice."]
    unknown = sorted(names - fields)
    return [f"{key}: got the field {{{name}}}, expected one of {', '.join(sorted(fields))}." for name in unknown]


def _label_problems(labels: list[Label], where: str) -> Iterator[str]:
    """Labels that rows, predictions or answers in words could not tell apart."""
    for kind in ("name", "value", "verbalizer"):
        label_with: dict[object, str] = {}
        for label in labels:
            value = getattr(label, kind)
            key = value.strip().casefold() if kind == "verbalizer" else (type(value), value)
            if not str(value).strip():
                yield f"{where}.{label.name}.{kind}: got an empty text, expected one. Write it."
            elif key in label_with:
                yield (
                    f"{where}.{label.name}.{kind}: got {value!r}, which the label {label_with[key]} has too, expected one of its "
                    "own. Change one."
                )
            label_with.setdefault(key, label.name)


def _silent_labels(task: Task, where: str) -> Iterator[str]:
    """Labels that no prompt mentions, so that rows would not depend on them."""
    if task.choices == "texts":
        return
    by_label = any(
        isinstance(weights, dict)
        for variant in task.variants.values()
        if isinstance(variant, dict)
        for weights in variant.values()
    )
    for label in task.labels:
        if not label.constraint.strip() and not (task.instance_seed.per_label and label.seed.strip()) and not by_label:
            yield (
                f"{where}.labels.{label.name}.constraint: got an empty text, and no other prompt speaks of this label; expected what "
                "holds for its rows. Write it."
            )


def _variant_problems(task: Task, where: str) -> Iterator[str]:
    """Weights by label that lack a label, or name one that the task does not have."""
    names = [label.name for label in task.labels]
    for name, variant in task.variants.items():
        if isinstance(variant, dict) and any(isinstance(weights, dict) for weights in variant.values()):
            if unknown := [key for key in variant if key not in names]:
                yield f"{where}.variants.{name}: got {unknown[0]!r}, expected weights by label: {', '.join(names)}. Correct it."
            elif missing := [label for label in names if label not in variant]:
                yield f"{where}.variants.{name}: got no weights for {missing[0]}, expected some for every label. Add them."


def _choice_problems(task: Task, where: str) -> Iterator[str]:
    """With texts to choose from: their names, and the fields in which step 3 writes them."""
    if not isinstance(task, Choosing):
        return
    if missing := [name for name in task.choice_names if name not in task.row]:
        yield f"{where}.row: got no {missing[0]}, expected every label's name, since they are the texts to choose from. Add it."
    if len(task.generation.fields) != len(task.labels):
        yield (
            f"{where}.generation.fields: got {len(task.generation.fields)}, expected {len(task.labels)}: the right text first, then the "
            "wrong ones. Correct them."
        )


def _view_problems(task: Task, where: str) -> Iterator[str]:
    """Templates that show rows to models."""
    view = {*task.row, *task.view_fields}
    pair = view | ({"choice"} if task.choices == "texts" else set())
    if task.long_field not in view:
        yield f"{where}.long_field: got {task.long_field!r}, expected one of {', '.join(sorted(view))}."
    yield from template_problems(f"{where}.instance", task.instance, view)
    yield from template_problems(f"{where}.encoder.first", task.encoder.first, pair)
    yield from template_problems(f"{where}.encoder.second", task.encoder.second, pair)
