"""Stands for the interpreter: a command of ours is run by the server of warm_start, everything else by the interpreter itself.

Arguments: the server's socket, the interpreter, its variables of READ_AT_START as JSON, then what is typed after `python`. It
imports little, so that it starts quickly.
"""

import json
import os
import signal
import socket
import sys

OURS = ("targen", "train", "eval", "slurm", "tests", "accelerate")
PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
# Prefixes of variables that a fork would read too late. MALLOC_ is left out: it changes only speed.
READ_AT_START = ("PYTHON", "OMP_", "HF_HOME", "HF_HUB_", "HF_ENDPOINT", "HF_DATASETS_")
APPLIED = ("PYTHONPATH", "PYTHONSAFEPATH", "PYTHONUNBUFFERED")  # by the fork itself
LENGTH = 8  # bytes of the hexadecimal length of a command's JSON


def read_at_start() -> dict[str, str]:
    """The variables that must be the same in client and server; PYTHON itself is read by our shell scripts only."""
    others = (*APPLIED, "PYTHON")
    return {name: value for name, value in os.environ.items() if name.startswith(READ_AT_START) and name not in others}


def _exit_code(address: str, module: str, arguments: list[str], unbuffered: bool) -> int:
    """The exit code of the command, negative: the signal that ended it. Signals that arrive meanwhile are passed on."""
    command = {"module": module, "arguments": arguments, "cwd": os.getcwd(), "unbuffered": unbuffered}
    message = json.dumps(command | {"environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"%0*x" % (LENGTH, len(message))], [0, 1, 2])
        server.sendall(message)
        for number in PASSED_ON:
            signal.signal(number, lambda received, _: server.sendall(b"%d\n" % received))
        with server.makefile() as answer:
            return int(answer.readline() or -signal.SIGKILL)


def end(code: int) -> None:
    """Ends this process with the exit code, or by the signal if it is negative."""
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    address, python, variables, *typed = sys.argv[1:]
    match typed[1:] if typed[:1] == ["-u"] else typed:
        case ["-m", module, *arguments] if module.partition(".")[0] in OURS and read_at_start() == json.loads(
            variables
        ):
            end(_exit_code(address, module, arguments, typed[0] == "-u"))
    os.execv(python, [python, *typed])


if __name__ == "__main__":
    main()
