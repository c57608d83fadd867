"""Whether a refusal is about its prompt or about every call: the server is asked the same with a harmless prompt."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from targen.config.groups.generation import Generator, sampling_key
from targen.llm.backends.openai.replies import FatalError, RefusedError
from targen.llm.backends.openai.structured import QUESTION, SCHEMA
from targen.llm.messages import Answer, Failure, Request

HARMLESS_CALLS = 2  # of which one must be answered; a filter that errs now and then may refuse the other
NO_ROOM = ("context_length", "no_room")  # finish_reasons that a max_tokens which is too large has as well


async def judge_refusal(
    server: Generator,
    request: Request,
    refused: RefusedError,
    others_answered: bool,
    ask: Callable[[Request], Awaitable[Answer | Failure]],
) -> Answer:
    """What is recorded of a refused call, so that it is not asked again: the reason, and the server's words as its text.

    `others_answered`: other requests were, while this one was refused. Raises: FatalError if the server refuses harmless
    prompts too; RetryableError if it does not answer them.
    """
    if (refused.finish_reason in NO_ROOM or not others_answered) and not await _answers_others(request, ask):
        raise FatalError(_why_all(server, request, refused))
    return Answer(request.id, str(refused), refused.finish_reason, {}, "")  # no model has answered


async def _answers_others(request: Request, ask: Callable[[Request], Awaitable[Answer | Failure]]) -> bool:
    for seed in range(HARMLESS_CALLS):
        form = {"type": "json_schema", "json_schema": {"name": "canary", "schema": SCHEMA, "strict": True}}
        question = {"messages": [{"role": "user", "content": QUESTION}], "seed": seed, "response_format": form}
        try:
            if isinstance(await ask(replace(request, body=request.body | question, schema=SCHEMA)), Answer):
                return True
        except RefusedError:
            pass
    return False


def _why_all(server: Generator, request: Request, refused: RefusedError) -> str:
    if refused.finish_reason in NO_ROOM:
        return (
            f"{sampling_key(request.step)}.max_tokens: got {request.body['max_tokens']}, which {server.base_url} refuses even "
            f"with a short prompt ({refused}), expected room for it in the model's context. Lower it, in another "
            "run.dir, or serve the model with a longer context."
        )
    return f"generator.base_url: {server.base_url} answers {refused}{refused.if_all}"
