"""Rows of the OpenLLM tasks: other shapes converted to the Hub's fields, and faults that the harness would meet late or never.

Late: lm-evaluation-harness ends with an error of its own, after training. Never: it gives a score that no model can change. Source:
the tasks' files in lm_eval/tasks, which format, split and compare these fields.
"""

import re
from collections.abc import Callable, Sequence

from targen.runtime.jsonl import Json

LETTERS = "ABCDEFGHIJ"
BRACKETS = re.compile(r"\[.*?\]")  # that the harness removes from HellaSwag
SOLUTION = re.compile(r"#### \$?-?[0-9][0-9.,]*\s*$")  # how GSM8K's end; whatever comes before


def _position(row: Json, name: str, count: int) -> int:
    """The position from 0 of an answer given as a number, as its digits or as a letter. Raises: ValueError for any other."""
    text = str(row[name]).strip().upper()
    position = int(text) if text.isdecimal() else LETTERS.find(text) if len(text) == 1 else -1
    if not 0 <= position < count:
        raise ValueError(
            f"{name}: got {row[name]!r}, expected 0 to {count - 1} or {LETTERS[0]} to {LETTERS[count - 1]}"
        )
    return position


def _as_texts(choices: object) -> object:
    """A list of choices with its numbers as digits, which is what the harness shows; anything else as it is."""
    if not isinstance(choices, list):
        return choices
    return [str(choice) if type(choice) in (int, float) else choice for choice in choices]


def _arc(row: Json) -> Json:
    """{query: "Question: ...", choices: [...], gold} as llm-foundry ships it, or {question: {stem, choices}} of the authors."""
    if "query" in row:
        labels = list(LETTERS[: len(row["choices"])])
        choices = {"text": row["choices"], "label": labels}
        question = row["query"].removeprefix("Question: ")
        return {"question": question, "choices": choices, "answerKey": labels[_position(row, "gold", len(labels))]}
    if isinstance(row.get("question"), dict):
        question = row["question"]
        choices = {name: [choice[name] for choice in question["choices"]] for name in ("text", "label")}
        row = {**row, "question": question["stem"], "choices": choices}
    if "choices" not in row or "answerKey" not in row:
        return row
    labels = [str(label) for label in row["choices"]["label"]]
    answer = str(row["answerKey"])
    if answer not in labels:
        raise ValueError(f"answerKey: got {row['answerKey']!r}, expected one of {', '.join(labels)}")
    return {**row, "choices": {"text": _as_texts(row["choices"]["text"]), "label": labels}, "answerKey": answer}


def _hellaswag(row: Json) -> Json:
    """{query: "activity: context", choices: [...], gold}: the harness's own text, except that it capitalises the last words."""
    if "query" in row:
        activity, _, context = row["query"].partition(": ")
        texts = {"activity_label": activity, "ctx_a": context, "ctx_b": "", "endings": row["choices"]}
        return {**texts, "label": str(_position(row, "gold", len(row["choices"])))}
    if "endings" not in row or "label" not in row:
        return row
    return {**row, "label": str(_position(row, "label", len(row["endings"])))}


def _mmlu(row: Json) -> Json:
    """The answer as a number, as its digits or as a letter."""
    if "choices" not in row or "answer" not in row:
        return row
    if len(row["choices"]) != 4:
        raise ValueError(f"choices: got {len(row['choices'])}, expected 4")
    return {**row, "choices": _as_texts(row["choices"]), "answer": _position(row, "answer", 4)}


def _truthfulqa(row: Json) -> Json:
    """{question, mc2_targets: {answer: 1 or 0}}, as in the authors' mc_task.json."""
    targets: Json = {name: row[name] for name in ("mc1_targets", "mc2_targets") if name in row}
    if all("choices" in choices and "labels" in choices for choices in targets.values()):
        return row
    lists = {name: {"choices": list(labels), "labels": list(labels.values())} for name, labels in targets.items()}
    return {"question": row["question"], **lists}


def _winogrande(row: Json) -> Json:
    """The answer as a number or as its digit."""
    if "answer" not in row or "sentence" not in row:
        return row
    answer = str(row["answer"]).strip()
    if answer not in ("1", "2"):
        raise ValueError(f"answer: got {row['answer']!r}, expected 1 or 2")
    if "_" not in row["sentence"]:
        raise ValueError("sentence: got no _, expected one where the option stands")
    return {**row, "answer": answer}


