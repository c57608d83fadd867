"""Instruction data: `{"instruction": "Name a river.", "input": "", "output": "The Rhine", "idx": 0}`.

Only trained on (arm self_instruct); its layout is in conf/instructions/self_instruct.yaml.
"""

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Example, Row, Task

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


class SelfInstruct(Task):
    """An instruction and its output."""

    def check_format(self, row: Row) -> None:
        check_keys(row, [*self.row, "idx"], optional=[])
        for name in ("instruction", "output"):
            check_text(row, name)

    def view(self, row: Row) -> dict[str, str]:
        return {"text": "\n".join(filter(None, [row["instruction"], row["input"]]))}

    def examples(self, row: Row) -> list[Example]:
        return [Example(self.name, row["idx"], self.view(row), (row["output"],), (0,))]
