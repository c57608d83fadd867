"""Commands in processes that start at once: forks of a process that has imported everything that is slow to import.

A fork runs the module as `python -m` would: with its own arguments, environment, working folder, output and exit code. It
cannot show what a module imports; tests of that start an interpreter of their own.
"""

import atexit
import gc
import json
import os
import runpy
import select
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from targen.runtime.cli import compose
from targen.text.normalise import is_form_of
from tests.support.composed import parsed_once

LIBRARIES = (
    "accelerate, aiohttp, datasets, hydra.core.plugins, jinja2, matplotlib.pyplot, pandas, peft, pydantic, scipy.stats,"
    " sklearn.feature_extraction.text, sklearn.linear_model, sklearn.metrics, spacy, torch, transformers.trainer"
)
COMMANDS = ("targen.generate", "targen.merge", "targen.run", "train.run", "eval.run", "eval.analyze", "eval.report")
ENVIRONMENT = dict(os.environ)  # as the session found it, before any test changes it


class WarmStart:
    """Runs commands one after the other. The process that forks starts with the first one."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def run(
        self, module: str, arguments: list[str], cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Raises: subprocess.TimeoutExpired after `timeout` seconds."""
        with self._lock, TemporaryDirectory() as folder:
            out, err = Path(folder) / "out", Path(folder) / "err"
            command = {"module": module, "arguments": arguments, "cwd": str(cwd), "out": str(out), "err": str(err)}
            try:
                code = self._exit_code(command | {"environment": dict(environment)}, timeout)
            except (
                BaseException
            ):  # also a test's own time limit: the answer that is still to come belongs to no other test
                self._kill()
                raise
            return subprocess.CompletedProcess([module, *arguments], code, out.read_text(), err.read_text())

    def _exit_code(self, command: dict[str, Any], timeout: float) -> int:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, env=ENVIRONMENT,
            )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(command["module"], timeout)
        return int(self._process.stdout.readline())

    def _kill(self) -> None:
        if self._process is not None:
            started = psutil.Process(self._process.pid)
            for process in [*started.children(recursive=True), started]:
                process.kill()
            self._process.wait()
            self._process = None


def _next_command() -> dict[str, Any]:
    """Forks for every line of stdin and answers with the exit code of each fork. Returns the command, in the fork."""
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            command: dict[str, Any] = json.loads(line)
            return command
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()
    sys.exit()


def _become(command: dict[str, Any]) -> None:
    """Makes this process look like one that was started for the command."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, path in ((1, command["out"]), (2, command["err"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    sys.path[0] = command["cwd"]
    sys.argv = [command["module"], *command["arguments"]]


def _run(module: str) -> int:
    """The exit code of the module, as an interpreter would give it."""
    for name in {module, *COMMANDS}:  # `targen VERB` runs another one than its own
        sys.modules.pop(name, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    for name in (*LIBRARIES.split(", "), *COMMANDS):
        __import__(name.strip())
    with parsed_once():
        compose(["+experiment=quickstart"])
        is_form_of("words", "place")  # reads the dictionaries
        gc.freeze()
        command = _next_command()
        _become(command)
        code = _run(command["module"])
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to free what these libraries hold would take seconds
