"""Small generate phases, with a server or with batch files."""

import json
import random
from pathlib import Path

from targen.generate import generate
from targen.llm.messages import AwaitingAnswers
from tests.support.commands import lines, settings
from tests.support.fake_model import FakeModel, served_by

SMALL = ("synth.contexts=4", "synth.seeds_per_context=2", "synth.size=12")


def batch_settings(folder: Path, *overrides: str):
    return settings(
        "synth.learnability_rows=0", "generator=batch", "generator.model=fake", f"run.dir={folder}", *SMALL, *overrides
    )


def respond(folder: Path, model: FakeModel, keep: float = 1.0, rng_seed: int = 0) -> None:
    """Answers the request file as a provider would: any order, a part of it, some lines errors or doubled."""
    draws = random.Random(rng_seed)
    responses = []
    for request in lines(folder / "requests.jsonl"):
        body = {"custom_id": request["custom_id"], "error": None}
        response = body | {"response": {"status_code": 200, "body": model.complete(request["body"])}}
        if draws.random() < keep:
            responses += [response] * (1 + (draws.random() < 0.1))
        elif draws.random() < 0.5:
            responses.append(body | {"response": None, "error": {"code": "server_error"}})
        else:
            responses.append(body | {"response": {"status_code": 500, "body": {}}})
    draws.shuffle(responses)
    text = "".join(json.dumps(response) + "\n" for response in responses)
    (folder / "responses.jsonl").write_text(text, encoding="utf-8")


def by_batch(folder: Path, model: FakeModel, *overrides: str, keep: float = 1.0) -> int:
    """Runs the batch loop to its end; the number of request files."""
    run = batch_settings(folder, *overrides)
    for number in range(60):
        try:
            generate(run)
        except AwaitingAnswers:
            respond(folder, model, keep, number)
        else:
            return number
    raise AssertionError("the batch loop does not end")


def server_overrides(folder: Path, url: str, *overrides: str) -> list[str]:
    base = [*served_by(url, folder), *SMALL]
    return [*base, *overrides]
