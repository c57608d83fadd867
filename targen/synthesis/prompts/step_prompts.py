"""The prompts of the four steps: filled templates of conf/method and conf/task, with the JSON schemas of the answers."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

from targen.config.groups.generation import UNUSABLE
from targen.config.groups.method import Method
from targen.runtime.jsonl import Json
from targen.tasks.default_prompts import key_as_words
from targen.tasks.task import Fields, Row, Task

SEED_NUMBER = "number"  # field of an instance seed: its number in the list of its call
_JSON = json.JSONEncoder(ensure_ascii=False)
Prompt = tuple[list[dict[str, str]], Json]  # messages, JSON schema of the answer


@dataclass(frozen=True)
class SeedPurpose:
    """What an instance seed is for: label and variant of its slot."""

    label: str | None
    variant: Fields


def contexts_prompt(method: Method, task: Task, count: int, earlier: list[str]) -> Prompt:
    """Step 1: asks for `count` contexts, other than the earlier ones."""
    known_part = method.known_contexts.format(contexts=_bullets(earlier)) if earlier else ""
    values = {"count": str(count), "contexts": task.contexts, "known": known_part}
    values["format"] = '{"contexts": ["...", "..."]}'
    assert method.contexts is not None
    return _messages(method, task, method.contexts, values), _list_schema("contexts")


def values_prompt(method: Method, task: Task, attribute: str, count: int, earlier: list[str]) -> Prompt:
    """AttrPrompt: asks for `count` values of an attribute, other than the earlier ones."""
    step = method.attributes
    assert step is not None
    known_part = step.known.format(values=_bullets(earlier)) if earlier else ""
    values = {"attribute": key_as_words(attribute), "values": task.attributes[attribute], "count": str(count)}
    values["attributes"] = ", ".join(key_as_words(name) for name in task.attributes)
    values |= {"known": known_part, "format": '{"values": ["...", "..."]}'}
    return _messages(method, task, step.prompt, values), _list_schema("values")


def instructions_prompt(method: Method, task: Task, count: int, earlier: list[str]) -> Prompt:
    """Self-Instruct: asks for `count` instructions, with some earlier ones as examples."""
    step = method.instructions
    assert step is not None
    known_part = step.known.format(instructions=_bullets(earlier)) if earlier else ""
    values = {"count": str(count), "known": known_part, "format": '{"instructions": ["...", "..."]}'}
    return _messages(method, task, step.prompt, values), _list_schema("instructions")


def instance_seed_prompt(method: Method, task: Task, context: str, purposes: list[SeedPurpose]) -> Prompt:
    """Step 2: asks for one instance seed per purpose, in their order. The task's instruction is filled with the variant of the first."""
    assert method.instance_seed is not None
    count, variant = len(purposes), purposes[0].variant
    fields = {name: _filled_in(spec, variant) for name, spec in task.instance_seed.fields.items()}
    numbered: Json = {SEED_NUMBER: {"type": "integer"}} if lists_purposes(task) else {}
    item = _object_schema({**numbered, **{name: _field_schema(spec) for name, spec in fields.items()}})
    schema = _object_schema({"instance_seeds": {"type": "array", "items": item}})
    seed_form = _answer_form({**dict.fromkeys(numbered, "number in the list above"), **fields})
    form = '{"instance_seeds": [' + seed_form + (", ..." if count > 1 else "") + "]}"
    instruction = task.instance_seed.instruction.format(**variant)
    if numbered:
        lines = (
            f"{number}. {_purpose_text(method, task, purpose)}" for number, purpose in enumerate(purposes, start=1)
        )
        instruction += method.seed_purposes.format(purposes="\n".join(lines))
    values = {"context": context, "count": str(count), "instruction": instruction, "format": form}
    return _messages(method, task, method.instance_seed, values), schema


def without_required_number(schema: Json) -> Json:
    """The schema of an answer with instance seeds, with their number optional."""
    seeds = schema["properties"]["instance_seeds"]
    required = [name for name in seeds["items"]["required"] if name != SEED_NUMBER]
    seeds = {**seeds, "items": {**seeds["items"], "required": required}}
    return {**schema, "properties": {**schema["properties"], "instance_seeds": seeds}}


def lists_purposes(task: Task) -> bool:
    """Whether a call for instance seeds says what each is for."""
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
    """Step 3: asks for the rest of the instance; `values` fill the task's templates, `failures` are described if the method has rounds."""
    constraint = task.label(label).constraint.format(**values) if label is not None else ""
    fields = {**task.free_variants, **task.generation.fields}
    schema = _object_schema({name: _field_schema(spec) for name, spec in fields.items()})
    texts = {
        "instruction": task.generation.instruction.format(**values),
        "constraint": constraint,
        "failures": failures_text(method, task, failures),
        "format": _answer_form(fields),
    }
    return _messages(method, task, method.generation, texts), schema


def failures_text(method: Method, task: Task, failures: Sequence[Json]) -> str:
    """The part of step 3 that describes kinds of failures, a line each; empty without any. A label without a constraint is left out."""
    if method.rounds is None or not failures:
        return ""
    return method.rounds.failures.format(failures=_bullets([_kind_of_failure(task, kind) for kind in failures]))


