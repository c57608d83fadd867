"""Hydra's flags do what its users know, on every command, and nothing of it is lost on the way to the phases."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from targen import __version__
from targen.runtime.cli import REQUEUE, compose
from targen.runtime.command_line.completion import completion_script
from targen.runtime.command_line.flags import flags_and_overrides
from targen.runtime.command_line.sweep import check_run_dirs, job_overrides
from targen.runtime.command_line.verbs import VERBS
from targen.runtime.errors import UserError
from tests.support.commands import LONGEST, PROJECT, command, files, settings

QUICK = (
    "+experiment=quickstart",
    "task=[cb]",
    "arms=[synthetic]",
    "phases=[generate]",
    "synth.size=24",
    "synth.learnability_rows=0",
)


def printed(*arguments: str, module: str = "targen.run", cwd: Path | None = None) -> str:
    done = command(module, *arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_the_configuration_is_shown_by_its_parts_and_resolved(tmp_path: Path) -> None:
    """Before and after the overrides, as people type it."""
    job = printed("synth.size=4", "--cfg", "job", "task=cb")
    assert "\nsynth:\n  size: 4\n" in job and "folder: CB" in job and "hydra:" not in job
    assert printed("-c", "job", "-p", "synth.size", "synth.size=4") == "4\n"
    assert printed("--cfg=job", "--package=run", "run.dir=a") == "# @package run\ndir: a\n"
    assert "dir: outputs/${name}" in printed("--cfg", "job", "-p", "run", "name=x")
    assert printed("--cfg", "job", "-p", "run", "--resolve", "name=x") == "# @package run\ndir: outputs/x\n"
    assert printed("--cfg", "hydra").startswith("hydra:\n")
    assert {"hydra:", "synth:"} <= set(printed("--cfg", "all").splitlines())
    assert printed("--cfg", "job", "-p", "seed", "seed=3", module="eval.report", cwd=tmp_path) == "3\n"
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--info"], "Installed Hydra Plugins"),
        (["task=cb", "-i", "searchpath"], "Config search path"),
        (["--info=defaults", "task=cb"], "| task/cb "),
        (["--info", "defaults-tree"], "model: minilm"),
        (["--info=config"], "\nwandb:"),
        (["--info=plugins"], "BashCompletion"),
        (["--hydra-help"], "== Flags =="),
    ],
)
def test_what_hydra_knows_is_on_stdout_once(arguments: list[str], words: str) -> None:
    assert printed(*arguments).count(words) == 1


def test_version_and_help_are_ours() -> None:
    for module in ("targen.run", "train.run", "eval.report"):
        assert printed("--version", module=module) == f"targen {__version__}\n"
    assert "+experiment=" in printed("-h")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--multirn"], "--multirn: no such option. Did you mean '--multirun'?"),
        (["--cfg", "jobs"], "--cfg/-c: invalid choice: 'jobs'"),
        (["--cfg"], "--cfg/-c: expected one argument. See --help."),
        (["-m", "--cfg", "job"], "--multirun: got it with --cfg, expected one of them. Leave one out."),
        (["--resolve"], "--resolve: got it alone, expected it with --cfg job."),
        (["--config-name", "nope"], "--config-name: got 'nope', expected the name of a file of conf/ or of your --config-dir"),
        (["-cp", "/x"], "--config-path: got /x, expected our own conf/ with folders of yours beside it. Name them: --config-dir."),
        (["--experimental-rerun", "a"], "--experimental-rerun: got a, expected the overrides of the run."),
        (["--config-dir", "nowhere"], "--config-dir: got nowhere, expected a folder."),
        (["--cfg", "job", "synth.sise=3"], "synth.sise: no such key. Did you mean 'synth.size'?"),
        (["-sc", "install=fish"], "-sc: got install=fish, expected install=bash or uninstall=bash."),
        (["-m", "seed=0,1", "synth.sise=3", "run.dir=${seed}"], "synth.sise: no such key."),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(arguments: list[str], words: str) -> None:
    done = command("targen.run", *arguments)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert words in done.stderr


def test_a_configuration_of_the_users_own_reaches_every_phase(tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "mine.yaml").write_text("defaults: [config, _self_]\nseeds: [7]\n")
    (tmp_path / "own" / "model" / "small.yaml").write_text("defaults: [tiny_encoder, _self_]\nname: small\n")
    own_config = ("--config-dir", "own", "-cn", "mine")
    assert printed(*own_config, "--cfg", "job", "-p", "seeds", cwd=tmp_path) == "# @package seeds\n- 7\n"
    assert printed(*own_config, "model=small", "--cfg", "job", "-p", "model.name", cwd=tmp_path) == "small\n"
    done = command("targen.run", *own_config, *QUICK, "model=small", "run.dir=run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = (tmp_path / "run" / "config.yaml").read_text()
    assert "\nseeds:\n- 7\n" in config and "\n  name: small\n" in config


# --- sweeps ---


def run_dirs(*jobs: list[str]) -> None:
    check_run_dirs([["+experiment=quickstart", "task=cb", *job] for job in jobs], compose)


def test_jobs_that_share_a_folder_are_refused_with_what_to_type() -> None:
    with pytest.raises(UserError) as caught:
        run_dirs(["seed=0", "run.dir=a"], ["seed=1", "run.dir=a"])
    assert str(caught.value) == (
        "run.dir: got a for job 0 (seed=0) and job 1 (seed=1) of the sweep, expected a folder for each. Add "
        "'run.dir=a/${seed}', or take the sweep's own folders: 'run.dir=${hydra:runtime.output_dir}'."
    )
    for first_job, second_job, name in (
        (["model=minilm", "seed=0"], ["model=tiny_encoder", "seed=1"], "${model.name}-${seed}"),
        (["arms=[synthetic]"], ["arms=[original]"], "${hydra:job.num}"),
    ):
        with pytest.raises(UserError) as caught:
            run_dirs(first_job, second_job)
        assert f"'run.dir=outputs/quickstart/{name}'" in str(caught.value)


def test_jobs_with_a_folder_each_and_parts_of_one_run_are_not_refused() -> None:
    run_dirs(["seed=0", "run.dir=a/${seed}"], ["seed=1", "run.dir=a/${seed}"])
    run_dirs(["seed=0", "run.dir=${hydra:job.num}"], ["seed=1", "run.dir=${hydra:job.num}"])
    run_dirs(["shard.index=0", "shard.count=2"], ["shard.index=1", "shard.count=2"])
    run_dirs(["seed=0", "name=a"], ["seed=0", "name=b"])


def test_a_shared_folder_is_refused_before_the_first_job(tmp_path: Path) -> None:
    done = command("targen.run", "-m", *QUICK, "seed=0,1", "run.dir=run", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Add 'run.dir=run/${seed}'" in done.stderr and files(tmp_path) == {}


def test_each_job_of_a_sweep_is_a_run_below_the_current_folder(tmp_path: Path) -> None:
    done = command(
        "targen.run", *QUICK, "-m", "train.epochs=1,2", "run.dir=${hydra:runtime.output_dir}/r", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    runs = [tmp_path / "outputs" / "multirun" / job / "r" for job in "01"]
    for epochs, run in enumerate(runs, start=1):
        assert f"\n  epochs: {epochs}\n" in (run / "config.yaml").read_text()
    assert all((run / "synthetic" / "cb" / "train.jsonl").is_file() for run in runs)


def test_a_job_that_fails_gives_its_exit_code_and_the_others_run(tmp_path: Path) -> None:
    sizes = "synth.size=0,24"
    done = command(
        "targen.generate", "-m", *QUICK, sizes, "run.dir=a/${synth.size}", "data.source=fixture", cwd=tmp_path
    )
    assert done.returncode == 2 and "error: synth.size: got 0" in done.stderr
    last_line = done.stderr.splitlines()[-1]
    assert last_line == "sweep: job 0 (synth.size=0) ended with exit code 2"
    assert (tmp_path / "a" / "24" / "synthetic" / "cb" / "train.jsonl").is_file()


def test_a_sweep_that_is_told_to_stop_starts_no_further_job(tmp_path: Path) -> None:
    script = (
        "import sys; from targen.runtime import cli; from targen.runtime.signals import Stopped\n"
        "def phase(cfg, overrides): print(cfg.seed); raise Stopped('SIGTERM')\n"
        "cli.main('targen.run', 'stops', phase)"
    )
    words = [sys.executable, "-c", script, "-m", "task=cb", "seed=3,4", "run.dir=${seed}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST)
    assert (done.returncode, done.stdout) == (REQUEUE, "3\n"), done.stderr


def test_a_run_dir_by_the_clock_is_the_same_in_every_phase() -> None:
    cfg = settings_free("run.dir=a/${now:%H-%M-%S}", "seed=1")
    assert job_overrides(cfg, ["seed=1", "run.dir=a/${now:%H-%M-%S}"]) == ["seed=1", f"run.dir='{cfg.run.dir}'"]
    assert job_overrides(settings_free("run.dir=a/${seed}"), ["run.dir=a/${seed}"]) == ["run.dir=a/${seed}"]
    assert settings("run.dir='~/x'").run.dir == f"{os.environ['HOME']}/x"


def settings_free(*overrides: str):
    return compose(["+experiment=quickstart", "task=cb", *overrides])


# --- completion ---


def test_bash_completes_verbs_and_what_hydra_knows(tmp_path: Path) -> None:
    (tmp_path / "targen").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m targen "$@"\n')
    (tmp_path / "targen").chmod(0o755)
    lines = ["targen tra", "targen nix", "targen train ta", "targen run synth.size=4 model=tiny_e"]
    program = (
        'eval "$(targen -sc install=bash)"; compopt() { :; }; while read -r COMP_LINE; do COMP_POINT=${#COMP_LINE}; '
    )
    program += (
        'COMPREPLY=(); _targen; echo "${COMPREPLY[*]}"; done; eval "$(targen -sc uninstall=bash)"; complete -p targen'
    )
    done = subprocess.run(
        ["bash", "-c", program], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=LONGEST,
        env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["train", "", "task= task_dir= tasks.", "model=tiny_encoder"], done
    assert "no completion" in done.stderr
    script = completion_script(["install=bash"])
    assert script == printed("-sc", "install=bash") and " ".join(VERBS) in script


def test_flags_and_overrides_may_be_mixed() -> None:
    flags, overrides = flags_and_overrides(["a=1", "--cfg", "job", "~b", "-cn", "x", "+c=2", "-p", "run"])
    assert (flags.cfg, flags.package, overrides) == ("job", "run", ["--config-name=x", "a=1", "~b", "+c=2"])
