"""What an experiment needs from the Hub: named exactly, fetched once, read offline afterwards."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PROJECT, settings

from targen.needs import needs


def named(*overrides: str) -> list[tuple[str, str, str]]:
    return [(one.kind, one.name, one.config) for one in needs(settings(*overrides))]


def test_an_experiment_names_its_models_and_data_and_nothing_else() -> None:
    superglue = "aps/super_glue"
    main = ["+experiment=superglue_flant5", "task=[axg,cb]"]
    assert named(*main) == [
        ("model", "meta-llama/Llama-3.1-8B-Instruct", ""),
        ("model", "google/flan-t5-large", ""),
        ("dataset", superglue, "axg"),
        ("dataset", superglue, "rte"),  # AX-g has no train split
        ("dataset", superglue, "cb"),
    ]
    assert named(*main, "phases=[evaluate]")[1:] == [("dataset", superglue, "axg"), ("dataset", superglue, "cb")]
    assert named(*main, "phases=[generate]", "generator=openai", "generator.model=m") == []
    instructions = [
        "model=gpt2_large",
        "arms=[self_instruct]",
        "phases=[train]",
        "data.self_instruct=me/rows",
        "train.setting=multi",
    ]
    assert named("task=[cb,rte]", *instructions)[1:] == [("dataset", "me/rows", "self_instruct")]
    shown = ["model=gpt2_large", "arms=[none]", "eval.shots=2", "phases=[evaluate]"]
    assert named("task=[axg]", *shown)[1:] == [("dataset", superglue, "axg"), ("dataset", superglue, "rte")]
    assert named("task=[cb]", "data.source=local", "data.dir=/data") == []  # MiniLM comes with a package
    assert named("task=[cb]", "phases=[generate]", "method=few_shot") == [("dataset", superglue, "cb")]
    assert named("task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large") == [
        ("model", settings("model=gpt2_large").model.path, "")
    ]


FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b'{"version": 1}',
    "pytorch_model.bin": b"pickled",
    "onnx/model.onnx": b"other",
    "original/model.safetensors": b"again",
    "README.md": b"words",
}
COMMIT = "c" * 40


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """The part of the Hub's protocol that a download of a model takes, and the files that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/"):
                if "/tree/" in path:
                    body = [
                        {"type": "file", "path": p, "size": len(d), "oid": hashlib.sha1(d).hexdigest()}
                        for p, d in FILES.items()
                    ]
                    return self._say(json.dumps(body).encode())
                siblings = [{"rfilename": name} for name in FILES]
                return self._say(json.dumps({"id": "me/model", "sha": COMMIT, "siblings": siblings}).encode())
            name = path.split(f"/resolve/{COMMIT}/")[-1]
            if name not in FILES:
                self.send_response(404)
                self.send_header("Content-Length", "0")
                return self.end_headers()
            if self.command == "GET":
                asked.append(name)
            return self._say(FILES[name])

        do_HEAD = do_GET

        def _say(self, data: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


def fetched(*overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(PROJECT / "scripts" / "fetch.py"), *overrides]
    return subprocess.run(words, capture_output=True, text=True, env=os.environ | environment, timeout=200, check=False)


def test_a_model_is_fetched_without_what_nobody_reads_and_is_there_offline(tmp_path: Path, hub) -> None:
    url, asked = hub
    words = ["task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large", "model.path=me/model"]
    where = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1"}
    planned = fetched(*words, "plan=true", **where)
    assert planned.returncode == 0 and "fetch: model me/model (model)" in planned.stderr and not asked
    done = fetched(*words, **where)
    assert done.returncode == 0, done.stderr
    assert sorted(asked) == ["config.json", "model.safetensors", "tokenizer.json"]
    offline = "from huggingface_hub import snapshot_download as s; print(s('me/model', allow_patterns=['config.json']))"
    variables = os.environ | where | {"HF_HUB_OFFLINE": "1"}
    found = subprocess.run([sys.executable, "-c", offline], capture_output=True, text=True, env=variables, check=True)
    assert (Path(found.stdout.strip()) / "model.safetensors").read_bytes() == b"weights"


def test_what_cannot_be_fetched_is_one_line_each(tmp_path: Path) -> None:
    words = ["task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large", "model.path=me/model"]
    done = fetched(*words, HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and "model: me/model cannot be fetched" in line and "Traceback" not in done.stderr