def _kind_of_failure(task: Task, kind: Json) -> str:
    says_label = kind["label"] is not None and task.label(kind["label"]).constraint
    parts = {"label": kind["label"]} if says_label else {}
    parts |= {key_as_words(name): text for name, text in kind["variant"].items()}
    parts |= {"taken for": kind["taken_for"]} if says_label and kind["taken_for"] is not None else {}
    count = len(kind["slots"])
    texts = [f"{count} instance{'s' * (count > 1)}", *(f"{name}: {text}" for name, text in parts.items())]
    if "answer" in kind:
        texts.append(f"an answer that is {kind['answer']} taken for {kind['taken_for']}")
    elif task.choices == "texts":
        texts.append("another choice taken for the right one")
    return "; ".join(texts)


def whole_prompt(method: Method, task: Task, purpose: SeedPurpose, item_texts: Fields) -> Prompt:
    """Asks for an instance in one answer; `item_texts` has the texts of the method's `shown` fields."""
    assert task.whole is not None
    label = task.label(purpose.label) if purpose.label is not None else None
    constraint = label.constraint.format(**purpose.variant) if label is not None else ""
    fields = {name: _filled_in(spec, purpose.variant) for name, spec in whole_fields(task).items()}
    texts = {
        "instruction": task.whole.instruction.format(**purpose.variant),
        "constraint": constraint,
        "given_label": method.given_label.format(label=label.name) if label is not None and constraint else "",
        "format": _answer_form(fields),
    }
    schema = _object_schema({name: _field_schema(spec) for name, spec in fields.items()})
    return _messages(method, task, method.generation, {**texts, **item_texts}), schema


def whole_fields(task: Task) -> Json:
    """The fields of an answer that is a whole instance, in the order in which they are to be written."""
    assert task.whole is not None
    return {**whole_seed_fields(task), **task.whole.fields, **task.generation.fields}


def whole_seed_fields(task: Task) -> Json:
    """The fields of the instance seed that a whole instance is asked for; fields that only plan a row are left out."""
    fields = task.instance_seed.fields
    return {name: spec for name, spec in fields.items() if task.reads_seed or name in task.row}


def attributes_text(values: Fields) -> str:
    """The attribute values of an instance, a line each."""
    return _bullets([f"{key_as_words(name)}: {value}" for name, value in values.items()])


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
    """Step 4: asks for the right label of an instance, one of `options`. `label` is its present one; None: it is not shown."""
    options = [*options, UNUSABLE] if refuses else options
    schema = _object_schema({"explanation": {"type": "string"}, "label": {"type": "string", "enum": options}})
    one_of = " or ".join(_JSON.encode(option) for option in options)
    form = '{"explanation": "...", "label": ' + one_of + "}"
    values = {"instance": task.instance.format(**view), "format": form}
    values["refusal"] = method.refusal.format(unusable=UNUSABLE) if refuses else ""
    template = method.blind_correction if label is None else method.self_correction
    return _messages(method, task, template, {**values, "label": label or ""}), schema


def file_seed_schema(task: Task) -> Json:
    """JSON schema of a line of a seed file: an instance seed, with the variant keys that it depends on."""
    fields = {name: _field_schema(spec) for name, spec in task.instance_seed.fields.items()}
    variant = {key: {"type": "string", "enum": task.crossed_variants[key]} for key in sorted(seed_variant_keys(task))}
    return _object_schema(fields | variant)


def seed_variant_keys(task: Task) -> frozenset[str]:
    """The variant keys that the instance seeds of a task depend on: those in its prompt of step 2."""
    texts = [
        task.instance_seed.instruction,
        *(spec for spec in task.instance_seed.fields.values() if isinstance(spec, str)),
    ]
    names = {name for text in texts for _, name, _, _ in Formatter().parse(text) if name is not None}
    return frozenset(task.crossed_variants) & names


def common_fields(task: Task) -> dict[str, str]:
    """The fields that every template of a method may use."""
    return {"title": task.title, "description": task.description}


def _messages(method: Method, task: Task, template: str, values: Fields) -> list[dict[str, str]]:
    return [
        {"role": "system", "content": method.system},
        {"role": "user", "content": _collapse(template.format(**{**common_fields(task), **values}))},
    ]


def _collapse(text: str) -> str:
    """The text without the gap that an empty field leaves."""
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text


def _bullets(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _list_schema(name: str) -> Json:
    return _object_schema({name: {"type": "array", "items": {"type": "string"}}})


def _object_schema(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _field_schema(spec: Any) -> Json:
    return {"type": "string"} if isinstance(spec, str) else {k: v for k, v in spec.items() if k != "description"}


def _filled_in(spec: Any, values: Fields) -> Any:
    return spec.format(**values) if isinstance(spec, str) else spec


def _answer_form(fields: Json) -> str:
    """The object asked for, with each field's description as its value."""
    placeholders = {name: spec if isinstance(spec, str) else ["..."] for name, spec in fields.items()}
    return _JSON.encode(placeholders)
