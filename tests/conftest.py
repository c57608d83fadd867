"""What several tests need: the real configuration composed, the command line, a server with the fake model."""

import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel

from targen.cli import compose
from targen.config import Settings, settings_from
from targen.paths import PROJECT

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports the Hub's clients
LONGEST = 600  # seconds that a process may take, on a loaded machine of two slow cores; most take a few
ORIGINALS = PROJECT.parent / "shared" / "superglue"
TASKS = ("axg", "boolq", "cb", "copa", "record", "rte", "wic", "wsc")


def settings(*overrides: str) -> Settings:
    """The real configuration of an experiment, quickstart unless another is named."""
    named = any("experiment=" in override for override in overrides)
    return settings_from(compose([*([] if named else ["+experiment=quickstart"]), *overrides]))


def command(module: str, *overrides: str, cwd: Path = PROJECT, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    variables = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"} | environment
    arguments = [sys.executable, "-m", module, *overrides]
    return subprocess.run(arguments, cwd=cwd, capture_output=True, text=True, env=variables, timeout=LONGEST)


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, by relative name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@dataclass
class Server:
    """An OpenAI-compatible server on loopback. `misbehave` may answer a call in its own way: (number, handler) -> done.

    The probe of structured outputs is number 0 and stands in `probes`, so that tests count the calls of a run. From call
    number `hold_from` on, answers wait until `go_on`: what is done to a run meanwhile cannot come after its end.
    """

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)  # of each body the Authorization that it came with
    probes: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    hold_from: float = math.inf
    go_on: threading.Event = field(default_factory=threading.Event)
    misbehave: Callable[[int, BaseHTTPRequestHandler], bool] = lambda number, handler: False

    def wait_for(self, calls: int, process: subprocess.Popen[Any]) -> None:
        """Returns when so many calls have come, while the process that makes them runs."""
        while len(self.bodies) < calls:
            assert process.poll() is None, f"ended with {process.returncode} after {len(self.bodies)} calls"
            time.sleep(0.005)


class _HTTPServer(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that wait to be accepted; one that is turned away is tried again much later
    daemon_threads = True


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

        http = _HTTPServer(("127.0.0.1", 0), Handler)
        server = Server(f"http://127.0.0.1:{http.server_address[1]}/v1")
        threading.Thread(target=http.serve_forever, args=(0.1,), daemon=True).start()
        running.append((http, server))
        return server

    yield start
    for http, server in running:
        server.go_on.set()
        http.shutdown()
        http.server_close()


def reply(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    data = text.encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
