"""Generation in the process with the shapes of Llama-3.1-8B: tokens a second of this project's backends."""

import importlib.util
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import torch
from gpu_checks.runs import Json, written_model

from targen.config.groups.generation import Generator, Sampling
from targen.llm.messages import LLM, Answer, Request, make_request

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "
SCHEMA: Json = {
    "type": "object",
    "properties": {"passage": {"type": "string", "maxLength": 100}},
    "required": ["passage"],
    "additionalProperties": False,
}


def generation(cpu: bool, scratch: Path) -> Iterator[Json]:
    """generator=transformers by its batch size."""
    from targen.llm.backends.transformers.model import Transformers

    path = written_model(scratch / "models", "llama31_8b", cpu, TEMPLATE)
    result: Json = {"schemas_enforced": importlib.util.find_spec("xgrammar") is not None}
    for batch_size in (2, 4) if cpu else (8, 64):
        generator = Generator(backend="transformers", model="llama31_8b", path=str(path), batch_size=batch_size)
        with closing(Transformers(generator, [])) as backend:
            result[f"batch_size {batch_size}"] = _speed(backend, make_requests(2 * batch_size, 16 if cpu else 128))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        yield result


def vllm(cpu: bool, scratch: Path) -> Iterator[Json]:
    """generator=vllm."""
    if importlib.util.find_spec("vllm") is None:
        yield {"skipped": "vllm is not installed"}
        return
    from targen.llm.backends.vllm import VLLM

    path = written_model(scratch / "models", "llama31_8b", cpu, TEMPLATE)
    engine = {"max_model_len": 2048, "max_num_seqs": 8 if cpu else 256, **({"enforce_eager": True} if cpu else {})}
    with closing(VLLM(Generator(backend="vllm", model="llama31_8b", path=str(path), engine=engine), [])) as backend:
        _speed(backend, make_requests(4, 16))
        yield _speed(backend, make_requests(8 if cpu else 1024, 16 if cpu else 128))


def make_requests(count: int, tokens: int) -> list[Request]:
    """Requests of about 400 prompt tokens."""
    sampling = Sampling(1.0, 1.0, tokens)
    return [
        make_request(
            f"c0-{number:04d}-a0", "boolq", "generation", "llama31_8b",
            [{"role": "user", "content": f"Number {number}. " + "Write one more passage. " * 16}], sampling, SCHEMA, number,
        )
        for number in range(count)
    ]  # fmt: skip


def _speed(llm: LLM, requests: list[Request]) -> Json:
    waiting, under_way, begun = iter(requests), 0, time.monotonic()
    prompt = completion = 0
    while True:
        while under_way < llm.window and (request := next(waiting, None)) is not None:
            llm.submit(request)
            under_way += 1
        if under_way == 0:
            break
        for answer in llm.collect():
            if not isinstance(answer, Answer):
                raise RuntimeError(f"{answer}")
            under_way -= 1
            prompt, completion = prompt + answer.usage["prompt_tokens"], completion + answer.usage["completion_tokens"]
    seconds = time.monotonic() - begun
    return {
        "requests": len(requests), "prompt_tokens": prompt, "completion_tokens": completion, "seconds": round(seconds, 2),
        "completion_tokens_per_second": round(completion / seconds, 1),
    }  # fmt: skip
