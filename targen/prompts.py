"""The texts of the four steps: templates of conf/method and conf/task filled in, and the JSON that is asked for."""

import json
from string import Formatter
from typing import Any

from pydantic.dataclasses import dataclass as checked_dataclass

from targen.errors import UserError
from targen.jsonl import Json
from targen.task import STRICT, Fields, TaskSpec


@checked_dataclass(frozen=True, config=STRICT)
class Method:
    """A way to write a data set, from conf/method/<name>.yaml: one template a step."""

    name: str
    system: str
    contexts: str
    known_contexts: str
    instance_seed: str
    generation: str
    self_correction: str


Prompt = tuple[list[dict[str, str]], Json]  # messages, JSON schema of the answer


def contexts_prompt(method: Method, task: TaskSpec, count: int, known: list[str]) -> Prompt:
    shown = method.known_contexts.format(contexts="\n".join(f"- {context}" for context in known)) if known else ""
    schema = _object({"contexts": {"type": "array", "items": {"type": "string"}}})
    form = '{"contexts": ["...", "..."]}'
    values = {"count": str(count), "contexts": task.contexts, "known": shown, "format": form}
    return _messages(method, method.contexts, {**_common(task), **values}), schema


def instance_seed_prompt(method: Method, task: TaskSpec, context: str, count: int, variant: Fields) -> Prompt:
    fields = {name: _filled(spec, variant) for name, spec in task.instance_seed.fields.items()}
    item = _object({name: _schema(spec) for name, spec in fields.items()})
    schema = _object({"instance_seeds": {"type": "array", "items": item}})
    form = '{"instance_seeds": [' + _form(fields) + (", ..." if count > 1 else "") + "]}"
    instruction = task.instance_seed.instruction.format(**variant)
    values = {"context": context, "count": str(count), "instruction": instruction, "format": form}
    return _messages(method, method.instance_seed, {**_common(task), **values}), schema


def generation_prompt(method: Method, task: TaskSpec, label: str | None, values: dict[str, str]) -> Prompt:
    constraint = task.label(label).constraint.format(**values) if label is not None else ""
    fields = task.generation.fields
    schema = _object({name: _schema(spec) for name, spec in fields.items()})
    texts = {
        "instruction": task.generation.instruction.format(**values),
        "constraint": constraint,
        "format": _form(fields),
    }
    return _messages(method, method.generation, {**_common(task), **texts}), schema


def self_correction_prompt(method: Method, task: TaskSpec, view: Fields, label: str, options: list[str]) -> Prompt:
    schema = _object({"explanation": {"type": "string"}, "label": {"type": "string", "enum": options}})
    one_of = " or ".join(json.dumps(option, ensure_ascii=False) for option in options)
    form = '{"explanation": "...", "label": ' + one_of + "}"
    values = {"instance": task.instance.format(**view), "label": label, "format": form}
    return _messages(method, method.self_correction, {**_common(task), **values}), schema


def check_templates(method: Method, task: TaskSpec) -> list[str]:
    """Everything that is wrong with the templates of a task, found before the first call."""
    common, variant, code = set(_common(task)), set(task.variants), task.code
    seed = {name for name, spec in task.instance_seed.fields.items() if isinstance(spec, str)}
    generation = variant | seed | {"context", *code.drawn_fields}
    view = {*task.row, *code.view_fields}
    pair = view | ({"choice"} if task.choices == "texts" else set())
    where = f"tasks.{task.name}"
    known = {
        "method.contexts": (method.contexts, common | {"count", "contexts", "known", "format"}),
        "method.known_contexts": (method.known_contexts, {"contexts"}),
        "method.instance_seed": (method.instance_seed, common | {"context", "count", "instruction", "format"}),
        "method.generation": (method.generation, common | {"instruction", "constraint", "format"}),
        "method.self_correction": (method.self_correction, common | {"instance", "label", "format"}),
        f"{where}.instance_seed.instruction": (task.instance_seed.instruction, variant),
        f"{where}.generation.instruction": (task.generation.instruction, generation),
        f"{where}.instance": (task.instance, view),
        f"{where}.encoder.first": (task.encoder.first, pair),
        f"{where}.encoder.second": (task.encoder.second, pair),
    }
    for name, spec in task.instance_seed.fields.items():
        if isinstance(spec, str):
            known[f"{where}.instance_seed.fields.{name}"] = (spec, variant)
    if task.long_field not in view:
        found = [f"{where}.long_field: got {task.long_field!r}, expected one of {', '.join(sorted(view))}."]
    else:
        found = []
    for label in task.labels:
        known[f"{where}.labels.{label.name}.constraint"] = (label.constraint, generation)
    return found + [
        problem for key, (text, fields) in known.items() for problem in _template_problems(key, text, fields)
    ]


def file_seed_schema(task: TaskSpec) -> Json:
    """JSON schema of a line of a seed file: an instance seed, with the variant keys on which it depends."""
    fields = {name: _schema(spec) for name, spec in task.instance_seed.fields.items()}
    variant = {key: {"type": "string", "enum": task.variants[key]} for key in sorted(seed_variant_keys(task))}
    return _object(fields | variant)


def seed_variant_keys(task: TaskSpec) -> frozenset[str]:
    """The variant keys on which the instance seeds of a task depend: those that its prompt of step 2 names."""
    texts = [
        task.instance_seed.instruction,
        *(spec for spec in task.instance_seed.fields.values() if isinstance(spec, str)),
    ]
    names = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name is not None}
    return frozenset(task.variants) & names


def _template_problems(key: str, text: str, fields: set[str]) -> list[str]:
    try:
        names = {name for _, name, _, _ in Formatter().parse(text) if name is not None}
    except ValueError as err:
        return [f"{key}: {err}. Write a literal brace twice."]
    unknown = sorted(names - fields)
    return [f"{key}: got the field {{{name}}}, expected one of {', '.join(sorted(fields))}." for name in unknown]


def checked_templates(method: Method, tasks: list[TaskSpec]) -> None:
    """Raises: UserError with all problems of all templates, a line each."""
    problems = list(dict.fromkeys(problem for task in tasks for problem in check_templates(method, task)))
    if problems:
        raise UserError("\n".join(problems))


def _common(task: TaskSpec) -> dict[str, str]:
    return {"title": task.title, "description": task.description}


def _messages(method: Method, template: str, values: Fields) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": method.system},
        {"role": "user", "content": _collapse(template.format(**values))},
    ]


def _collapse(text: str) -> str:
    """The text without the gap that an empty field leaves."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _schema(spec: Any) -> Json:
    return {"type": "string"} if isinstance(spec, str) else {k: v for k, v in spec.items() if k != "description"}


def _filled(spec: Any, values: Fields) -> Any:
    return spec.format(**values) if isinstance(spec, str) else spec


def _form(fields: Json) -> str:
    """The object asked for, with each field's description as its value."""
    shown = {name: spec if isinstance(spec, str) else ["..."] for name, spec in fields.items()}
    return json.dumps(shown, ensure_ascii=False)
