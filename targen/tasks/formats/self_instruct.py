"""Instruction data: `{"instruction": "Name a river.", "input": "", "output": "The Rhine", "idx": 0}`.

Only trained on (arm self_instruct); its layout is in conf/instructions/self_instruct.yaml.
"""

from itertools import pairwise

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.task import Example, Row, Task

ASKS, ENDS = "Output:", "<|endoftext|>"  # how a prompt and a completion of the authors' release end

COLUMNS = {  # the names of each part; the first that is filled counts
    "system": ("system_prompt",),
    "instruction": ("instruction", "prompt", "question"),
    "input": ("input", "context"),
    "output": ("output", "response", "completion"),
}
TURNS = ("messages", "conversations")
SPEECHES = (("role", "content"), ("from", "value"))  # keys of role and text in a turn: OpenAI, ShareGPT
ROLES = {  # in small letters
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "bing", "chatgpt"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "function"), "tool"),
}
SHAPES = (
    "{instruction, input, output} (or prompt, question; context; response, completion), or messages or conversations: "
    "[{role, content}, ...] or [{from, value}, ...], all of them texts"
)


def row_of(record: Json, idx: int) -> Row:
    """A row of instruction data in one of SHAPES; `output` is empty if it has no answer.

    Raises: RowError with the fields or roles of a record of another shape.
    """
    turns = next((name for name in TURNS if name in record), None)
    parts = _columns(record) if turns is None else _first_exchange(turns, record[turns])
    texts = {name: "" if parts.get(name) is None else parts[name] for name in COLUMNS}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise RowError(f"{name}: got {text!r}, expected a text")
    texts["instruction"] = "\n\n".join(filter(str.strip, [texts.pop("system"), texts["instruction"]]))
    row = {name: text.strip() for name, text in texts.items()}
    row["instruction"] = row["instruction"].removesuffix(ASKS).rstrip()
    row["output"] = row["output"].removesuffix(ENDS).rstrip()
    if row["output"]:
        check_text(row, "instruction")
    return {**row, "idx": idx}


def _columns(record: Json) -> Json:
    """The parts of a record with a question and its answer, whatever their names."""
    if not all({*COLUMNS[part]} & {*record} for part in ("instruction", "output")):
        raise RowError(f"got the fields {', '.join(record) or '(none)'}")
    filled = {name: value for name, value in record.items() if value is not None and str(value).strip()}
    return {part: next((filled[name] for name in names if name in filled), None) for part, names in COLUMNS.items()}


def _first_exchange(name: str, turns: object) -> Json:
    """The first user turn with an answer, the answer, and the system turns before; empty if no turn has an answer."""
    listed = turns if isinstance(turns, list) else [] if turns is None else [turns]
    speeches = [_speech(name, turn) for turn in listed]
    for number, ((asker, question), (speaker, answer)) in enumerate(pairwise(speeches)):
        if (asker, speaker) == ("user", "assistant"):
            before = [text for role, text in speeches[:number] if role == "system" and isinstance(text, str)]
            return {"system": "\n\n".join(filter(str.strip, before)), "instruction": question, "output": answer}
    roles = list(dict.fromkeys(role for role, _ in speeches))
    if not {*roles} <= {*ROLES.values()}:
        raise RowError(f"{name}: got turns of {', '.join(roles[:4])}, expected user, assistant")
    return {}


def _speech(name: str, turn: object) -> tuple[str, object]:
    """(role, text) of a turn, the role by OpenAI's name if it is known."""
    for role_key, text_key in SPEECHES:
        if isinstance(turn, dict) and isinstance(role := turn.get(role_key), str) and text_key in turn:
            return ROLES.get(role.lower(), role), turn[text_key]
    raise RowError(f"{name}: got {str(turn)[:80]!r}, expected [{{role, content}}, ...] or [{{from, value}}, ...]")


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
