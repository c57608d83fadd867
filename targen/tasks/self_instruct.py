"""Instruction data: `{"instruction": "Name a river.", "input": "", "output": "The Rhine", "idx": 0}`.

Only trained on (arm self_instruct); its layout stands in conf/instructions/self_instruct.yaml.
"""

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.plain import TaskCode, check_keys, check_text
from targen.tasks.task import Example, Row, TaskSpec

ASKS, ENDS = "Output:", "<|endoftext|>"  # how a prompt and a completion of the authors' release end


def row_of(record: Json, idx: int) -> Row:
    """A row of `{instruction, input, output}`, or of the release's `{prompt, completion}`.

    Raises: RowError where it is neither.
    """
    if "prompt" in record and "completion" in record:
        record = {"instruction": record["prompt"], "output": record["completion"]}
    row = {name: record.get(name, "" if name == "input" else None) for name in ("instruction", "input", "output")}
    for name, value in row.items():
        if not isinstance(value, str):
            raise RowError(f"{name}: got {value!r}, expected a text")
    texts = {name: str(value).strip() for name, value in row.items()}
    texts["instruction"] = texts["instruction"].removesuffix(ASKS).rstrip()
    texts["output"] = texts["output"].removesuffix(ENDS).rstrip()
    check_text(texts, "instruction")
    return {**texts, "idx": idx}


def check_format(task: TaskSpec, row: Row) -> None:
    check_keys(row, [*task.row, "idx"], optional=[])
    for name in ("instruction", "output"):
        check_text(row, name)


def view(task: TaskSpec, row: Row) -> dict[str, str]:
    return {"text": "\n".join(filter(None, [row["instruction"], row["input"]]))}


def examples(task: TaskSpec, row: Row) -> list[Example]:
    return [Example(task.name, row["idx"], view(task, row), (row["output"],), (0,))]


CODE = TaskCode(check_format=check_format, view=view, examples=examples)
