"""Completes the specification of a task from the keys of its file: what the file leaves out follows from the rest.

The smallest task has a description, labels with a line each, and fields. With `fields`, the prompts have defaults too
(targen/tasks/default_prompts.py). A complete specification stays as it is, and so do the calls made from it.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any

from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks import default_prompts as prompts
from targen.tasks.default_prompts import Shape, escape_template, key_as_words, phrase, sentence
from targen.tasks.task import Task

SHORT_KEYS = ("fields",)  # keys of a file that a complete specification does not have
OF_PROGRAM = ("self_instruct",)  # modules of targen/tasks/formats that are no tasks of conf/task
CHOICES = ("right", "wrong", "number")
_BY_LABEL = ("variants", "label_counts")  # with names of labels as keys
SHOWN = 60  # characters of a value in an error
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NOT_OFFERED = {
    "multi_label": "several labels for one row",
    "multilabel": "several labels for one row",
    "multi": "several labels for one row",
    **dict.fromkeys(("answer", "answers", "output", "target", "free_text", "completion"), "answers in free text"),
}


def complete_specification(name: str, values: Any, where: str) -> Json:
    """The specification with all keys; `where` names the file in errors. Raises: UserError for the first mistake."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: got {values!r}, expected the keys of a task. See docs/own_task.md.")
    spec = {str(key): value for key, value in values.items() if value is not None}
    for key in _BY_LABEL:
        if key in spec:
            spec[key] = _with_texts_as_keys(spec[key])
    _check_keys(spec, where)
    for key in ("variants", "instance_seed", "generation", "encoder"):
        if not isinstance(spec.get(key, {}), Mapping):
            raise UserError(
                f"{where}: {key}: got {_shortened(spec[key])}, expected keys and values. docs/own_task.md has them."
            )
    given_name = str(spec.setdefault("name", name))
    if given_name != name or not is_task_name(name):
        letters = "letters, digits and underscores, and no name that this project uses itself"
        expected = letters if given_name == name else f"{name}, the name of its file"
        raise UserError(f"{where}: name: got {given_name!r}, expected {expected}. Rename one of them.")
    if name in OF_PROGRAM:
        raise UserError(
            f"{where}: name: got {name!r}, which this project uses itself, expected another. Rename the file."
        )
    fields = spec.pop("fields", None)
    if fields is None and "generation" in spec:
        return _with_simple_defaults(spec, where)
    shape = _shape(fields, spec.get("choices"), where)
    spec["labels"], lines = _labels(spec, shape, where)
    if "description" in spec and lines and not isinstance(values.get("labels"), list):
        spec["description"] = _full_description(str(spec["description"]), lines, bool(spec.get("ordinal")))
    if shape.alternatives:
        spec["choices"] = "texts"
    spec.setdefault("row", [*shape.fields, *(label["name"] for label in spec["labels"] if shape.alternatives)])
    return _with_simple_defaults(_with_prompts(spec, shape), where)


