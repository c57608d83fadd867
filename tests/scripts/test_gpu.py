"""scripts/bench/gpu.py runs from end to end with tiny shapes, goes on where it was, and needs few packages."""

import json
import os
import re
import subprocess
import sys
import venv
from contextlib import suppress
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from targen.data.original import FIXTURE
from tests.support.commands import LONGEST, PROJECT

SCRIPT = str(PROJECT / "scripts" / "bench" / "gpu.py")
GIVEN = ("torch", "transformers", "accelerate", "peft", "safetensors")  # what the machine has, with what they need


def bench(*arguments: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [python, SCRIPT, *arguments], capture_output=True, text=True, env=variables, timeout=3 * LONGEST
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_what_to_bring_along_is_listed_with_the_versions_of_the_lock() -> None:
    wheels = bench("--wheels").stdout
    assert "antlr4-python3-runtime==4.9.3" in wheels and "pydantic-core==" in wheels
    assert "bitsandbytes==" in wheels
    assert bench("--only", "trainin", "--cpu").stderr.startswith(
        "error: --only: got trainin, expected some of machine, training"
    )


def test_a_check_has_one_line_and_is_not_repeated(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    stale = [tmp_path / "scratch" / name for name in ("qlora/run", "models/llama2_7b-tiny", "models/llama31_8b-tiny")]
    for folder in stale:
        folder.mkdir(parents=True)
    arguments = ["--cpu", "--only", "0,qlora", "--out", str(out), "--scratch", str(tmp_path / "scratch")]
    assert bench(*arguments).returncode == 0
    assert [folder.exists() for folder in stale] == [False, False, True]  # what no other check of this call needs
    first, second = lines(out)
    assert (first["check"], first["status"]) == ("machine", "done")
    assert first["result"]["versions"]["installed"]["torch"] and first["result"]["bf16_tflops"] > 0
    assert (second["check"], second["status"]) == ("qlora", "skipped")
    assert bench(*arguments).stdout == ""
    assert len(lines(out)) == 2


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="deepspeed would train")
def test_a_check_of_real_shapes_is_a_process_of_its_own(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    assert bench("--only", "zero2", "--out", str(out), "--scratch", str(tmp_path / "scratch")).returncode == 0
    (line,) = lines(out)
    assert (line["shapes"], line["result"]) == ("real", {"skipped": "deepspeed is not installed"})


def test_a_budget_that_is_used_up_ends_with_the_code_to_go_on(tmp_path: Path) -> None:
    done = bench("--cpu", "--budget", "5", "--out", str(tmp_path / "lines.jsonl"))
    assert done.returncode == 85
    assert "The same command goes on." in done.stderr


def test_a_check_that_fails_is_a_line_and_stops_nothing(tmp_path: Path) -> None:
    out, scratch = tmp_path / "lines.jsonl", tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "models").write_text("no folder", encoding="utf-8")
    done = bench("--cpu", "--only", "qlora,generation", "--out", str(out), "--scratch", str(scratch))
    assert done.returncode == 0
    skipped, failed = lines(out)
    assert failed["status"] == "failed" and "NotADirectoryError" in " ".join(failed["error"])
    assert skipped["status"] == "skipped"


def with_few_packages(folder: Path, optional: bool = False) -> str:
    """An interpreter that has what the machine with the GPU has, and the wheels that the script lists as needed, or all."""
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python*/site-packages")
    listed = bench("--wheels").stdout
    listed = listed if optional else listed.partition("Optional")[0]
    names, waiting = set[str](), [*GIVEN, *re.findall(r"([\w-]+)==", listed)]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in names:
            continue
        with suppress(metadata.PackageNotFoundError):  # what another system or Python needs
            distribution = metadata.distribution(name)
            names.add(name)
            needed = map(Requirement, distribution.requires or ())
            waiting += [need.name for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
            tops = {path.parts[0] for path in distribution.files or () if path.parts[0] not in ("..", "__pycache__")}
            for top in tops:
                if not (site / top).exists():
                    (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return str(folder / "bin" / "python")


def test_a_profile_has_the_work_of_the_device_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PROJECT / "scripts" / "bench"))
    summary = import_module("gpu_checks.profiles").summary

    def event(name: str, begin: float, end: float, *, named: bool = False, cuda: bool = True) -> FunctionEvent:
        device = DeviceType.CUDA if cuda else DeviceType.CPU
        return FunctionEvent(0, name, 0, begin, end, device_type=device, is_user_annotation=named)

    kernels = [event("gemm", 0, 10), event("flash_fwd", 10, 20), event("gemm", 30, 40)]
    regions = [event("ProfilerStep#4", 0, 40, named=True), event("Optimizer.step#AdamW.step", 5, 35, named=True)]
    summarised = summary([*kernels, *regions, event("aten::mm", 0, 40, cuda=False)], False, 1)
    assert summarised == {
        "kernels_a_step": 3,
        "busy_share": 0.75,
        "largest": [["gemm", 0.6667], ["flash_fwd", 0.3333]],
        "attention": ["flash_fwd"],
    }
    with profile(activities=[ProfilerActivity.CPU]) as recorded, record_function("a region"):
        torch.ones(4, 4) @ torch.ones(4, 4)
    names = [name for name, _ in summary(recorded.events(), True, 1)["largest"]]
    assert "aten::mm" in names and "a region" not in names


@pytest.mark.slow
def test_all_checks_but_one_run_with_tiny_shapes_and_few_packages(tmp_path: Path) -> None:
    out, python = tmp_path / "lines.jsonl", with_few_packages(tmp_path / "venv")
    listed = [line.split()[1] for line in bench("--list").stdout.splitlines()]
    only = ",".join(name for name in listed if name != "compile")  # its C++ compiler alone takes as long as all others
    arguments = ["--cpu", "--only", only, "--out", str(out), "--scratch", str(tmp_path / "scratch")]
    done = bench(*arguments, python=python)
    assert done.returncode == 0, done.stderr
    by_check = {line["check"]: line for line in lines(out)}
    assert len(by_check) == len(listed) - 1 == 17
    statuses = {name: (line["status"], line.get("error")) for name, line in by_check.items()}
    skipped = {name for name, (status, _) in statuses.items() if status == "skipped"}
    assert skipped == {"qlora", "minilm", "vllm", "zero2", "zero3"}
    assert {status for name, (status, _) in statuses.items() if name not in skipped} == {"done"}, statuses
    assert set(by_check["training"]["result"]) == {"8", "16", "32", "auto"}
    assert by_check["resume"]["result"]["exit_code"] == 85
    assert by_check["resume"]["result"]["same_bytes"]
    assert by_check["scoring"]["result"]["bf16"]["record"]["changed"] >= 0
    assert by_check["lora"]["result"]["merged_apart"] < 0.1
    assert len(by_check["fsdp"]["result"]["losses"]) == 2 and "model.safetensors" in by_check["fsdp"]["result"]["files"]
    assert by_check["plain"]["result"]["ours_of_plain"] > 0
    assert by_check["start"]["result"]["seconds"][0] > 0
    assert not [path for path in (tmp_path / "scratch").iterdir() if path.name != "models" or any(path.iterdir())]


@pytest.mark.slow
def test_minilm_runs_with_the_wheels_that_are_listed_for_it(tmp_path: Path) -> None:
    out, python = tmp_path / "lines.jsonl", with_few_packages(tmp_path / "venv", optional=True)
    (tmp_path / "data" / "CB").mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / "data" / "CB" / f"{split}.jsonl").write_bytes((FIXTURE / "CB" / "val.jsonl").read_bytes())
    arguments = ["--cpu", "--only", "minilm", "--out", str(out), "--scratch", str(tmp_path / "scratch")]
    done = bench(*arguments, python=python, SUPERGLUE=str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    (line,) = lines(out)
    assert line["status"] == "done", line["error"]
    assert set(line["result"]["scores"]["cb accuracy"]) >= {"original", "synthetic"}