def _gsm8k(row: Json) -> Json:
    """Without blanks behind the number, with which no answer would be equal."""
    return {**row, "answer": row["answer"].rstrip()} if isinstance(row.get("answer"), str) else row


SHAPES: dict[str, Callable[[Json], Json]] = {
    "arc_challenge": _arc,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "truthfulqa_mc2": _truthfulqa,
    "winogrande": _winogrande,
    "gsm8k": _gsm8k,
}


def _check_text(value: object, name: str, may_be_empty: bool = False) -> None:
    if not isinstance(value, str):
        raise ValueError(f"{name}: got {str(value)[:40]!r}, expected a text")
    if not may_be_empty and not value.strip():
        raise ValueError(f"{name}: got an empty text, expected some words")


def _check_texts(values: object, name: str, may_be_empty: bool = False) -> None:
    """A list of two texts at least; an empty one has no probability, and acc_norm divides by its length."""
    if not isinstance(values, list):
        raise ValueError(f"{name}: got {str(values)[:40]!r}, expected a list of texts")
    if len(values) < 2:
        raise ValueError(f"{name}: got {len(values)}, expected two at least to choose from")
    for value in values:
        _check_text(value, name, may_be_empty)


def _check_arc(row: Json) -> None:
    _check_text(row["question"], "question")
    texts, labels = row["choices"]["text"], row["choices"]["label"]
    _check_texts(texts, "choices.text")
    if len(labels) != len(texts):
        raise ValueError(f"choices: got {len(texts)} texts and {len(labels)} labels, expected a label for each")
    _check_distinct(labels, "choices.label")


def _check_distinct(values: Sequence[str], name: str) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: got {', '.join(values)}, expected each exactly once")


def _check_hellaswag(row: Json) -> None:
    for name in ("activity_label", "ctx_a", "ctx_b"):
        _check_text(row[name], name, may_be_empty=name != "ctx_a")
    _check_texts(row["endings"], "endings")


def _score_hellaswag(row: Json) -> None:
    for ending in row["endings"]:
        _check_text(BRACKETS.sub("", ending), "endings without what is in brackets")


def _check_mmlu(row: Json) -> None:
    _check_text(row["question"], "question")
    _check_texts(row["choices"], "choices", may_be_empty=True)  # the harness asks for their letters


def _check_truthfulqa(row: Json) -> None:
    _check_text(row["question"], "question")
    texts, labels = row["mc2_targets"]["choices"], row["mc2_targets"]["labels"]
    _check_texts(texts, "mc2_targets.choices")
    if len(labels) != len(texts):
        raise ValueError(f"mc2_targets: got {len(texts)} choices and {len(labels)} labels, expected a label for each")
    if wrong := [label for label in labels if not isinstance(label, int) or label not in (0, 1)]:
        raise ValueError(f"mc2_targets.labels: got {wrong[0]!r}, expected 0 or 1")


def _score_truthfulqa(row: Json) -> None:
    labels = row["mc2_targets"]["labels"]
    if len(set(labels)) < 2:
        raise ValueError(f"mc2_targets.labels: got {labels[0]} alone, expected true and false answers")


def _check_winogrande(row: Json) -> None:
    for name in ("sentence", "option1", "option2"):
        _check_text(row[name], name)


def _score_winogrande(row: Json) -> None:
    if not row["sentence"].partition("_")[2].strip():
        raise ValueError("sentence: got nothing behind _, expected the text whose probability is compared")


def _check_gsm8k(row: Json) -> None:
    for name in ("question", "answer"):
        _check_text(row[name], name)
    if SOLUTION.search(row["answer"]) is None:
        end = row["answer"][-40:]
        raise ValueError(f"answer: got {end!r}, expected a solution that ends with #### and a number")


SCORE_CHECKS: dict[str, Callable[[Json], None]] = {  # also of rows that are scored, and not only shown as examples
    "hellaswag": _score_hellaswag,
    "truthfulqa_mc2": _score_truthfulqa,
    "winogrande": _score_winogrande,
}
CHECKS: dict[str, Callable[[Json], None]] = {  # of rows that have all fields
    "arc_challenge": _check_arc,
    "hellaswag": _check_hellaswag,
    "mmlu": _check_mmlu,
    "truthfulqa_mc2": _check_truthfulqa,
    "winogrande": _check_winogrande,
    "gsm8k": _check_gsm8k,
}
