"""The texts of the four steps: templates of conf/method and conf/task filled in, and the JSON that is asked for."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from targen.config.groups.generation import UNUSABLE
from targen.config.groups.method import Method
from targen.runtime.jsonl import Json
from targen.tasks.task import Fields, Row, Task

SEED_NUMBER = "number"  # field of an instance seed: its place among those that the call lists
_JSON = json.JSONEncoder(ensure_ascii=False)
Prompt = tuple[list[dict[str, str]], Json]  # messages, JSON schema of the answer


@dataclass(frozen=True)
class SeedPurpose:
    """What an instance seed is for: label and variant of its slot."""

    label: str | None
    variant: Fields


def contexts_prompt(method: Method, task: Task, count: int, known: list[str]) -> Prompt:
    """Step 1: asks for so many contexts, other than the known ones."""
    shown = method.known_contexts.format(contexts="\n".join(f"- {context}" for context in known)) if known else ""
    schema = _object({"contexts": {"type": "array", "items": {"type": "string"}}})
    form = '{"contexts": ["...", "..."]}'
    values = {"count": str(count), "contexts": task.contexts, "known": shown, "format": form}
    assert method.contexts is not None
    return _messages(method, method.contexts, {**common_fields(task), **values}), schema


def values_prompt(method: Method, task: Task, attribute: str, count: int, known: list[str]) -> Prompt:
    """AttrPrompt: asks for so many values of an attribute, other than the known ones."""
    step = method.attributes
    assert step is not None
    shown = step.known.format(values="\n".join(f"- {value}" for value in known)) if known else ""
    values = {"attribute": _spelled(attribute), "values": task.attributes[attribute], "count": str(count)}
    values["attributes"] = ", ".join(_spelled(name) for name in task.attributes)
    values |= {"known": shown, "format": '{"values": ["...", "..."]}'}
    schema = _object({"values": {"type": "array", "items": {"type": "string"}}})
    return _messages(method, step.prompt, {**common_fields(task), **values}), schema


def instructions_prompt(method: Method, task: Task, count: int, some: list[str]) -> Prompt:
    """Self-Instruct: asks for so many instructions, with some earlier ones as examples."""
    step = method.instructions
    assert step is not None
    shown = step.known.format(instructions="\n".join(f"- {instruction}" for instruction in some)) if some else ""
    values = {"count": str(count), "known": shown, "format": '{"instructions": ["...", "..."]}'}
    schema = _object({"instructions": {"type": "array", "items": {"type": "string"}}})
    return _messages(method, step.prompt, {**common_fields(task), **values}), schema


def instance_seed_prompt(method: Method, task: Task, context: str, purposes: list[SeedPurpose]) -> Prompt:
    """Step 2: asks for one instance seed per purpose, in their order. What the task's instruction says of variants is the same for all."""
    assert method.instance_seed is not None
    count, variant = len(purposes), purposes[0].variant
    fields = {name: _filled(spec, variant) for name, spec in task.instance_seed.fields.items()}
    numbered: Json = {}
    if lists_purposes(task):
        numbered = {SEED_NUMBER: {"type": "integer"}}
    item = _object({**numbered, **{name: _schema(spec) for name, spec in fields.items()}})
    schema = _object({"instance_seeds": {"type": "array", "items": item}})
    shown = _form({**dict.fromkeys(numbered, "number in the list above"), **fields})
    form = '{"instance_seeds": [' + shown + (", ..." if count > 1 else "") + "]}"
    instruction = task.instance_seed.instruction.format(**variant)
    if numbered:
        lines = (
            f"{number}. {_purpose_text(method, task, purpose)}" for number, purpose in enumerate(purposes, start=1)
        )
        instruction += method.seed_purposes.format(purposes="\n".join(lines))
    values = {"context": context, "count": str(count), "instruction": instruction, "format": form}
    return _messages(method, method.instance_seed, {**common_fields(task), **values}), schema


def without_required_number(schema: Json) -> Json:
    """The schema of an answer with instance seeds, which may lack their number."""
    seeds = schema["properties"]["instance_seeds"]
    required = [name for name in seeds["items"]["required"] if name != SEED_NUMBER]
    seeds = {**seeds, "items": {**seeds["items"], "required": required}}
    return {**schema, "properties": {**schema["properties"], "instance_seeds": seeds}}


def lists_purposes(task: Task) -> bool:
    """Whether a call for instance seeds says of each what it is for."""
    return task.instance_seed.per_label or bool(task.instance_seed.each)


def _purpose_text(method: Method, task: Task, purpose: SeedPurpose) -> str:
    parts = []
    if task.instance_seed.per_label and purpose.label is not None:
        parts += [
            method.seed_label.format(label=purpose.label),
            task.label(purpose.label).seed.format(**purpose.variant),
        ]
    parts.append(task.instance_seed.each.format(**purpose.variant))
    return " ".join(part for part in parts if part)


def generation_prompt(
    method: Method, task: Task, label: str | None, values: dict[str, str], failures: Sequence[Json] = ()
) -> Prompt:
    """Step 3: asks for the rest of the instance; `values` fill the task's templates, `failures` are described where a method has rounds."""
    constraint = task.label(label).constraint.format(**values) if label is not None else ""
    fields = {**task.free_variants, **task.generation.fields}
    schema = _object({name: _schema(spec) for name, spec in fields.items()})
    texts = {
        "instruction": task.generation.instruction.format(**values),
        "constraint": constraint,
        "failures": failures_text(method, task, failures),
        "format": _form(fields),
    }
    return _messages(method, method.generation, {**common_fields(task), **texts}), schema


