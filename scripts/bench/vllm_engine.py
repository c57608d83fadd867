"""How fast the vLLM backend is, against vLLM itself."""

import importlib.util
import os
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from measurement import print_measurement

from targen.config.groups.generation import Generator, Sampling
from targen.config.loading import settings_from
from targen.llm.messages import LLM as LanguageModel
from targen.llm.messages import Answer, Request, make_request
from targen.runtime.cli import compose
from targen.synthesis.prompts.step_prompts import generation_prompt
from targen.synthesis.recipes import recipes


def vllm(folder: Path) -> None:
    """Tokens per second of our backend, fed as in a run, against LLM.chat with all requests in one batch; median of five rounds."""
    if importlib.util.find_spec("vllm") is None:
        print("vllm: skipped, the package vllm is not installed; run this with .venv-vllm/bin/python", flush=True)
        return
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    from vllm import LLM

    from targen.llm.backends.vllm import NO_BLANKS, VLLM, WHOLE_PROMPTS
    from tests.support.tiny_llama import write_tiny_llama

    model = str(write_tiny_llama(folder / "model"))
    engine: dict[str, Any] = {"dtype": "float32", "max_model_len": 2048, "max_num_seqs": 64, "enforce_eager": True}
    engine |= WHOLE_PROMPTS
    requests = _rte_requests(200)
    with closing(VLLM(Generator(backend="vllm", model="tiny", path=model, engine=engine), [])) as ours:
        theirs = LLM(model, structured_outputs_config=NO_BLANKS, **engine)
        _speed_streamed(ours, requests)  # warms up, as the next line does
        _speed_in_one_batch(theirs, requests)
        rounds = [(_speed_streamed(ours, requests), _speed_in_one_batch(theirs, requests)) for _ in range(5)]
    ratio = statistics.median(streamed / batched for streamed, batched in rounds)
    detail = "; ".join(f"{streamed:.0f} against {batched:.0f}" for streamed, batched in rounds)
    print_measurement("tokens/s of vLLM in the process, versus LLM.chat in one batch", ratio, ">= 0.95", detail)


def _rte_requests(count: int) -> list[Request]:
    (recipe,) = recipes(settings_from(compose(["+experiment=quickstart", "task=rte"])))
    sampling, requests = Sampling(1.0, 1.0, 128), []
    for number in range(count):
        values = {"premise": f"On day {number} the mill by the river burned down.", "context": ""}
        label = recipe.task.labels[number % 2].name
        messages, schema = generation_prompt(recipe.method, recipe.task, label, values)
        position = f"c0-{number:04d}-a0"
        requests.append(make_request(position, "rte", "generation", "tiny", messages, sampling, schema, number))
    return requests


def _speed_streamed(llm: LanguageModel, requests: list[Request]) -> float:
    """Tokens per second if the backend always holds as many requests as its window."""
    waiting, under_way, tokens, start = iter(requests), 0, 0, time.monotonic()
    while True:
        while under_way < llm.window and (request := next(waiting, None)) is not None:
            llm.submit(request)
            under_way += 1
        if under_way == 0:
            return tokens / (time.monotonic() - start)
        for answer in llm.collect():
            assert isinstance(answer, Answer)
            under_way, tokens = under_way - 1, tokens + answer.usage["completion_tokens"]


def _speed_in_one_batch(llm: Any, requests: list[Request]) -> float:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    bodies, start = [request.body for request in requests], time.monotonic()
    keys = ("temperature", "top_p", "max_tokens", "seed")
    params = [
        SamplingParams(
            **{key: body[key] for key in keys}, structured_outputs=StructuredOutputsParams(json=request.schema)
        )
        for request, body in zip(requests, bodies, strict=True)
    ]
    outputs = llm.chat([body["messages"] for body in bodies], params, use_tqdm=False)
    return sum(len(output.outputs[0].token_ids) for output in outputs) / (time.monotonic() - start)
