"""The questions that analyses ask, as requests like those of generation.

A question is identified by a hash of its text: changed rows are new questions, and equal questions are asked once.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from targen.config.groups.generation import QuestionStep
from targen.config.settings import Settings
from targen.llm.messages import Answer, Request, call_seed, make_request, read_object
from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.synthesis.engine import Workflow
from targen.tasks.task import Task

TEMPLATES = Path(__file__).with_name("questions.yaml")
MOST_CRITERIA = 5  # of each kind
TEXT: Json = {"type": "string"}
NUMBERS: Json = {"type": "array", "items": {"type": "integer"}}


def _object(**properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


_CRITERIA = _list(_object(name=TEXT, description=TEXT))
SCHEMAS: Mapping[QuestionStep, Json] = {
    "criteria": _object(metadata=_CRITERIA, metrics=_CRITERIA),
    "clusters": _object(clusters=_list(_object(name=TEXT, reason=TEXT, texts=NUMBERS))),
    "cluster_check": _object(explanation=TEXT, wrong=NUMBERS),
    "subjectivity": _object(reason=TEXT, rating={"type": "integer", "enum": [1, 2, 3, 4, 5]}),
}


@dataclass(frozen=True)
class Load:
    """What a part asks of a task: the most calls it makes, and the rows in all their prompts together."""

    calls: int
    rows: int


@cache
def _templates() -> Mapping[str, str]:
    return dict(yaml.safe_load(TEMPLATES.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Questions:
    """Makes the requests of one task."""

    settings: Settings
    task: Task

    def request(self, step: QuestionStep, **values: str) -> Request:
        """The request of a step; `values` fill its template."""
        text = _templates()[step].format(**values)
        messages = [{"role": "system", "content": _templates()["system"]}, {"role": "user", "content": text}]
        key, settings = hashlib.sha256(text.encode()).hexdigest()[:12], self.settings
        seed = call_seed(settings.seed, self.task.name, step, key)
        model, sampling = settings.generator.model, settings.analysis.sampling
        return make_request(key, self.task.name, step, model, messages, sampling, SCHEMAS[step], seed)

    def shortest(self) -> list[Request]:
        """A request of each step without texts: what a model's context has to hold at least."""
        names = "count most texts metadata metrics clusters title description instance labels"
        empty = dict.fromkeys(names.split(), "")
        return [self.request(step, **empty) for step in SCHEMAS]


def answer_object(request: Request) -> Workflow[Json | None]:
    """The object in the answer; None if it cannot be read."""
    answer: Answer = yield request
    try:
        return read_object(answer, request.schema)
    except RowError:
        return None


def numbered_list(texts: Sequence[str]) -> str:
    """The texts as a prompt shows them, numbered from 1."""
    return "\n\n".join(f"Text {number}:\n{text}" for number, text in enumerate(texts, start=1))
