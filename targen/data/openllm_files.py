"""Local files of the OpenLLM tasks, as the Hub, the authors or others ship them, read as rows with the Hub's fields."""

import csv
from collections.abc import Callable
from pathlib import Path

from targen.config.groups.evaluation import OpenLLM
from targen.config.openllm import Subtask, local_openllm_file, subtasks
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_rows

LETTERS = "ABCDEFGHIJ"
COLUMNS = 6  # of MMLU's CSV files
MMLU_ROW = "the question, four choices and the answer's letter"
HEADER = "answer"  # how the last column is called where there is a header; the authors' files have none


def check_openllm_rows(openllm: OpenLLM) -> None:
    """Reads the local files of the chosen tasks once. Raises: UserError if one is damaged, or has fewer examples than are shown."""
    if openllm.data_dir is None:
        return
    for subtask in subtasks(openllm):
        for split in subtask.splits:
            if (path := local_openllm_file(Path(openllm.data_dir), subtask, split)) is None:
                continue  # told elsewhere, all of them in one line
            rows, _ = rows_of(path, subtask)
            if split == subtask.spec.shown and len(rows) < subtask.shots:
                raise UserError(
                    f"{path}: got {len(rows)} rows, expected at least {subtask.shots}, the examples that {subtask.name} shows. Give "
                    "the whole split, or set a smaller eval.openllm.num_fewshot."
                )


def rows_of(path: Path, subtask: Subtask) -> tuple[list[Json], bool]:
    """(the rows of a local file with the Hub's fields, whether they were converted). Raises: UserError with file and line."""
    convert = SHAPES.get(subtask.task)
    rows, changed = [], False
    for number, row in _records(path):
        try:
            converted = convert(row) if convert is not None else row
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            said = err if type(err) is ValueError else repr(err)
            raise UserError(
                f"{path}:{number}: got a row that cannot be read ({said}), expected one of {subtask.name} with the fields as on the Hub. Repair it."
            ) from None
        lacking = [name for name in subtask.spec.fields if name not in converted]
        if lacking:
            raise UserError(
                f"{path}:{number}: lacks {', '.join(lacking)}, expected a row of {subtask.name} with the fields as on the Hub. "
                "Repair it."
            )
        changed |= converted != row
        rows.append(converted)
    if not rows:
        raise UserError(f"{path}: got no row, expected rows of {subtask.name}. Replace it.")
    return rows, changed


def _records(path: Path) -> list[tuple[int, Json]]:
    """(line or number, row) of a JSONL file, a file with a single JSON list, or a CSV file of MMLU."""
    return _csv_records(path) if path.suffix == ".csv" else read_rows(path)


def _csv_records(path: Path) -> list[tuple[int, Json]]:
    records, start = [], 1  # the line on which a row starts, which may have several
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)
            for cells in reader:
                number, start = start, reader.line_num + 1
                if not cells or cells[-1].strip().lower() == HEADER:
                    continue
                if len(cells) != COLUMNS:
                    raise UserError(
                        f"{path}:{number}: got {len(cells)} columns, expected {COLUMNS}: {MMLU_ROW}. Repair it."
                    )
                question, *choices, answer = cells
                records.append((number, {"question": question, "choices": choices, "answer": answer}))
    except csv.Error as err:
        raise UserError(
            f"{path}:{start}: got a row that is no CSV ({err}), expected {MMLU_ROW}, with quotes inside quotes doubled. Repair it."
        ) from None
    except (OSError, ValueError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair or replace it.") from None
    return records


def _position(row: Json, name: str, count: int) -> int:
    """The position from 0 of an answer given as a number, as its digits or as a letter. Raises: ValueError for any other."""
    given = str(row[name]).strip().upper()
    position = int(given) if given.isdecimal() else LETTERS.find(given) if len(given) == 1 else -1
    if not 0 <= position < count:
        raise ValueError(
            f"{name}: got {row[name]!r}, expected 0 to {count - 1} or {LETTERS[0]} to {LETTERS[count - 1]}"
        )
    return position


def _arc(row: Json) -> Json:
    """{query: "Question: ...", choices: [...], gold} as llm-foundry ships it, or {question: {stem, choices}} of the authors."""
    if "query" in row:
        labels = list(LETTERS[: len(row["choices"])])
        choices = {"text": row["choices"], "label": labels}
        question = row["query"].removeprefix("Question: ")
        return {"question": question, "choices": choices, "answerKey": labels[_position(row, "gold", len(labels))]}
    if isinstance(row.get("question"), dict):
        listed = row["question"]["choices"]
        choices = {name: [choice[name] for choice in listed] for name in ("text", "label")}
        row = {**row, "question": row["question"]["stem"], "choices": choices}
    if "choices" not in row or "answerKey" not in row:
        return row
    labels = [str(label) for label in row["choices"]["label"]]
    answer = str(row["answerKey"])
    if answer not in labels:
        raise ValueError(f"answerKey: got {row['answerKey']!r}, expected one of {', '.join(labels)}")
    return {**row, "choices": {**row["choices"], "label": labels}, "answerKey": answer}


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
    return {**row, "answer": _position(row, "answer", 4)}


def _truthfulqa(row: Json) -> Json:
    """{question, mc2_targets: {answer: 1 or 0}}, as in the authors' mc_task.json."""
    targets = {name: row[name] for name in ("mc1_targets", "mc2_targets") if name in row}
    if all("choices" in choices and "labels" in choices for choices in targets.values()):
        return row
    listed: Json = {
        name: {"choices": list(choices), "labels": list(choices.values())} for name, choices in targets.items()
    }
    return {"question": row["question"], **listed}


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
    """The answer is a solution that ends with the number: examples teach the form, and scores read the number."""
    if "answer" in row and "####" not in str(row["answer"]):
        raise ValueError(
            f"answer: got {str(row['answer'])[-40:]!r}, expected a solution that ends with #### and a number"
        )
    return row


SHAPES: dict[str, Callable[[Json], Json]] = {
    "arc_challenge": _arc,
    "hellaswag": _hellaswag,
    "mmlu": _mmlu,
    "truthfulqa_mc2": _truthfulqa,
    "winogrande": _winogrande,
    "gsm8k": _gsm8k,
}