def failures_text(method: Method, task: Task, failures: Sequence[Json]) -> str:
    """The part of step 3 that describes kinds of failures, a line each; empty without any. A label that no constraint says is left out."""
    if method.rounds is None or not failures:
        return ""
    return method.rounds.failures.format(failures="\n".join(f"- {_kind_of_failure(task, kind)}" for kind in failures))


def _kind_of_failure(task: Task, kind: Json) -> str:
    says_label = kind["label"] is not None and task.label(kind["label"]).constraint
    parts = {"label": kind["label"]} if says_label else {}
    parts |= {_spelled(name): text for name, text in kind["variant"].items()}
    parts |= {"taken for": kind["taken_for"]} if says_label and kind["taken_for"] is not None else {}
    count = len(kind["slots"])
    texts = [f"{count} instance{'s' * (count > 1)}", *(f"{name}: {text}" for name, text in parts.items())]
    if "answer" in kind:
        texts.append(f"an answer that is {kind['answer']} taken for {kind['taken_for']}")
    elif task.choices == "texts":
        texts.append("another choice taken for the right one")
    return "; ".join(texts)


def whole_prompt(method: Method, task: Task, purpose: SeedPurpose, shown: Fields) -> Prompt:
    """Asks for an instance in one answer; `shown` has the texts of the method's `shown` fields."""
    assert task.whole is not None
    label = task.label(purpose.label) if purpose.label is not None else None
    constraint = label.constraint.format(**purpose.variant) if label is not None else ""
    fields = {name: _filled(spec, purpose.variant) for name, spec in whole_fields(task).items()}
    texts = {
        "instruction": task.whole.instruction.format(**purpose.variant),
        "constraint": constraint,
        "given_label": method.given_label.format(label=label.name) if label is not None and constraint else "",
        "format": _form(fields),
    }
    schema = _object({name: _schema(spec) for name, spec in fields.items()})
    return _messages(method, method.generation, {**common_fields(task), **texts, **shown}), schema


def whole_fields(task: Task) -> Json:
    """The fields of an answer that is a whole instance, in the order in which they are to be written."""
    assert task.whole is not None
    return {**whole_seed_fields(task), **task.whole.fields, **task.generation.fields}


def whole_seed_fields(task: Task) -> Json:
    """The fields of the instance seed that a whole instance is asked for; those that only plan a row are left out."""
    fields = task.instance_seed.fields
    return {name: spec for name, spec in fields.items() if task.reads_seed or name in task.row}


def attributes_text(values: Fields) -> str:
    """The attribute values of an instance, a line each."""
    return "\n".join(f"- {_spelled(name)}: {value}" for name, value in values.items())


def demonstrations_text(method: Method, task: Task, source: Task, rows: list[Row]) -> str:
    """Rows of `source` as readers see them, each with its label."""
    step = method.demonstrations
    assert step is not None
    head = step.intro if source.name == task.name else step.stand_in or ""  # tasks without are refused
    texts = [
        step.row.format(instance=source.instance.format(**source.view(row)), label=source.gold_option(row))
        for row in rows
    ]
    return "\n\n".join([head.format(**common_fields(source)), *texts])


def self_correction_prompt(
    method: Method, task: Task, view: Fields, label: str | None, options: list[str], refuses: bool = False
) -> Prompt:
    """Step 4: asks for the right label of an instance, one of `options`. `label`: the one that it was given, None: it is not shown."""
    options = [*options, UNUSABLE] if refuses else options
    schema = _object({"explanation": {"type": "string"}, "label": {"type": "string", "enum": options}})
    one_of = " or ".join(_JSON.encode(option) for option in options)
    form = '{"explanation": "...", "label": ' + one_of + "}"
    values = {"instance": task.instance.format(**view), "format": form}
    values["refusal"] = method.refusal.format(unusable=UNUSABLE) if refuses else ""
    template = method.blind_correction if label is None else method.self_correction
    return _messages(method, template, {**common_fields(task), **values, "label": label or ""}), schema


def file_seed_schema(task: Task) -> Json:
    """JSON schema of a line of a seed file: an instance seed, with the variant keys on which it depends."""
    fields = {name: _schema(spec) for name, spec in task.instance_seed.fields.items()}
    variant = {key: {"type": "string", "enum": task.crossed_variants[key]} for key in sorted(seed_variant_keys(task))}
    return _object(fields | variant)


def seed_variant_keys(task: Task) -> frozenset[str]:
    """The variant keys on which the instance seeds of a task depend: those that its prompt of step 2 names."""
    texts = [
        task.instance_seed.instruction,
        *(spec for spec in task.instance_seed.fields.values() if isinstance(spec, str)),
    ]
    names = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name is not None}
    return frozenset(task.crossed_variants) & names


def common_fields(task: Task) -> dict[str, str]:
    """The fields that every template of a method may use."""
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


def _spelled(name: str) -> str:
    return name.replace("_", " ")


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _schema(spec: Any) -> Json:
    return {"type": "string"} if isinstance(spec, str) else {k: v for k, v in spec.items() if k != "description"}


def _filled(spec: Any, values: Fields) -> Any:
    return spec.format(**values) if isinstance(spec, str) else spec


def _form(fields: Json) -> str:
    """The object asked for, with each field's description as its value."""
    shown = {name: spec if isinstance(spec, str) else ["..."] for name, spec in fields.items()}
    return _JSON.encode(shown)