def _with_texts_as_keys(value: Any) -> Any:
    """The value with texts as keys at all levels: labels may be numbers, and their names are texts."""
    return {str(key): _with_texts_as_keys(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def is_task_name(name: str) -> bool:
    """Whether a task can have this name: it is a key, and the name of a file."""
    return bool(_NAME.fullmatch(name)) and name not in OF_PROGRAM


def _check_keys(spec: Json, where: str) -> None:
    task_keys = {item.name for item in dataclasses.fields(Task)}
    for key in spec:
        if key in task_keys or key in SHORT_KEYS:
            continue
        if key in _NOT_OFFERED:
            raise UserError(
                f"{where}: {key}: got a task with {_NOT_OFFERED[key]}, expected one label per row, or one of several texts to choose "
                "from. Neither several labels nor free text can be made or scored; ask about one label at a time."
            )
        close = difflib.get_close_matches(key, [*task_keys, *SHORT_KEYS], n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Remove it; docs/own_task.md has the keys."
        raise UserError(f"{where}: {key}: no such key. {hint}")
    if "description" not in spec:
        raise UserError(
            f"{where}: description: got nothing, expected what a reader of a row decides. Write one or two sentences."
        )


def _shape(fields: Any, choices: Any, where: str) -> Shape:
    """The texts of a row."""
    if isinstance(fields, list) and all(isinstance(item, str) for item in fields):
        fields = {item: f"the {key_as_words(item)}" for item in fields}
    if not isinstance(fields, Mapping) or not fields:
        raise UserError(
            f"{where}: fields: got {_shortened(fields)}, expected the texts of a row, each with what it is. Write, for one text: "
            "fields: {text: a support ticket as a customer writes it}."
        )
    texts = {str(key): _text(value, f"{where}: fields.{key}", "what the text is") for key, value in fields.items()}
    for key in texts:
        if not _NAME.fullmatch(key) or key in ("label", "idx", prompts.GIST, "context"):
            raise UserError(
                f"{where}: fields.{key}: got a name that rows cannot have, expected letters, digits and _. Rename it."
            )
    if choices in (None, "labels"):
        return Shape(texts)
    if not isinstance(choices, Mapping) or not {"right", "wrong"} <= set(choices) <= set(CHOICES):
        raise UserError(
            f"{where}: choices: got {_shortened(choices)}, expected what the texts to choose from are. Write, for two of them: "
            "choices: {right: the sentence that comes next, wrong: a sentence that does not}; number: how many, if more."
        )
    number = choices.get("number", 2)
    if type(number) is not int or not 2 <= number <= 10:
        raise UserError(f"{where}: choices.number: got {number!r}, expected a whole number from 2 to 10. Correct it.")
    right, wrong = (_text(choices[key], f"{where}: choices.{key}", "what it is") for key in ("right", "wrong"))
    return Shape(texts, right, wrong, number)


def _text(value: Any, where: str, expected: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: got {_shortened(value)}, expected a text: {expected}. Write it.")
    return value


def _labels(spec: Json, shape: Shape, where: str) -> tuple[list[Json], dict[str, str]]:
    """The labels in full, and the line of each that has one."""
    labels = spec.get("labels")
    if shape.alternatives:
        if labels:
            raise UserError(
                f"{where}: labels: got some beside choices, expected none: what is right is a place. Remove them."
            )
        return [
            {"value": number - 1, "name": f"choice{number}", "verbalizer": str(number), "constraint": ""}
            for number in range(1, shape.alternatives + 1)
        ], {}
    if not isinstance(labels, (Mapping, list)) or len(labels) < 2:
        raise UserError(
            f"{where}: labels: got {_shortened(labels)}, expected at least two, each with a line: labels: {{spam: what nobody asked for, "
            "ham: anything else}. A task whose answers are free text, or several labels at once, can neither be made nor scored."
        )
    pairs = [(item, "") for item in labels] if isinstance(labels, list) else list(labels.items())
    full, lines = [], {}
    for item, line in pairs:
        label, text = _label(item, line, f"{where}: labels")
        full.append(label)
        if text is not None:
            lines[str(label["name"])] = text
    return full, lines


def _label(item: Any, line: Any, where: str) -> tuple[Json, str | None]:
    """A label in full, and its line; None as the line if the file has the label in full."""
    if isinstance(item, Mapping):
        return dict(item), None
    if isinstance(line, Mapping):
        return {"value": item, "name": str(item), **line}, None
    if isinstance(item, bool) or not isinstance(item, (str, int)):
        raise UserError(f'{where}: got {item!r}, expected a name. Quote it: "{str(item).lower()}".')
    if line is not None and not isinstance(line, str):
        raise UserError(f"{where}.{item}: got {_shortened(line)}, expected a line: what gets this label. Write it.")
    text = phrase(line or "")
    seed = escape_template(text) or "what gets this label"
    return {
        "value": item,
        "name": str(item),
        "constraint": prompts.constraint(str(item), text),
        "seed": sentence(seed),
    }, text


def _full_description(description: str, lines: Mapping[str, str], ordinal: bool) -> str:
    """The description with the meaning of every label, which every step shows."""
    order = ", from the lowest to the highest" if ordinal else ""
    meanings = "; ".join(f"{name} – {line}" if line else name for name, line in lines.items())
    return f"{sentence(description)} The labels{order}: {meanings}."


def _with_prompts(spec: Json, shape: Shape) -> Json:
    """The specification with default prompts for the steps that it leaves out."""
    variants, generation = dict(spec.get("variants") or {}), dict(spec.get("generation") or {})
    if "instruction" not in generation:
        variants = {**prompts.variants(shape), **variants}
    variants = {name: variant for name, variant in variants.items() if variant}
    variant_names = [name for name, variant in variants.items() if not isinstance(variant, str)]
    seed = {**prompts.instance_seed(shape, variant_names), **(spec.get("instance_seed") or {})}
    generation = {**prompts.generation(shape, list(seed["fields"]), variant_names), **generation}
    defaults = {
        "contexts": prompts.contexts(shape),
        "whole": prompts.whole(shape, variant_names),
        "attributes": prompts.attributes(shape),
    }
    return {**defaults, **spec, "variants": variants, "instance_seed": seed, "generation": generation}


def _with_simple_defaults(spec: Json, where: str) -> Json:
    """The specification with the keys that need no prompt."""
    name, row = spec["name"], spec.get("row")
    if not isinstance(row, list) or not row:
        raise UserError(
            f"{where}: row: got {_shortened(row)}, expected the names of the texts of a row. Write row, or fields."
        )
    is_choosing = spec.get("choices") == "texts"
    labels = [_full_label(label) for label in spec.get("labels") or []]
    choice_names = [label["name"] for label in labels if isinstance(label, dict)] if is_choosing else []
    texts = [str(text) for text in row if text not in choice_names]
    metrics = ["accuracy"] if is_choosing else ["accuracy", "f1_macro"]
    defaults: Json = {
        "folder": name,
        "title": key_as_words(name).capitalize(),
        "question": "Which of the texts fits?" if is_choosing else _question(texts),
        "metrics": [*metrics, *(["quadratic_kappa", "mean_absolute_error"] if spec.get("ordinal") else [])],
        "sizes": {},
        "eval_split": "val",
        "instance": "\n".join(f"{_title(text, choice_names)}: {{{text}}}" for text in row),
        "long_field": texts[-1],
    }
    encoder = {"encoder": {**_encoder(texts, is_choosing), **(spec.get("encoder") or {})}}
    completed_labels = {"labels": labels} if "labels" in spec else {}
    return {
        **spec,
        **completed_labels,
        **encoder,
        **{key: value for key, value in defaults.items() if key not in spec},
    }


def _full_label(label: Any) -> Any:
    """A label with its value, name and verbalizer; each follows from the others."""
    if not isinstance(label, Mapping):
        return label
    name = label.get("name", label.get("value"))
    return {"value": name, "name": str(name), "verbalizer": key_as_words(str(name)), **label}


def _question(texts: list[str]) -> str:
    return f"Which label does this {key_as_words(texts[0])} get?" if len(texts) == 1 else "Which label does this get?"


def _title(text: str, choice_names: list[str]) -> str:
    return text if text in choice_names else key_as_words(text).capitalize()


def _encoder(texts: list[str], is_choosing: bool) -> Json:
    """The texts as the two of an encoder: the first and the rest, or all of them and a choice."""
    if is_choosing:
        return {"first": "\n".join(f"{{{text}}}" for text in texts), "second": "{choice}", "truncate": "first"}
    first, *rest = texts
    return {
        "first": f"{{{first}}}",
        "second": "\n".join(f"{{{text}}}" for text in rest),
        "truncate": "longest" if rest else "first",
    }


def _shortened(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
