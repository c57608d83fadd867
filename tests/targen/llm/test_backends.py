"""What every backend keeps to, and what it takes to add one."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from targen.config.groups.generation import Sampling
from targen.llm.call_log import CallLog
from targen.llm.messages import Answer, AwaitingAnswers, Request, make_request
from targen.llm.registry import BackendInputs, backend_named, backend_names
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, PROJECT, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.tiny_llama import write_tiny_llama

SCHEMA = {
    "type": "object",
    "properties": {"hypothesis": {"type": "string", "maxLength": 8}},
    "required": ["hypothesis"],
    "additionalProperties": False,
}


def requests() -> list[Request]:
    system, sampling = {"role": "system", "content": "Be brief."}, Sampling(1.0, 1.0, 32)
    prompts = [[system, {"role": "user", "content": "Write. " * count}] for count in range(1, 7)]
    return [
        make_request(f"c0-{number}-a0", "rte", "generation", "m", messages, sampling, SCHEMA, 1)
        for number, messages in enumerate(prompts)
    ]


def inputs(folder: Path, *overrides: str) -> BackendInputs:
    run = settings("task=rte", f"run.dir={folder}", "generator.model=m", *overrides)
    return BackendInputs(run, CallLog(run.paths.calls, run.tasks), list, "canary")


def recording(folder: Path) -> BackendInputs:
    """Recorded answers to the requests."""
    folder.mkdir()
    answer = {"text": "{}", "finish_reason": "stop", "usage": {}, "model": "m"}
    (folder / "rte.jsonl").write_text(
        "".join(json.dumps({"id": request.id, **answer}) + "\n" for request in requests())
    )
    return inputs(folder / "run", "generator=recorded", f"generator.path={folder}")


def answered_batch(folder: Path) -> BackendInputs:
    """A run whose request file was answered."""
    run_inputs = inputs(folder, "generator=batch")
    backend = backend_named("batch").make(run_inputs)
    for request in requests():
        backend.submit(request)
    with pytest.raises(AwaitingAnswers):
        list(backend.collect())
    bodies = {line["custom_id"]: FakeModel().complete(line["body"]) for line in lines(folder / "requests.jsonl")}
    responses = [{"custom_id": id, "response": {"status_code": 200, "body": body}} for id, body in bodies.items()]
    (folder / "responses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in responses))
    return run_inputs


@pytest.fixture
def backend_inputs(request: pytest.FixtureRequest, tmp_path: Path) -> BackendInputs:
    """Inputs with which the backend of that name can answer the requests."""
    name = request.param
    if name == "recorded":
        return recording(tmp_path / "calls")
    if name == "batch":
        return answered_batch(tmp_path)
    if name == "openai":
        server = request.getfixturevalue("serve")(FakeModel())
        return inputs(tmp_path, "generator=openai", f"generator.base_url={server.url}")
    if name == "python":
        (tmp_path / "mine.py").write_text("def answer(body):\n    return '{}'\n")
        return inputs(tmp_path / "run", "generator=python", f"generator.function='{tmp_path / 'mine.py'}:answer'")
    pytest.importorskip(name, reason=f"{name} is not installed")  # the model runs in this process
    model = write_tiny_llama(tmp_path / "model")
    return inputs(tmp_path / "run", f"generator={name}", f"generator.path={model}", "+generator.engine.dtype=float32")


@pytest.mark.parametrize("backend_inputs", backend_names(), indirect=True)
def test_every_request_is_answered_exactly_once(backend_inputs: BackendInputs) -> None:
    submitted = requests()
    answers: list[Answer] = []
    backend = backend_named(backend_inputs.settings.generator.backend)
    backend.check(backend_inputs.settings)
    with closing(backend_inputs.calls), closing(backend.make(backend_inputs)) as llm:
        assert llm.window >= 1
        for request in submitted[:4]:
            llm.submit(request)
        answers += (answer for answer in llm.collect() if isinstance(answer, Answer))
        assert answers  # collect waits for at least one
        for request in submitted[4:]:
            llm.submit(request)
        while len(answers) < len(submitted):
            answers += (answer for answer in llm.collect() if isinstance(answer, Answer))
    assert sorted(answer.id for answer in answers) == sorted(request.id for request in submitted)
    assert {answer.model for answer in answers} == {"m"}
    assert all(answer.finish_reason in ("stop", "length") for answer in answers)


def test_every_backend_has_a_configuration_and_is_found_without_heavy_imports() -> None:
    assert set(backend_names()) >= {"batch", "openai", "recorded", "transformers", "vllm"}
    for name in backend_names():
        assert settings(f"generator={name}", "generator.model=m").generator.backend == name
    script = (
        "import sys; from targen.llm.registry import backend_named, backend_names; "
        "assert [backend_named(name) for name in backend_names()]; "
        "assert not {'torch', 'transformers', 'vllm', 'aiohttp'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=LONGEST)


def test_an_unknown_backend_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"^generator.backend: got 'opneai', .*Did you mean 'openai'\?$"):
        backend_named("opneai")


ECHO = '''"""Answers with the values that the schema asks for, for a test."""

import json

from targen.llm.messages import Answer
from targen.llm.registry import Backend


class Echo:
    window = 4

    def __init__(self, inputs):
        self._answers = []

    def submit(self, request):
        number = int(request.id[-8:], 16)
        contexts = [f"a village called {chr(97 + n // 26) * 9}{chr(97 + n % 26) * 9}" for n in range(40)]
        premises = [f"In the year {n + number} the mill of a village burned down." for n in range(5)]
        seeds = [{"number": n, "premise": premise} for n, premise in enumerate(premises, start=1)]
        texts = {"contexts": contexts, "instance_seeds": seeds, "hypothesis": f"Mill {number} burned down."}
        texts |= {"explanation": "So it is.", "label": "entailment" if "-c0-" in request.id else "not_entailment"}
        fields = request.schema["properties"]
        self._answers.append(Answer(request.id, json.dumps({name: texts[name] for name in fields}), "stop", {}, "echo"))

    def collect(self):
        answers, self._answers = self._answers, []
        yield from answers

    def close(self):
        pass


BACKEND = Backend(Echo)
'''


def test_a_backend_is_added_with_one_module_and_one_configuration(tmp_path: Path) -> None:
    """As whoever adds one would do it, in a copy of the project."""
    for folder in ("targen", "conf"):
        shutil.copytree(PROJECT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "targen" / "llm" / "backends" / "echo.py").write_text(ECHO)
    (tmp_path / "conf" / "generator" / "echo.yaml").write_text("backend: echo\nmodel: echo\n")
    overrides = ["generator=echo", "task=rte", "synth.size=4", "synth.contexts=4", "synth.near_duplicates=null"]
    done = subprocess.run(
        [sys.executable, "-m", "targen.generate", *overrides, f"run.dir={tmp_path / 'run'}"],
        **{"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path)}, "timeout": LONGEST},
        **{"capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stderr
    assert len(lines(tmp_path / "run" / "synthetic" / "rte" / "train.jsonl")) == 4
