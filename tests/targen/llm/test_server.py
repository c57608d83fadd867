"""A server with another model, without a network, and with any text."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, PROJECT, command, files, lines, reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import SIZE, completion, overrides, run, step_of


class Renamed(FakeModel):
    def complete(self, body: Any) -> dict[str, Any]:
        return super().complete(body) | {"model": "another-7b"}


def test_another_model_behind_the_same_name_is_refused_after_one_call(tmp_path: Path, serve) -> None:
    run(tmp_path, serve(FakeModel()))
    before = files(tmp_path / "calls")
    renamed = serve(Renamed())
    with pytest.raises(UserError, match=r"answers as 'another-7b', expected 'fake', which gave the answers"):
        run(tmp_path, renamed, "synth.size=12")
    assert len(renamed.bodies) + len(renamed.probes) == 1
    assert files(tmp_path / "calls") == before
    silent = serve(FakeModel())
    silent.misbehave = lambda number, handler: (
        number
        and (reply(handler, 200, json.dumps(FakeModel().complete(silent.bodies[number - 1]) | {"model": None})) or True)
    )
    run(tmp_path, silent, "synth.size=12")


def test_a_model_that_changes_in_mid_run_is_refused_at_that_answer(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    server.misbehave = lambda number, handler: (
        number > 5 and (reply(handler, 200, json.dumps(Renamed().complete(server.bodies[number - 1]))) or True)
    )
    process = command("targen.generate", *overrides(tmp_path, server, "generator.concurrency=2"))
    assert process.returncode == 2 and process.stderr.count("error: ") == 1
    assert "'another-7b', expected 'fake'" in process.stderr
    assert {call["model"] for call in lines(tmp_path / "calls" / "rte.jsonl")} == {"fake"}
    assert len(server.bodies) <= 5 + 2


NO_NETWORK = """
import socket
real = socket.socket.connect
def connect(self, address):
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
        raise SystemExit(f"reached out to {address}")
    return real(self, address)
socket.socket.connect = connect
lookup = socket.getaddrinfo
def getaddrinfo(host, *rest, **more):
    if host not in ("127.0.0.1", "localhost", None):
        raise SystemExit(f"looked up {host}")
    return lookup(host, *rest, **more)
socket.getaddrinfo = getaddrinfo
import atexit, sys
atexit.register(lambda: print("HEAVY", {"torch", "transformers", "tokenizers", "datasets"} & set(sys.modules)))
"""


def test_nothing_is_downloaded_and_no_tokenizer_is_loaded(tmp_path: Path, serve, good) -> None:
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    variables = os.environ | {"PYTHONPATH": f"{tmp_path}:{PROJECT}"}
    variables = {name: value for name, value in variables.items() if not name.lower().endswith("_proxy")}
    typed = ["+experiment=quickstart", *overrides(tmp_path / "run", serve(FakeModel()))]
    arguments = [sys.executable, "-m", "targen.generate", *typed]
    done = subprocess.run(arguments, env=variables, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    assert "HEAVY set()" in done.stdout
    assert files(tmp_path / "run" / "synthetic") == good


TEXTS = {
    "scripts": "Ωμέγα, ภาษาไทย, العربية, हिन्दी, 日本語, 👩‍👩‍👧 and e\u0301 were all there.",
    "control": "It rang\x07 and\x1b[31m the\x85 line\u2028 ended\u2029 there\x7f twice.",
    "nul": "The file had\x00 a hole.",
    "quotes": 'He said: "{\'a\': \\"b\\"}" and left.\r\n\tThen <think> he </think> came back.',
    "long": "The very long day went on and on. " * 30_000,
    "half": "Only half \ud83d of it.",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_any_text_comes_back_as_it_was_or_is_rejected_with_a_reason(tmp_path: Path, serve, kind: str) -> None:
    def misbehave(number: int, handler) -> bool:
        steps = [step_of(body) for body in server.bodies[:number]]
        if steps[-1:] != ["generation"] or steps.count("generation") > 1:  # but for the first to come, all are as usual
            return False
        reply(handler, 200, completion(json.dumps({"hypothesis": TEXTS[kind]}, ensure_ascii=kind == "half")))
        return True

    server = serve(FakeModel())
    server.misbehave = misbehave
    run(tmp_path, server)
    for path in tmp_path.rglob("*.jsonl"):
        for line in path.read_bytes().decode("ascii").splitlines():
            json.loads(line)
    rows = lines(tmp_path / "synthetic" / "rte" / "train.jsonl")
    rejects = lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl")
    same_rows = [row for row in rows if row["hypothesis"] == TEXTS[kind]]
    assert len(rows) == SIZE and len(same_rows) + len(rejects) == 1
    assert bool(rejects) == (kind == "half"), rejects
    assert all("half a character" in reject["reason"] for reject in rejects)
