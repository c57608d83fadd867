"""A grid on a real SLURM of two nodes, and of one that is filled with cells, with requeues, a node that goes down and a job that always fails.

Starts scripts/slurm_test_cluster.sh where CI is set (as root); skipped elsewhere. Waits for what files and squeue say.
"""

import json
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import PROJECT, WARM_START, command, files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.small_data import small_overrides
from train.grid.cells import cells

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(4000),
    pytest.mark.skipif(not os.environ.get("CI"), reason="starts a SLURM on this machine, as root: set CI=1"),
]
LIMIT = 600  # seconds that anything may take, with the tests of vLLM beside it
TASKS = ("cb", "copa")
STEPS = 300


def wait_for(what: str, condition: Callable[[], Any]) -> Any:
    """The first true value of `condition`."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"{what}: not in {LIMIT} s")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Runs a command of SLURM on a cluster of this module's own, and gives what it says."""
    folder = tmp_path_factory.mktemp("slurm")
    script = ["bash", str(PROJECT / "scripts" / "slurm_test_cluster.sh")]
    started = subprocess.run(
        [*script, "start", str(folder)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert started.returncode == 0, started.stderr
    variables = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = variables["SLURM_CONF"]

    def ask(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, env=variables, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield ask
    subprocess.run([*script, "stop", str(folder)], timeout=LIMIT, check=True)
    os.environ.pop("SLURM_CONF") if before is None else os.environ.update(SLURM_CONF=before)


class HeldAnswers:
    """Holds back a server's answers of one step until `open` is set."""

    def __init__(self, server: Any, step: str) -> None:
        self.open, self.waiting, self._lock = threading.Event(), 0, threading.Lock()
        self._server, self._step = server, step
        server.misbehave = self._hold

    def _hold(self, number: int, _: object) -> bool:
        if number and self._server.bodies[number - 1]["response_format"]["json_schema"]["name"] == self._step:
            with self._lock:
                self.waiting += 1
            self.open.wait(LIMIT)
        return False


def restarts(slurm: Callable[..., str], job: str) -> int:
    return int(slurm("scontrol", "show", "job", "--oneliner", job).partition(" Restarts=")[2].split()[0])


def job_of(root: Path, name: str, number: str = "001") -> str:
    return str(json.loads((root / "slurm" / number / "ids.json").read_text())[name])


def record(root: Path, element: str, number: str = "001") -> dict[str, Any]:
    path = root / "slurm" / number / f"{element}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def ended(slurm: Callable[..., str]) -> bool:
    return slurm("squeue", "--noheader").strip() == ""


def script(name: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    words, variables = ["bash", str(PROJECT / "slurm" / name), *arguments], os.environ | {"PYTHON": WARM_START.python()}
    return subprocess.run(words, cwd=cwd, env=variables, capture_output=True, text=True, timeout=LIMIT, check=False)


def test_a_grid_survives_requeues_a_lost_node_and_a_cell_that_always_fails(
    tmp_path: Path, serve, slurm, monkeypatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # the same sums in the same order
    server, root = serve(FakeModel(error_rate=0.1)), tmp_path / "a run, 100%"
    overrides = ["+experiment=quickstart", *small_overrides(tmp_path, tasks=TASKS)]
    overrides = [override for override in overrides if not override.startswith(("run.dir=", "train.epochs="))]
    overrides += ["generator=openai", "generator.model=fake", f"generator.base_url={server.url}"]
    overrides += ["generator.concurrency=2", "synth.size=12", "synth.contexts=4", "synth.seeds_per_context=2"]
    overrides += ["arms=[synthetic]", "model=tiny_encoder"]
    overrides += ["train.batch_size=4", f"train.epochs={STEPS // 3}", "train.save_every=10"]

    alone = command("targen.run", *overrides, f"run.dir={tmp_path / 'alone'}")
    assert alone.returncode == 0, alone.stderr
    held_answers = HeldAnswers(server, "self_correction")
    calls_alone = len(server.bodies)
    grid = [*overrides, f"run.dir='{root}'", "cluster=tiny", "cluster.max_failures=2"]
    trained = [cell.name for cell in cells(settings(*grid))]
    trap = root / "predictions" / f"{trained[1]}.mark.json"
    trap.mkdir(parents=True)  # where a file is to be written: the scoring of this cell fails, whatever starts it

    submitted = script("submit.sh", *grid, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    assert "slurm: train: job" in submitted.stderr
    generation, training, scoring = (job_of(root, name) for name in ("generate", "train", "evaluate"))

    # both shards are at work: the first is put back into the queue, the node of the second goes down
    wait_for("both shards at work", lambda: held_answers.waiting == 4)
    node = slurm("squeue", "--noheader", "--array", f"--jobs={generation}_1", "--format=%N").strip()
    slurm("scontrol", "requeue", f"{generation}_0")
    slurm("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    wait_for("both to be requeued", lambda: all(restarts(slurm, f"{generation}_{index}") == 1 for index in (0, 1)))
    held_answers.open.set()
    slurm("scontrol", "update", f"nodename={node}", "state=resume")

    # one cell in mid-training is put back by the scheduler, one is warned of its time limit
    waiting = {0: ["scontrol", "requeue"], 1: ["scancel", "--batch", "--signal=USR1"]}

    def interrupt_trained_cells() -> bool:
        for index in list(waiting):
            if list((root / "models" / trained[index]).glob("checkpoint-*/complete.json")):
                slurm(*waiting.pop(index), f"{training}_{index}")
        return not waiting

    wait_for("a checkpoint of both", interrupt_trained_cells)
    wait_for("both cells", lambda: all((root / "models" / name / "done.json").is_file() for name in trained))
    assert [restarts(slurm, f"{training}_{index}") for index in (0, 1)] == [1, 1]
    assert [record(root, f"train-{index}")["failures"] for index in (0, 1)] == [0, 0]

    # the cell that always fails is given up after its second failure, and the report is made without it
    wait_for("the end", lambda: ended(slurm))
    failed = record(root, "evaluate-1")
    assert (failed["outcome"], failed["failures"], failed["restart"]) == ("failed", 2, 1)
    assert "IsADirectoryError" in failed["error"]
    assert (root / "report" / "index.html").is_file()
    status_text = script("status.sh", str(root), cwd=tmp_path).stdout
    assert f"failed: evaluate {trained[1]} ({scoring}_1): IsADirectoryError" in status_text
    assert f"To submit the 1 that are missing or failed: slurm/resubmit.sh {shlex.quote(str(root))}" in status_text

    # mended, the one command submits what is missing and no more
    trap.rmdir()
    resubmit = script("resubmit.sh", str(root), cwd=Path("/"))
    assert resubmit.returncode == 0, resubmit.stderr
    jobs = json.loads((root / "slurm" / "002" / "grid.json").read_text())["jobs"]
    assert [(job["name"], job["elements"]) for job in jobs] == [("evaluate", [trained[1]]), ("report", ["report"])]
    wait_for("the end", lambda: ended(slurm))
    status_text = script("status.sh", str(root), cwd=tmp_path).stdout
    assert "failed: " not in status_text and "To submit" not in status_text
    assert script("resubmit.sh", str(root), cwd=tmp_path).stderr.count("nothing to submit") == 1

    # the same as one process makes it, and no answered call was asked again
    assert files(root / "synthetic") == files(tmp_path / "alone" / "synthetic")
    assert (root / "scores.jsonl").read_text() == (tmp_path / "alone" / "scores.jsonl").read_text()
    for name in trained:
        model = Path("models") / name / "model.safetensors"
        assert (root / model).read_bytes() == (tmp_path / "alone" / model).read_bytes()
    call_ids = [
        call["id"]
        for path in (root / "calls").glob("*.jsonl")
        if not path.name.startswith("canary")
        for call in lines(path)
    ]
    assert len(call_ids) == len(set(call_ids)) == calls_alone
    assert not list(root.glob("*.lock"))


def test_slurms_refusals_are_one_line_and_leave_no_job(tmp_path: Path, slurm) -> None:
    grid = [
        "+experiment=quickstart",
        *small_overrides(tmp_path),
        "arms=[synthetic]",
        "model=tiny_encoder",
        "cluster=tiny",
    ]
    refusals = {
        "cluster.partition=nowhere": "invalid partition",
        "cluster.report.partition=nowhere": "invalid partition",
    }
    for override, words in refusals.items():
        done = script("submit.sh", *grid, override, cwd=tmp_path)
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert done.returncode == 2 and words in line, done.stderr
        assert "PENDING" not in slurm("squeue", "--noheader", "--format=%T")
        assert not list((tmp_path / "run" / "slurm").glob("*/*"))


def test_two_nodes_train_one_cell_together(tmp_path: Path, slurm, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    grid = [
        "+experiment=quickstart",
        *small_overrides(tmp_path),
        "arms=[synthetic]",
        "model=tiny_encoder",
        "train.batch_size=4",
        "phases=[train]",
    ]
    grid += ["cluster=tiny", "train.launch=ddp", "cluster.train.nodes=2"]
    done = script("submit.sh", *grid, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    wait_for("the end", lambda: ended(slurm))
    root = tmp_path / "run"
    assert record(root, "train-0")["outcome"] == "done", (root / "slurm" / "001" / "train-0.log").read_text()
    (cell,) = cells(settings(*grid))
    assert (root / "models" / cell.name / "done.json").is_file()


def test_a_node_is_filled_with_cells_and_goes_on_after_a_requeue(tmp_path: Path, slurm, monkeypatch) -> None:
    """Two shards, then two cells at a time on the one node of two CPUs. One cell fails for good: the others go on."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    root = tmp_path / "run"
    grid = ["+experiment=quickstart", *small_overrides(tmp_path, tasks=("cb",))]
    grid = [override for override in grid if "epochs" not in override]
    grid += ["generator=recorded", "synth.size=12", "arms=[synthetic]", "seeds=[0,1,2]", "model=tiny_encoder"]
    grid += ["train.batch_size=4", f"train.epochs={STEPS // 3}", "train.save_every=10"]
    grid += ["cluster=tiny", "cluster.partition=whole", "cluster.per_node=2"]
    trained = [cell.name for cell in cells(settings(*grid))]
    trap = root / "models" / trained[1]
    trap.parent.mkdir(parents=True)
    trap.touch()  # where a folder is to be made
    submitted = script("submit.sh", *grid, cwd=tmp_path)
    assert submitted.returncode == 0, submitted.stderr
    training = job_of(root, "train")
    assert "NumCPUs=2" in slurm("scontrol", "show", "job", "--oneliner", training)

    wait_for("a checkpoint", lambda: list((root / "models" / trained[0]).glob("checkpoint-*/complete.json")))
    wait_for("the failure", lambda: record(root, "train-0-1").get("outcome") == "failed")
    slurm("scancel", "--batch", "--signal=USR1", f"{training}_0")
    wait_for("the end", lambda: ended(slurm))
    assert restarts(slurm, f"{training}_0") == 1
    assert [record(root, f"train-{element}")["outcome"] for element in ("0-0", "0-1", "1-0")] == [
        "done",
        "failed",
        "done",
    ]
    assert record(root, "train-0-0")["failures"] == 0
    shards = [record(root, f"generate-0-{slot}") for slot in (0, 1)]
    assert shards[0]["started"] < shards[1]["ended"] and shards[1]["started"] < shards[0]["ended"]  # at the same time
    for name, is_trained in zip(trained, (True, False, True), strict=True):
        assert (root / "models" / name / "done.json").is_file() == is_trained
        assert (root / "scores" / f"{name}.jsonl").is_file() == is_trained
    assert "File exists" in (root / "slurm" / "001" / "train-0-1.log").read_text()
    status_text = script("status.sh", str(root), cwd=tmp_path).stdout
    assert f"failed: train {trained[1]} ({training}_0): " in status_text
    assert (root / "report" / "index.html").is_file()

    trap.unlink()
    assert script("resubmit.sh", str(root), cwd=Path("/")).returncode == 0
    jobs = json.loads((root / "slurm" / "002" / "grid.json").read_text())["jobs"]
    assert [(job["name"], job["elements"]) for job in jobs] == [
        ("train", [trained[1]]), ("evaluate", [trained[1]]), ("report", ["report"]),
    ]  # fmt: skip
    wait_for("the end", lambda: ended(slurm))
    assert "failed: " not in script("status.sh", str(root), cwd=tmp_path).stdout
    assert (root / "scores" / f"{trained[1]}.jsonl").is_file()
