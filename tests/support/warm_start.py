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
import shlex
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

from tests.support.warm_python import LENGTH, end, read_at_start

LIBRARIES = (
    "accelerate.commands.launch, aiohttp, datasets, hydra.core.plugins, jinja2, matplotlib.pyplot, pandas, peft, pydantic, scipy.stats,"
    " sklearn.feature_extraction.text, sklearn.linear_model, sklearn.metrics, spacy, torch, torch.distributed.run, transformers.trainer"
)
COMMANDS = ("targen.generate", "targen.merge", "targen.run", "train.run", "eval.run", "eval.analyze", "eval.report")
READY = "ready\n"
CLIENT = Path(__file__).with_name("warm_python.py")


class WarmStart:
    """Runs commands. The process that forks starts with the first one."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)  # as the session found it, before any test changes it
        self._read_at_start = json.dumps(read_at_start())
        self._server: subprocess.Popen[str] | None = None
        self._folder = TemporaryDirectory(prefix="targen-")
        self._starting = threading.Lock()

    def python(self) -> str:
        """What stands for the interpreter in a command line."""
        script, address = Path(self._folder.name) / "python", f"{self._folder.name}/socket"
        with self._starting:
            if self._server is None:
                client = [sys.executable, "-ISE", str(CLIENT), address, sys.executable, self._read_at_start]
                script.write_text(f'#!/bin/sh\nexec {shlex.join(client)} "$@"\n', encoding="utf-8")
                script.chmod(0o700)
                server = subprocess.Popen(
                    [sys.executable, "-m", __name__, address, str(script)],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=self._environment,
                )  # fmt: skip
                assert server.stdout is not None
                assert server.stdout.readline() == READY
                self._server = server
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal: pytest ends this process
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        sys.stdout.write(READY)
        sys.stdout.flush()
        while True:
            if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
                _kill(psutil.Process().children(recursive=True))
                os._exit(0)
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    length, streams, _, _ = socket.recv_fds(connection, LENGTH, 3)
    if not length:
        os._exit(0)  # the client was killed
    command: dict[str, Any] = json.loads(connection.recv(int(length, 16), socket.MSG_WAITALL))
    if child := os.fork():
        for stream in streams:
            os.close(stream)
        _attend(connection, child)
    connection.close()
    os.setpgid(0, 0)  # signals come through the client only
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return command | {"streams": streams}


def _attend(connection: socket.socket, child: int) -> None:
    """Gives the client the exit code of the child."""
    threading.Thread(target=_pass_on, args=(connection, child), daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):  # the client was killed
        connection.sendall(b"%d\n" % code)
    os._exit(0)


def _pass_on(connection: socket.socket, child: int) -> None:
    """Gives the child the signals that its client receives; kills it, and what it has started, when the client is killed."""
    with suppress(ConnectionError, ProcessLookupError):
        while received := connection.recv(1000):
            for number in received.split():
                os.kill(child, int(number))
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(child)
        _kill([*process.children(recursive=True), process])


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


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
    output, errors = (_output(number, unbuffered) for number in (1, 2))
    sys.stdout = TextIOWrapper(output, encoding="utf-8", write_through=unbuffered)
    sys.stderr = TextIOWrapper(
        errors, encoding="utf-8", errors="backslashreplace", line_buffering=True, write_through=unbuffered
    )


def _output(number: int, unbuffered: bool) -> Any:
    stream = FileIO(number, "w", closefd=False)
    return stream if unbuffered else BufferedWriter(stream)


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
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    address, sys.executable = sys.argv[1:]  # what imports it now starts processes as quickly
    from targen.runtime.cli import compose
    from targen.text.normalise import is_form_of
    from tests.support.composed import parsed_once

    for name in (*LIBRARIES.split(", "), *COMMANDS):
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
    end(code)  # at once: to free what these libraries hold would take seconds
