"""Checks that prompts and answers fit into the model's context, with the shortest prompts, before the model is loaded."""

from collections.abc import Callable, Sequence

from targen.config.groups.generation import QuestionStep, Step, sampling_key
from targen.llm.messages import Request
from targen.runtime.errors import UserError

CountTokens = Callable[[list[dict[str, str]]], int]


def require_room(shortest: Sequence[Request], count: CountTokens, room: int, how_to_widen: str) -> None:
    """Checks that each shortest prompt and its answer fit into `room` tokens.

    Raises: UserError with one line for each step of each task that does not fit.
    """
    least: dict[tuple[str, Step | QuestionStep], tuple[int, int]] = {}
    for request in shortest:
        body = request.body
        needed = (count(body["messages"]), int(body["max_tokens"]))
        least[request.task, request.step] = min(needed, least.get((request.task, request.step), needed))
    problems = [
        f"{sampling_key(step)}.max_tokens: got {answer}, expected at most {max(room - prompt, 0)} for {task}, whose "
        f"shortest prompt of this step takes {prompt} of the model's {room} tokens. Lower it{how_to_widen}."
        for (task, step), (prompt, answer) in least.items()
        if prompt + answer > room
    ]
    if problems:
        raise UserError("\n".join(problems))
