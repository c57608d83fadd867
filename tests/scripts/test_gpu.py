"""scripts/bench/gpu.py runs from end to end with tiny shapes, goes on where it was, and needs few packages."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import LONGEST, PROJECT

SCRIPT = str(PROJECT / "scripts" / "bench" / "gpu.py")
WITHOUT = {
    "sklearn",
    "scipy",
    "datasets",
    "evaluate",
    "lm_eval",
    "wandb",
    "matplotlib",
    "pandas",
    "pyarrow",
    "rensa",
    "lemminflect",
}


def bench(*arguments: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(
        [python, SCRIPT, *arguments], capture_output=True, text=True, env=variables, timeout=3 * LONGEST
    )


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


def test_what_to_bring_along_is_listed_with_the_versions_of_the_lock() -> None:
    said = bench("--wheels").stdout
    assert "antlr4-python3-runtime==4.9.3" in said and "pydantic-core==" in said
    assert "bitsandbytes==" in said
    assert bench("--only", "trainin", "--cpu").stderr.startswith(
        "error: --only: got trainin, expected some of machine, training"
    )


def test_a_check_has_one_line_and_is_not_repeated(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    arguments = ["--cpu", "--only", "0,compile", "--out", str(out), "--scratch", str(tmp_path / "scratch")]
    assert bench(*arguments).returncode == 0
    first, second = lines(out)
    assert (first["check"], first["status"]) == ("machine", "done")
    assert first["result"]["versions"]["installed"]["torch"] and first["result"]["bf16_tflops"] > 0
    assert (second["check"], second["status"]) == ("compile", "skipped")
    assert bench(*arguments).stdout == ""
    assert len(lines(out)) == 2


def test_a_budget_that_is_used_up_ends_with_the_code_to_go_on(tmp_path: Path) -> None:
    done = bench("--cpu", "--budget", "5", "--out", str(tmp_path / "lines.jsonl"))
    assert done.returncode == 85
    assert "The same command goes on." in done.stderr


def test_a_check_that_fails_is_a_line_and_stops_nothing(tmp_path: Path) -> None:
    out, scratch = tmp_path / "lines.jsonl", tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "models").write_text("no folder", encoding="utf-8")
    done = bench("--cpu", "--only", "generation,compile", "--out", str(out), "--scratch", str(scratch))
    assert done.returncode == 0
    failed, other = lines(out)
    assert failed["status"] == "failed" and "NotADirectoryError" in " ".join(failed["error"])
    assert other["status"] == "skipped"


def with_few_packages(folder: Path) -> str:
    """An interpreter that has what this one has, without the packages that a bare machine lacks."""
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (installed,) = {Path(path) for path in sys.path if path.endswith("site-packages")}
    for path in installed.iterdir():
        if path.name.partition("-")[0].partition(".")[0].replace("scikit_learn", "sklearn").lower() not in WITHOUT:
            (site / path.name).symlink_to(path)
    return str(folder / "bin" / "python")


@pytest.mark.slow
def test_all_checks_run_with_tiny_shapes_and_few_packages(tmp_path: Path) -> None:
    out, python = tmp_path / "lines.jsonl", with_few_packages(tmp_path / "venv")
    done = bench("--cpu", "--out", str(out), "--scratch", str(tmp_path / "scratch"), python=python)
    assert done.returncode == 0, done.stderr
    found = {line["check"]: line for line in lines(out)}
    told = {name: (line["status"], line.get("error")) for name, line in found.items()}
    skipped = {name for name, (status, _) in told.items() if status == "skipped"}
    assert skipped >= {"compile", "qlora", "fsdp", "minilm", "vllm"}
    assert {status for name, (status, _) in told.items() if name not in skipped} == {"done"}, told
    assert set(found["training"]["result"]) == {"8", "16", "32", "auto"}
    assert found["resume"]["result"]["exit_code"] == 85
    assert found["resume"]["result"]["same_bytes"]
    assert found["scoring"]["result"]["bf16"]["record"]["changed"] >= 0
    assert found["lora"]["result"]["merged_apart"] < 0.1
