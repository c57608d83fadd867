"""A grid as sbatch texts: held against files, cut into arrays, refused in one line before anything is submitted."""

import importlib.util
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from slurm.jobs import Job, JobPaths, jobs, whole_grid
from slurm.status import array_tasks, parts_to_submit, status
from slurm.submit import PlannedSubmission, check, dry_run_text, grid_json, plan
from slurm.worker import commands
from targen.config.groups.cluster import JOBS, memory_bytes, memory_share, time_seconds
from targen.config.rules.rule import broken_rules
from targen.config.rules.submission import SUBMISSION_RULES
from targen.runtime.command_line.verbs import VERBS
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, PROJECT, command, settings
from tests.support.small_data import tiny_overrides

GOLDEN = PROJECT / "tests" / "slurm" / "golden"
PATHS = JobPaths(
    Path("/home/me/it's mine"), Path("/opt/targen"), "/opt/venv/bin/python", Path("/scratch/runs/100% $HOME/slurm/001")
)
GRIDS = {
    "small": ("task=[cb,copa]", "seeds=[0,1]"),
    "large": (
        "+experiment=superglue_flant5",
        "task=[cb,copa]",
        "seeds=[0]",
        "arms=[none,original]",
        "cluster=large",
        "cluster.shards=1",
        "train.launch=ddp",
        "cluster.train.nodes=2",
        "cluster.train.gpus=4",
        "cluster.container='apptainer exec --nv /images/targen.sif'",
        "cluster.train.options=['--constraint=a100']",
    ),
    "whole_nodes": (
        "+experiment=superglue_flant5",
        "task=[cb,copa]",
        "seeds=[0,1,2]",
        "cluster=large",
        "cluster.per_node=8",
        "cluster.evaluate.gpus=2",
        "eval.launch=ddp",
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_texts_and_the_map_are_those_of_the_golden_file(name: str) -> None:
    run = settings(*GRIDS[name])
    planned = jobs(whole_grid(run), 1001, None, run.cluster.side_by_side)
    paths = PATHS if run.cluster.container is None else replace(PATHS, python="python3")
    text = dry_run_text(PlannedSubmission(run, paths, {}, planned))
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("TARGEN_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", GRIDS)
def test_every_text_is_one_that_bash_reads(name: str) -> None:
    parts = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8").split("\n# ")[:-1]
    assert len(parts) == {"small": 6, "large": 5, "whole_nodes": 6}[name]
    for part in parts:
        script = part.split("\n", 1)[1]
        assert script.startswith("#!/bin/bash\n#SBATCH --job-name=")
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def parts(job: Job) -> tuple[str, ...]:
    """What the array tasks of a job run, one part each."""
    return tuple(name for (name,) in job.array_tasks)


def test_an_array_that_is_too_long_becomes_several_and_scores_follow_their_cells() -> None:
    cells = tuple(f"cell{number}" for number in range(7))
    planned = jobs({"generate": ("0",), "train": cells, "evaluate": (*cells, "as-it-is"), "report": ("report",)}, 3)
    assert [(job.name, parts(job)) for job in planned] == [
        ("generate", ("0",)),
        ("train-1", cells[:3]), ("train-2", cells[3:6]), ("train-3", cells[6:]),
        ("evaluate-1", cells[:3]), ("evaluate-2", cells[3:6]), ("evaluate-3", cells[6:]),
        ("evaluate-only", ("as-it-is",)), ("report", ("report",)),
    ]  # fmt: skip
    after = {job.name: job.after for job in planned}
    assert after["train-2"] == after["evaluate-only"] == (("afterok", "generate"),)
    assert after["evaluate-2"] == (("aftercorr", "train-2"),)
    names = ("evaluate-1", "evaluate-2", "evaluate-3", "evaluate-only")
    assert after["report"] == tuple(("afterany", name) for name in names)


def test_what_is_missing_waits_for_what_is_in_the_queue_already() -> None:
    queued = {"contexts": ("99",), "generate": ("100_0",), "evaluate": ("300",)}
    missing = {"generate": ("1",), "merge": ("merge",), "train": ("a",), "evaluate": ("a", "b"), "report": ("report",)}
    planned = {job.name: job for job in jobs(missing, 1001, queued)}
    assert planned["generate"].after == (("afterok", "99"),)
    assert planned["merge"].after == (("afterok", "generate"), ("afterok", "100_0"))
    assert planned["train"].after == (("afterok", "merge"),)
    assert parts(planned["evaluate"]) == ("a",) and parts(planned["evaluate-only"]) == ("b",)
    assert planned["report"].after[-1] == ("afterany", "300")
    alone = jobs({"evaluate": ("a",)}, 1001)
    assert [(job.name, job.after) for job in alone] == [("evaluate", ())]


@pytest.mark.parametrize(
    ("time", "seconds"),
    [("30", 1800), ("1:30", 90), ("8:00:00", 28800), ("2-0", 172800), ("1-2:30", 95400), ("1-2:30:05", 95405)],
)
def test_a_time_is_read_as_sbatch_reads_it(time: str, seconds: int) -> None:
    assert time_seconds(time) == seconds


@pytest.mark.parametrize(
    ("memory", "size"), [("2048K", 2**21), ("3", 3 * 2**20), ("1200M", 1200 * 2**20), ("8g", 2**33), ("1TB", 2**40)]
)
def test_memory_is_read_as_sbatch_reads_it(memory: str, size: int) -> None:
    assert memory_bytes(memory) == size


WRONG = {
    "time": (["cluster.train.time=15"], "cluster.train.time: got 15, expected more than one checkpoint interval"),
    "warn": (["cluster.report.time=2"], "cluster.report.time: got 2, expected more than the 180 s of cluster.warn"),
    "gpus": (
        ["generator=llama31_70b", "cluster.generate.gpus=2", "cluster.merge.gpus=4"],
        "cluster.generate.gpus: got 2, expected 4, over which generator.engine spreads",
    ),
    "merge": (
        ["generator=llama31_8b", "cluster.merge.gpus=0"],
        "cluster.merge.gpus: got 0, expected 1, since the merge asks the generator for replacements",
    ),
    "nodes": (["cluster.train.nodes=2"], "cluster.train.nodes: got 2 without train.launch, expected 1"),
    "cell": (["cell=minilm-single-cb-original-s0"], "cell: got minilm-single-cb-original-s0 for a whole grid"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_go_well_on_a_cluster_is_said_before_it_is_submitted(case: str) -> None:
    overrides, message = WRONG[case]
    with pytest.raises(UserError) as error:
        check(settings("task=[cb]", *overrides))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_job_gets_the_share_of_the_node_that_goes_with_its_gpus_and_a_packed_one_that_of_all_its_cells() -> None:
    run = settings("task=[cb]", "cluster=large", "cluster.train.gpus=4", "train.launch=ddp", "cluster.per_node=8")
    assert [(run.cluster.of(job).cpus, run.cluster.of(job).memory) for job in ("train", "report")] == [
        (64, "480G"), (4, "16G"),
    ]  # fmt: skip
    small = settings("task=[cb]", "cluster=small", "cluster.train.gpus=8", "train.launch=ddp", "cluster.merge.gpus=0")
    assert [(small.cluster.of(job).cpus, small.cluster.of(job).memory) for job in JOBS] == [
        (8, "64G"), (8, "64G"), (8, "64G"), (64, "512G"), (8, "64G"), (2, "8G"),
    ]  # fmt: skip
    assert (
        settings("cluster=small", "cluster.train.gpus=4", "cluster.train.memory=90G").cluster.of("train").memory
        == "90G"
    )
    assert [run.cluster.side_by_side(job) for job in JOBS] == [1, 8, 1, 2, 8, 1]
    assert settings("cluster=large", "cluster.merge.cpus=3").cluster.of("merge").cpus == 3
    assert [memory_share("1000G", 3, 8), memory_share("960G", 3, 8), memory_share("1200M", 2), memory_share("0", 8)] == [
        "375G", "360G", "2400M", "0",
    ]  # fmt: skip
    assert [memory_share("100G", 1, 8), memory_share("1T", 1, 8), memory_share("7", 1, 2)] == ["12800M", "131072M", "3"]


def test_cells_that_are_trained_side_by_side_are_scored_even_if_one_of_them_fails() -> None:
    cells = tuple(f"cell{number}" for number in range(5))
    grid = {"contexts": ("contexts",), "generate": ("0", "1"), "merge": ("merge",), "train": cells, "evaluate": cells}
    planned = jobs(grid, 1001, None, lambda job: 2 if job != "merge" else 1)
    assert [(job.name, job.array_tasks) for job in planned] == [
        ("contexts", (("contexts",),)), ("generate", (("0", "1"),)), ("merge", (("merge",),)),
        ("train", (cells[:2], cells[2:4], cells[4:])), ("evaluate", (cells[:2], cells[2:4], cells[4:])),
    ]  # fmt: skip
    assert [job.after for job in planned] == [
        (), (("afterok", "contexts"),), (("afterok", "generate"),), (("afterok", "merge"),), (("afterany", "train"),),
    ]  # fmt: skip


def test_where_nothing_is_merged_or_asked_of_a_gpu_the_merge_needs_none() -> None:
    for override in ("cluster.shards=1", "phases=[train]", "generator=recorded"):
        assert broken_rules(SUBMISSION_RULES, settings("generator=llama31_8b", "cluster.merge.gpus=0", override)) == []


def test_a_step_or_no_interval_needs_no_longer_time() -> None:
    for interval in ("200", "null", "5m"):
        check(settings("task=[cb]", "cluster.train.time=15", f"train.save_every={interval}"))


@pytest.mark.parametrize("value", ["a b", "x\\ny", "'a;b'", "'$(x)'"])
def test_a_name_that_could_be_a_command_is_none(value: str) -> None:
    with pytest.raises(UserError, match=r"cluster\.partition: got "):
        settings(f"cluster.partition={value}")


def test_without_slurm_it_is_one_line_and_nothing_is_written(tmp_path: Path) -> None:
    path = os.pathsep.join([str(tmp_path), "/nowhere"])
    for arguments in ([], ["--dry-run"]):
        done = command("slurm.submit", *arguments, "task=[cb]", f"run.dir={tmp_path / 'run'}", PATH=path)
        assert not (tmp_path / "run").exists()
        if arguments:
            assert done.returncode == 0 and "#SBATCH --array=0-1" in done.stdout
        else:
            (line,) = done.stderr.splitlines()
            assert done.returncode == 2 and line.startswith("error: slurm: sbatch is not on the PATH, expected a login")


def test_a_dry_run_needs_no_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "vllm" else find_spec(name, *more)
    )
    run = settings("task=[cb]", "generator=llama31_8b")
    check(run, is_dry_run=True)
    with pytest.raises(UserError, match="generator=vllm: the package vllm is not installed"):
        check(run)


def test_a_grid_is_planned_around_what_is_done(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "seeds=[0,1]", "phases=[train,evaluate,report]"))
    first, second = (cell for cell in whole_grid(run)["train"])
    folder = run.paths.model(first)
    folder.mkdir(parents=True)
    (folder / "done.json").write_text("{}")
    planned = plan(run, ["x"], 1001, None)
    assert [(job.name, parts(job)) for job in planned.jobs] == [
        ("train", (second,)), ("evaluate", (second,)), ("evaluate-only", (first,)), ("report", ("report",)),
    ]  # fmt: skip
    assert planned.grid["whole"]["train"] == [first, second]
    assert planned.paths.folder == run.paths.root / "slurm" / "001"
    run.paths.cell_scores(first).parent.mkdir(parents=True)
    run.paths.cell_scores(first).write_text(
        json.dumps({"cell": first, "task": "rte", "metric": "accuracy", "benchmark": "superglue"})
    )
    states = {(task.job_name, task.name): task.state for task in array_tasks(run.paths, grid_json(run, []), None)}
    assert states == {
        ("train", first): "done", ("train", second): "missing",
        ("evaluate", first): "done", ("evaluate", second): "missing", ("report", "report"): "missing",
    }  # fmt: skip


FAKE_SLURM = """#!/bin/bash
# Writes down what it is called with; squeue says what $STATE/queue says.
echo "$(basename "$0") $*" >> "$STATE/calls"
case "$(basename "$0")" in
  sbatch)
    if grep -q "partition=nowhere" "${@: -1}"; then
      echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1
    fi
    n=$(($(cat "$STATE/n" 2>/dev/null || echo 100) + 1)); echo "$n" > "$STATE/n"; echo "$n" ;;
  squeue) cat "$STATE/queue" 2>/dev/null || true ;;
  scontrol)
    case "$*" in
      "show config") echo "MaxArraySize = 3" ;;
      "show node --oneliner") echo "NodeName=far NodeHostName=${FAR:-$(hostname)} " ;;
    esac ;;
esac
"""


@pytest.fixture
def fake(tmp_path: Path) -> dict[str, str]:
    """SLURM's commands as scripts that note how they are called."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "scancel"):
        (folder / name).write_text(FAKE_SLURM)
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "STATE": str(tmp_path)}


def calls(tmp_path: Path, name: str) -> list[str]:
    path = tmp_path / "calls"
    return [line for line in path.read_text().splitlines() if line.startswith(name)] if path.exists() else []


def grid(tmp_path: Path, *more: str) -> list[str]:
    return [*tiny_overrides(tmp_path, "seeds=[0,1,2,3]", "phases=[train,evaluate,report]"), "cluster=tiny", *more]


def test_a_whole_grid_takes_a_handful_of_calls_and_a_second_one_submits_nothing(tmp_path: Path, fake) -> None:
    done = command("slurm.submit", *grid(tmp_path), **fake)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "slurm" / "001"
    assert json.loads((folder / "ids.json").read_text()) == {
        "train-1": "101", "train-2": "102", "evaluate-1": "103", "evaluate-2": "104", "report": "105",
    }  # fmt: skip
    submissions = calls(tmp_path, "sbatch")
    assert submissions == [
        f"sbatch --parsable --hold {folder}/train-1.sbatch",
        f"sbatch --parsable --hold {folder}/train-2.sbatch",
        f"sbatch --parsable --dependency=aftercorr:101 {folder}/evaluate-1.sbatch",
        f"sbatch --parsable --dependency=aftercorr:102 {folder}/evaluate-2.sbatch",
        f"sbatch --parsable --dependency=afterany:103,afterany:104 {folder}/report.sbatch",
    ]
    assert calls(tmp_path, "scontrol release") == ["scontrol release 101,102"]
    assert (tmp_path / "run" / "config.yaml").is_file()
    queue = [f"{id}|{index}|PENDING|Priority" for id in (101, 103) for index in range(3)]
    queue += ["102|0|RUNNING|None", "104|0|PENDING|Dependency", "105|N/A|PENDING|Dependency"]
    (tmp_path / "queue").write_text("\n".join(queue) + "\n")
    again = command("slurm.submit", *grid(tmp_path), **fake)
    assert again.returncode == 0 and "nothing to submit" in again.stderr
    assert calls(tmp_path, "sbatch") == submissions


def test_the_report_job_analyses_the_data_first_where_that_is_asked_for(tmp_path: Path) -> None:
    for phases, verbs in (
        ("[report]", ["scores", "report"]),
        ("[analyze,report]", ["scores", "analyze", "report"]),
    ):
        overrides = [*tiny_overrides(tmp_path), f"phases={phases}"]
        report = commands(grid_json(settings(*overrides), overrides), "report", "report")
        assert [command[3] for command in report] == verbs


def test_every_command_of_a_worker_is_a_verb_that_exists(tmp_path: Path) -> None:
    overrides = tiny_overrides(tmp_path, "phases=[generate,train,evaluate,analyze,report]")
    grid = grid_json(settings(*overrides), overrides)
    verbs = {
        command[3]
        for launch in (None, "ddp")
        for job_name in JOBS
        for command in commands(grid | {"launch": launch}, job_name, "0")
    }
    assert len(verbs) == 9
    assert all(importlib.util.find_spec(VERBS[verb][0]) is not None for verb in verbs)


def test_a_job_that_slurm_refuses_takes_the_others_with_it_and_slurms_words_are_passed_on(tmp_path: Path, fake) -> None:
    done = command("slurm.submit", *grid(tmp_path, "cluster.evaluate.partition=nowhere"), **fake)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and "sbatch: error: invalid partition specified: nowhere" in line
    assert calls(tmp_path, "scancel") == ["scancel 101 102"] and not calls(tmp_path, "scontrol release")
    assert not list((tmp_path / "run" / "slurm").glob("*/*"))
    assert "nothing was submitted" in command("slurm.status", str(tmp_path / "run"), **fake).stderr


def test_a_run_dir_that_only_this_machine_sees_is_refused(tmp_path: Path, fake) -> None:
    done = command("slurm.submit", *grid(tmp_path), FAR="node17", **fake)
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and "which is on a disk of" in line and "that the nodes (node17) may not see" in line
    assert not calls(tmp_path, "sbatch")
    assert command("slurm.submit", *grid(tmp_path, "cluster.shared=true"), FAR="node17", **fake).returncode == 0


def test_status_tells_the_five_states_and_what_to_do(tmp_path: Path, fake, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("slurm.submit", *grid(tmp_path), **fake).returncode == 0
    run = tmp_path / "run"
    cells = [f"tiny_encoder-single-rte-synthetic-s{seed}" for seed in range(4)]
    (run / "models" / cells[0]).mkdir(parents=True)
    (run / "models" / cells[0] / "done.json").write_text("{}")
    record = {"outcome": "failed", "error": "error: train.lr: got nonsense\x1b[31m", "failures": 3}
    (run / "slurm" / "001" / "train-1-1.json").write_text(json.dumps(record))
    (run / "slurm" / "001" / "train-1-1.log").write_text("first line\nerror: train.lr: got nonsense\x1b[31m\n")
    (run / "slurm" / "001" / "train-1-2.json").write_text(json.dumps(record | {"outcome": "running"}))
    queue = ["101|2|RUNNING|None", "102|0|PENDING|Priority", "103|0|CANCELLED|None", "105|N/A|PENDING|Dependency"]
    (tmp_path / "queue").write_text("\n".join(queue) + "\n")
    for name, value in fake.items():
        monkeypatch.setenv(name, value)
    text = status(run)
    table = {
        line.split()[0]: line.split()[1:7] for line in text.splitlines() if line.startswith(("train", "evalu", "rep"))
    }
    assert table["train"] == ["1", "1", "1", "1", "0", "4"]
    assert table["evaluate"] == ["0", "0", "0", "0", "4", "4"]
    assert table["report"] == ["0", "0", "1", "0", "0", "1"]
    assert f"failed: train {cells[1]} (101_1): error: train.lr: got nonsense?[31m" in text and "    first line" in text
    assert f"To submit the 5 that are missing or failed: slurm/resubmit.sh {run}" in text
    tasks = array_tasks(
        settings(*grid(tmp_path)).paths, json.loads((run / "slurm" / "001" / "grid.json").read_text()), []
    )
    assert parts_to_submit(tasks)["evaluate"] == tuple(cells)
    shutil.rmtree(tmp_path / "bin")
    assert "SLURM is not available here" in command("slurm.status", str(run), PATH="/nowhere").stdout


def test_what_is_resubmitted_is_what_was_lost(tmp_path: Path, fake) -> None:
    assert command("slurm.submit", *grid(tmp_path), **fake).returncode == 0
    queue = ["101|0|RUNNING|None", "103|0|PENDING|Dependency", "102|0|RUNNING|None", "104|0|PENDING|Dependency"]
    (tmp_path / "queue").write_text("\n".join([*queue, "105|N/A|PENDING|Dependency"]) + "\n")
    done = subprocess.run(
        ["bash", str(PROJECT / "slurm" / "resubmit.sh"), str(tmp_path / "run")],
        cwd=tmp_path, env=os.environ | fake, capture_output=True, text=True, check=False, timeout=LONGEST,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "run" / "slurm" / "002"
    resubmitted = json.loads((folder / "grid.json").read_text())["jobs"]
    names = [f"tiny_encoder-single-rte-synthetic-s{seed}" for seed in (1, 2)]
    assert [(job["name"], job["elements"]) for job in resubmitted] == [("train", names), ("evaluate", names)]
    assert "--dependency=aftercorr:106" in calls(tmp_path, "sbatch")[-1]
