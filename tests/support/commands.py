"""The real configuration composed, commands as a user types them, and a server on loopback."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from targen.config.loading import settings_from
from targen.config.settings import Settings
from targen.runtime.paths import PROJECT
from tests.support.composed import composed
from tests.support.warm_start import WarmStart

LONGEST = 600  # seconds that a process may take, on a loaded machine of two slow cores; most take a few
ORIGINALS = PROJECT.parent / "shared" / "superglue"
WARM_START = WarmStart()
TASKS = ("axg", "boolq", "cb", "copa", "record", "rte", "wic", "wsc")
ALL_TASKS = ("axb", "axg", "boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")  # of SuperGLUE


FOLDER = re.compile(r"(run|data)\.dir=/[\w/.-]*")  # an override that differs from test to test and changes nothing else


def settings(*overrides: str) -> Settings:
    """The real configuration of an experiment, quickstart unless another is named."""
    has_experiment = any("experiment=" in override for override in overrides)
    keys = [override.partition("=")[0] for override in overrides]
    once = [override for override, key in zip(overrides, keys, strict=True) if keys.count(key) == 1]
    folders = [override for override in once if FOLDER.fullmatch(override)]
    others = [override for override in overrides if override not in folders]
    cfg = composed(others if has_experiment else ["+experiment=quickstart", *others])
    for key, _, folder in (override.partition("=") for override in folders):
        OmegaConf.update(cfg, key, folder)
    return settings_from(cfg)


def command(
    module: str, *overrides: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command as a user types it, small: the quickstart unless an experiment is named. Variables of Python itself cost it an
    interpreter of its own, which takes seconds."""
    is_small = any(override.startswith("task=") for override in overrides) and not any(
        "experiment=" in override for override in overrides
    )
    if is_small and module not in ("eval.report", "targen.__main__") and "--cfg" not in overrides:
        overrides = (*overrides, "+experiment=quickstart")  # last: before it `accelerate launch` has its own
    variables = os.environ | environment
    if not any(name.startswith("PYTHON") for name in environment):
        return WARM_START.run(module, list(overrides), cwd or Path.cwd(), variables, LONGEST)
    arguments = [sys.executable, "-m", module, *overrides]
    bytes_as_text = {"encoding": "utf-8", "errors": "backslashreplace"}  # PYTHONIOENCODING may ask for other bytes
    return subprocess.run(arguments, cwd=cwd, capture_output=True, env=variables, timeout=LONGEST, **bytes_as_text)


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


class HTTPServer(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that wait to be accepted; one that is turned away is tried again much later
    daemon_threads = True


def reply(handler: BaseHTTPRequestHandler, status: int, text: str, **headers: str) -> None:
    data = text.encode()
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
