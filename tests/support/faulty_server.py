"""A generate phase over one small task at a server, and what a test of a faulty server needs."""

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from targen.generate import generate
from targen.llm.backends.openai import make
from targen.llm.backends.openai.limits import LIMITS, Limits
from targen.llm.registry import Backend
from tests.support.commands import Server, files, settings
from tests.support.fake_model import served_by

SIZE = 6


def overrides(folder: Path, server: Server, *more: str) -> list[str]:
    base = [*served_by(server.url, folder), "task=rte"]
    base += ["synth.contexts=4", "synth.seeds_per_context=2", f"synth.size={SIZE}", "generator.retry_pause=0.01"]
    return [*base, *more]


def run(folder: Path, server: Server, *more: str, limits: Limits = LIMITS) -> dict[str, bytes]:
    """Runs a generate phase over one small task; the files that it wrote into synthetic/."""
    generate(settings(*overrides(folder, server, *more)), Backend(partial(make, limits=limits)))
    return files(folder / "synthetic")


def completion(text: Any, finish_reason: str = "stop", **rest: Any) -> str:
    return json.dumps(
        {"model": "fake", "choices": [{"message": {"content": text}, "finish_reason": finish_reason}]} | rest
    )


def step_of(body: dict[str, Any]) -> str:
    return body["response_format"]["json_schema"]["name"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
