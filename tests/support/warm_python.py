"""Stands for the interpreter: a command of ours is run by the server of warm_start, everything else by the interpreter itself.

It is copied into a script that calls `main`, and imports little, for its own start to be quick.
"""

import json
import os
import signal
import socket
import sys

OURS = ("targen", "train", "eval", "slurm", "tests", "accelerate")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
READ_AT_START = ("PYTHON", "OMP_", "HF_")  # variables that a fork would read too late
APPLIED = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED")  # by the fork itself


def _is_served(words: list[str], variables: dict[str, str]) -> bool:
    if len(words) < 2 or words[0] != "-m" or words[1].partition(".")[0] not in OURS:
        return False
    names = [name for name in {*os.environ, *variables} if name.startswith(READ_AT_START) and name not in APPLIED]
    return all(os.environ.get(name) == variables.get(name) for name in names)


def _exit_code(address: str, words: list[str], unbuffered: bool) -> int:
    """The exit code of the command, negative: the signal that ended it. Signals that arrive meanwhile are passed on."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        for number in PASSED_ON:
            signal.signal(number, lambda received, _: server.sendall(b"%d\n" % received))
        command = {"module": words[1], "arguments": words[2:], "cwd": os.getcwd(), "unbuffered": unbuffered}
        socket.send_fds(server, [b"."], [0, 1, 2])
        server.sendall(json.dumps(command | {"environment": dict(os.environ)}).encode() + b"\n")
        with server.makefile() as answer:
            return int(answer.readline() or -signal.SIGKILL)


def main(address: str, python: str, variables: dict[str, str]) -> None:
    """Runs what is typed. `address`: the server's socket, `python`: the interpreter, `variables`: READ_AT_START's of the server."""
    unbuffered = sys.argv[1:2] == ["-u"]
    words = sys.argv[2 if unbuffered else 1 :]
    if not _is_served(words, variables):
        os.execv(python, [python, *sys.argv[1:]])
    code = _exit_code(address, words, unbuffered)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
