"""Commands in processes that start at once: forks of a process that has imported everything that is slow to import.

A fork runs the module as `python -m` would: with its own arguments, environment, working folder, streams and exit code, and
so do the processes that it starts in turn with `sys.executable`, such as the phases of a run. It cannot show what a module
imports; tests of that start an interpreter of their own.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from io import BufferedReader, BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.support.warm_python import READ_AT_START

LIBRARIES = (
    "accelerate.commands.launch, aiohttp, datasets, hydra.core.plugins, jinja2, matplotlib.pyplot, pandas, peft, pydantic, scipy.stats,"
    " sklearn.feature_extraction.text, sklearn.linear_model, sklearn.metrics, spacy, torch, torch.distributed.run, transformers.trainer"
)
COMMANDS = ("targen.generate", "targen.merge", "targen.run", "train.run", "eval.run", "eval.analyze", "eval.report")
CLIENT = Path(__file__).with_name("warm_python.py")


class WarmStart:
    """Runs commands. The process that forks starts with the first one."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)  # as the session found it, before any test changes it
        self._server: subprocess.Popen[str] | None = None
        self._folder = TemporaryDirectory(prefix="targen-")
        self._starting = threading.Lock()

    def python(self) -> str:
        """What stands for the interpreter in a command line."""
        script = Path(self._folder.name) / "python"
        with self._starting:
            if self._server is None:
                address = f"{self._folder.name}/socket"
                read_at_start = {
                    name: value for name, value in self._environment.items() if name.startswith(READ_AT_START)
                }
                call = f"main({address!r}, {sys.executable!r}, {read_at_start!r})"
                text = f"#!{sys.executable} -ISE\n{CLIENT.read_text(encoding='utf-8')}\n{call}\n"
                script.write_text(text, encoding="utf-8")
                script.chmod(0o700)
                self._server = subprocess.Popen(
                    [sys.executable, "-m", __name__, address, str(script)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment,
                )  # fmt: skip
                assert self._server.stdout is not None
                assert self._server.stdout.readline() == "ready\n"
        return str(script)

    def run(
        self, module: str, arguments: list[str], cwd: Path, environment: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Raises: subprocess.TimeoutExpired after `timeout` seconds."""
        command = [self.python(), "-m", module, *arguments]
        options = {"encoding": "utf-8", "errors": "backslashreplace", "stdin": subprocess.DEVNULL}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=timeout, **options)


def _serve(address: str) -> dict[str, Any]:
    """Forks for every connection, until stdin ends. Returns the command, in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # reaps what has ended
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                for process in psutil.Process().children(recursive=True):
                    process.kill()
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                break
            connection.close()
    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    command: dict[str, Any] = json.loads(connection.makefile("rb").readline())
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        _attend(connection, child)
    connection.close()
    return command | {"streams": streams}


def _attend(connection: socket.socket, child: int) -> None:
    """Gives the child the signals that its client passes on, and the client the exit code; kills it when the client is killed."""
    ends = os.pidfd_open(child)
    while ends not in select.select([connection, ends], [], [])[0]:
        for number in connection.recv(1000).split() or [signal.SIGKILL]:
            os.kill(child, int(number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):  # the client was killed
        connection.sendall(b"%d\n" % code)
    os._exit(0)


def _become(command: dict[str, Any]) -> None:
    """Makes this process look like one that was started for the command."""
    for number, stream in enumerate(command["streams"]):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(command["cwd"])
    os.environ.clear()
    os.environ.update(command["environment"])
    added = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    current = [] if os.environ.get("PYTHONSAFEPATH") else [command["cwd"]]
    sys.path[:] = [*current, *added, *(folder for folder in sys.path[1:] if folder not in added)]
    sys.argv = [command["module"], *command["arguments"]]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    unbuffered = command["unbuffered"] or bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = TextIOWrapper(BufferedReader(FileIO(0, closefd=False)), encoding="utf-8")
    sys.stdout = TextIOWrapper(
        BufferedWriter(FileIO(1, "w", closefd=False)), encoding="utf-8", write_through=unbuffered
    )
    errors = BufferedWriter(FileIO(2, "w", closefd=False))
    sys.stderr = TextIOWrapper(errors, encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _run(module: str) -> int:
    """The exit code of the module, as an interpreter would give it."""
    spec = find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    started = f"{module}.__main__" if is_package else module
    for name in {started, *COMMANDS}:  # `targen VERB` runs another one than its own
        sys.modules.pop(name, None)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    address, sys.executable = sys.argv[1:]  # what imports it now starts processes as quickly
    from targen.runtime.cli import compose
    from targen.text.normalise import is_form_of
    from tests.support.composed import parsed_once

    installed = [] if find_spec("deepspeed") is None else ["deepspeed"]
    for name in (*LIBRARIES.split(", "), *COMMANDS, *installed):
        __import__(name.strip())
    with parsed_once():
        compose(["+experiment=quickstart"])
        is_form_of("words", "place")  # reads the dictionaries
        gc.freeze()
        command = _serve(address)
        _become(command)
        code = _run(command["module"])
    threading._shutdown()  # waits for threads
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # to free what these libraries hold would take seconds
