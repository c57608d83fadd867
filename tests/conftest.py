"""Fixtures of all tests: their working folder, and a server that answers with the fake model."""

import gc
import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.commands import LONGEST, HTTPServer, Server, reply
from tests.support.fake_model import FakeModel
from tests.support.isolation import PROJECT, touched, working_folder

TOOLS = {
    ".pytest_cache",
    ".ruff_cache",
    ".mypy_cache",
    ".venv",
    ".venv-vllm",
    ".venv-deepspeed",
    "targen.egg-info",
    "__pycache__",
}


@pytest.fixture(scope="session", autouse=True)
def _works_elsewhere() -> Iterator[None]:
    """Processes start in a folder of the session's own, and nothing new lies in the checkout afterwards."""
    before = set(os.listdir(PROJECT))
    os.chdir(working_folder())
    yield
    assert set(os.listdir(PROJECT)) - before <= TOOLS
    assert (working_folder() / "outputs").is_file()


@pytest.fixture(scope="module", autouse=True)
def _imports_are_not_collected() -> None:
    """Keeps what is imported out of garbage collections: each training asks for a full one, which took half of its time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _touches_nothing_of_the_users() -> Iterator[None]:
    """Fails where the tested code swallowed a refusal."""
    touched.clear()
    yield
    assert not touched


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[FakeModel], Server]]:
    """Starts servers that answer with a fake model."""
    running: list[tuple[ThreadingHTTPServer, Server]] = []

    def start(model: FakeModel) -> Server:
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                probe = "trombone" in json.dumps(body.get("response_format"))
                with lock:
                    (server.probes if probe else server.bodies).append(body)
                    caller = self.headers.get("Authorization", "")
                    server.keys.add(caller)
                    server.callers.extend([caller] * (not probe))
                    number, go_on = 0 if probe else len(server.bodies), server.go_on
                if number >= server.hold_from:
                    go_on.wait(LONGEST)
                if not server.misbehave(number, self):
                    reply(self, 200, json.dumps(model.complete(body)))

            def log_message(self, format: str, *args: Any) -> None:
                pass

        http = HTTPServer(("127.0.0.1", 0), Handler)
        server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
        threading.Thread(target=http.serve_forever, args=(0.1,), daemon=True).start()
        running.append((http, server))
        return server

    yield start
    for http, server in running:
        server.go_on.set()
        http.shutdown()
        http.server_close()
