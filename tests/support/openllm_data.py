"""Local files of the OpenLLM tasks in the Hub's fields: a few rows of our own."""

import json
from pathlib import Path
from typing import Any

from targen.config.openllm import suite_from_file

SUBJECTS = suite_from_file("openllm_4").tasks["mmlu"].parts
NOUNS = ("lamp", "river", "horse", "kettle", "garden", "violin", "harbour", "ladder", "orchard", "mirror")


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("".join(json.dumps(row) + "\n" for row in rows))


def arc(count: int, start: int = 0) -> list[dict[str, Any]]:
    rows = []
    for number in range(start, start + count):
        texts = [f"a {NOUNS[(number + step) % 10]}" + " of old wood" * (step == 2) for step in range(4)]
        choices = {"text": texts, "label": list("ABCD")}
        rows.append({"question": f"Which is thing {number}?", "choices": choices, "answerKey": "ABCD"[number % 4]})
    return rows


def hellaswag(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "activity_label": "Walking",
            "ctx_a": f"Somebody walks past the {NOUNS[number % 10]}.",
            "ctx_b": "she",
            "endings": [f"looks at the {NOUNS[(number + step) % 10]}{' again' * step}." for step in range(4)],
            "label": str(number % 4),
        }
        for number in range(start, start + count)
    ]


def mmlu(subject: str, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{subject} {number}?", "choices": list(NOUNS[number : number + 4]), "answer": number % 4}
        for number in range(count)
    ]


def truthfulqa(count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Is the {NOUNS[number]} alive?",
            "mc2_targets": {"choices": ["No.", "It is not.", "Yes."], "labels": [1, 1, 0]},
        }
        for number in range(count)
    ]


def winogrande(count: int) -> list[dict[str, Any]]:
    return [
        {
            "sentence": f"The {NOUNS[number]} did not fit into the box because the _ was too large.",
            "option1": NOUNS[number],
            "option2": "box",
            "answer": "1",
        }
        for number in range(count)
    ]


def gsm8k(count: int) -> list[dict[str, Any]]:
    return [
        {
            "question": f"Ann has {number} lamps and buys 2. How many has she?",
            "answer": f"She has {number} + 2.\n#### {number + 2}",
        }
        for number in range(count)
    ]


def openllm_files(folder: Path, subject_rows: int = 1) -> Path:
    """All files of openllm_6: MMLU's first subject has three rows, the others have `subject_rows`."""
    write(folder / "arc_challenge" / "test.jsonl", arc(6))
    write(folder / "arc_challenge" / "train.jsonl", arc(26, start=6))
    write(folder / "hellaswag" / "validation.jsonl", hellaswag(6))
    write(folder / "hellaswag" / "train.jsonl", hellaswag(11, start=6))
    write(folder / "truthfulqa" / "validation.jsonl", truthfulqa(4))
    write(folder / "winogrande" / "validation.jsonl", winogrande(4))
    write(folder / "winogrande" / "train.jsonl", winogrande(6))
    write(folder / "gsm8k" / "test.jsonl", gsm8k(3))
    write(folder / "gsm8k" / "train.jsonl", gsm8k(6))
    for subject in SUBJECTS:
        write(folder / "mmlu" / subject / "test.jsonl", mmlu(subject, 3 if subject == SUBJECTS[0] else subject_rows))
        write(folder / "mmlu" / subject / "dev.jsonl", mmlu(subject, 5))
    return folder
