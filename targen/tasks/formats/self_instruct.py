"""Instruction data: `{"instruction": "Name a river.", "input": "", "output": "The Rhine", "idx": 0}`.

Only trained on (arm self_instruct); its layout is in conf/instructions/self_instruct.yaml.
"""

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Example, Row, Task

ASKS, ENDS = "Output:", "<|endoftext|>"  # how a prompt and a completion of the authors' release end


ROLES = {
    "human": "user",
    "gpt": "assistant",
    "bing": "assistant",
    "chatgpt": "assistant",
}  # ShareGPT's names of OpenAI's
SHAPES = (
    "{instruction, input, output}, the same with response for output, {prompt, completion}, {messages: [{role, content}]} or "
    "{conversations: [{from, value}]}, all of them texts"
)


def row_of(record: Json, idx: int) -> Row:
    """A row of instruction data in one of SHAPES. Of a conversation, the first question and its answer.

    Raises: RowError that names what was found where it is of another shape.
    """
    parts = _parts(record)
    row = {
        name: "" if parts.get(name) is None and name == "input" else parts.get(name)
        for name in ("instruction", "input", "output")
    }
    for name, value in row.items():
        if not isinstance(value, str):
            raise RowError(f"{name}: got {value!r}, expected a text")
    texts = {name: str(value).strip() for name, value in row.items()}
    texts["instruction"] = texts["instruction"].removesuffix(ASKS).rstrip()
    texts["output"] = texts["output"].removesuffix(ENDS).rstrip()
    check_text(texts, "instruction")
    return {**texts, "idx": idx}


def _parts(record: Json) -> Json:
    """{instruction, input, output}, whatever the names in the record."""
    for turns, role, content in (("messages", "role", "content"), ("conversations", "from", "value")):
        if turns in record:
            return _first_exchange(turns, record[turns], role, content)
    if "prompt" in record and "completion" in record:
        return {"instruction": record["prompt"], "output": record["completion"]}
    if "instruction" not in record or not {"output", "response"} & set(record):
        raise RowError(f"got the fields {', '.join(record) or '(none)'}")
    return {
        "instruction": record["instruction"],
        "input": record.get("input", record.get("context")),
        "output": record.get("output", record.get("response")),
    }


def _first_exchange(name: str, turns: object, role: str, content: str) -> Json:
    """The first user turn and the answer to it, after what a system turn says."""
    shape = f"[{{{role}, {content}}}, ...]"
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and {role, content} <= set(turn) for turn in turns
    ):
        first = turns[0] if isinstance(turns, list) and turns else turns
        raise RowError(f"{name}: got {str(first)[:80]!r}, expected {shape}")
    said = [(ROLES.get(turn[role], turn[role]), turn[content]) for turn in turns]
    begin = next((number for number, (speaker, _) in enumerate(said) if speaker == "user"), None)
    if begin is None or [speaker for speaker, _ in said[begin : begin + 2]] != ["user", "assistant"]:
        raise RowError(
            f"{name}: got turns of {', '.join(str(speaker) for speaker, _ in said[:4]) or 'nobody'}, expected user, assistant"
        )
    before = [text for speaker, text in said[:begin] if speaker == "system" and isinstance(text, str) and text.strip()]
    question = said[begin][1]
    instruction = "\n\n".join([*before, question]) if isinstance(question, str) else question
    return {"instruction": instruction, "output": said[begin + 1][1]}


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
