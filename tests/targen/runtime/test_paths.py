"""Paths as people type them, disks that fail, and files that other programs leave in the folders of a run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from targen.config.settings import Settings
from targen.dataset.publish import files_to_publish
from targen.runtime.cli import as_override, compose
from targen.runtime.errors import UserError, disk_error
from targen.runtime.paths import RunPaths, visible_paths
from tests.support.commands import LONGEST, command, settings
from train.models import checkpoints

QUICK = ("task=[cb]", "arms=[synthetic]", "phases=[generate]", "synth.size=24", "synth.learnability_rows=0")


@pytest.mark.parametrize(
    "folder", ["~/run", "a/lr=1e-4", "a/größe-日本", "a (b)", "run[1]", "a#b", "it's", 'a"b', "a\\", "a&b=c\\", "~"]
)
def test_a_run_dir_is_read_as_it_is_typed(folder: str) -> None:
    typed = as_override(f"run.dir={folder}")
    assert settings(typed).run.dir == folder.replace("~", os.environ["HOME"])
    assert as_override(typed) == typed


@pytest.mark.parametrize(
    "argument", ["task=[cb", "seeds=[0,1]", "~data.dir", "run.dir='a=b'", "-m", "foo", "a={b", "run.dir="]
)
def test_what_hydra_reads_or_what_is_no_plain_text_stays(argument: str) -> None:
    assert as_override(argument) == argument


def test_a_text_with_a_comma_is_not_taken_for_a_list() -> None:
    with pytest.raises(
        UserError, match=r"""Write a list as 'run\.dir=\[a,b\]', a text with a comma as 'run\.dir="a,b"'"""
    ):
        compose(["+experiment=quickstart", "run.dir=a,b"])
    assert settings('run.dir="a,b"').run.dir == "a,b"


def test_every_path_may_begin_with_the_home_directory() -> None:
    home = os.environ["HOME"]
    (Path(home) / "i.yaml").touch()
    run: Settings = settings(
        "generator=vllm", "generator.model=m", "generator.path='~/a'", "generator.chat_template='~/b'", "synth.seed_source=file",
        "synth.seed_dir='~/c'", "data.source=local", "data.dir='~/d'", "data.self_instruct='~/e'", "model.path='~/f'",
        "+model.tokenizer='~/g'", "train.init_from='~/h'", "train.launch='~/i.yaml'", "eval.openllm.data_dir='~/j'",
        "analysis.embedder='~/k'", "report.dir='~/l'", "run.dir='~/m'", "model.sha256=null",
    )  # fmt: skip
    paths = [
        run.generator.path, run.generator.chat_template, run.synth.seed_dir, run.data.dir, run.data.self_instruct,
        run.model.path, run.model.tokenizer, run.train.init_from, run.train.launch, run.eval.openllm.data_dir,
        run.analysis.embedder, run.report.dir, run.run.dir,
    ]  # fmt: skip
    assert [str(path).removesuffix(".yaml") for path in paths] == [f"{home}/{letter}" for letter in "abcdefghijklm"]
    assert settings("data.hub='~/x'").data.hub == f"{home}/x"


@pytest.mark.parametrize("empty", ["run.dir=", "run.dir=''", "run.dir=' '"])
def test_the_working_directory_is_no_run_by_mistake(empty: str) -> None:
    with pytest.raises(UserError, match=r"run\.dir: got ' ?', expected a folder\. Name one, or leave it out"):
        settings(empty)


def test_half_a_character_in_a_setting_is_named_by_its_key() -> None:
    for override, key in (("tasks.cb.question='so \ud83d'", "tasks.cb.question"), ("name='a\udce9'", "name")):
        with pytest.raises(UserError, match=f"^{key}: got half a character"):
            settings(override)


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    done = command("targen.generate", *QUICK, f"run.dir={tmp_path / ('a' * 300)}")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "File name too long. Choose a shorter name." in done.stderr


@pytest.mark.slow
def test_a_full_disk_is_one_line_in_every_phase_and_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing beyond it fails as on a full one."""
    run = f"run.dir={tmp_path / 'run'}"
    program = (
        "import resource, runpy, signal, sys; size = int(sys.argv[1]); sys.argv[1:2] = []\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))\n"
        "runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
    )
    for size, module in ((3, "targen.generate"), (20_000, "targen.generate"), (3, "eval.report")):
        if module == "eval.report":
            assert command("targen.generate", *QUICK, run).returncode == 0
        done = subprocess.run(
            [sys.executable, "-c", program, str(size), module, *QUICK, run],
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert (done.returncode, len(errors), "Traceback" in done.stderr) == (2, 1, False), done.stderr
        assert "Free some space, then rerun the command to resume." in errors[0]
    assert len((tmp_path / "run" / "synthetic" / "cb" / "train.jsonl").read_text().splitlines()) == 24


def test_other_errors_of_the_system_are_no_mistake_of_the_user() -> None:
    assert disk_error(ConnectionResetError(104, "reset")) is None
    assert disk_error(OSError("We could not connect to the Hub")) is None
    assert str(disk_error(PermissionError(30, "Read-only file system", "/x"))).startswith(
        "/x: Read-only file system. Make"
    )


@pytest.mark.slow
def test_names_and_messages_may_hold_any_character_whatever_the_locale(tmp_path: Path) -> None:
    for number, (locale, io) in enumerate([("C", ""), ("C", "ascii"), ("POSIX", "latin-1")]):
        run = tmp_path / f"läuf-日本-{number}"
        environment = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": io}
        done = command("targen.generate", *QUICK, f"run.dir={run}", "name='größe'", **environment)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
        assert "größe" in (run / "config.yaml").read_text(encoding="utf-8")


def leave_hidden(folder: Path) -> None:
    """What Jupyter and macOS leave in every folder that is opened with them."""
    for below in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        (below / ".DS_Store").write_bytes(b"\0\xff")
        for path in [path for path in below.iterdir() if path.is_file() and not path.name.startswith(".")]:
            (below / f"._{path.name}").write_bytes(b"\0\x05\x16\x07\0\xff")
            (below / ".ipynb_checkpoints").mkdir(exist_ok=True)
            (below / ".ipynb_checkpoints" / path.name).write_bytes(path.read_bytes())


def test_files_of_jupyter_and_macos_are_left_alone(tmp_path: Path) -> None:
    run, arguments = tmp_path / "run", [*QUICK, f"run.dir={tmp_path / 'run'}"]
    assert command("targen.generate", *arguments).returncode == 0
    names = list(files_to_publish(RunPaths(run), with_rejects=True))
    leave_hidden(run)
    (run / "synthetic" / ".ipynb_checkpoints" / "stats.json").write_text("{}")
    for module in ("targen.generate", "eval.report"):
        done = command(module, *arguments)
        assert done.returncode == 0, done.stderr
    assert list(files_to_publish(RunPaths(run), with_rejects=True)) == names
    assert [path.name for path in visible_paths(run, "*/cb/train.jsonl")] == ["train.jsonl"]


def test_a_checkpoint_stays_complete_after_a_look_with_other_programs(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint-8"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    checkpoints.mark_complete(folder, {"task": "cb"}, "none")
    leave_hidden(folder)
    assert [checkpoint.step for checkpoint in checkpoints.complete_checkpoints(tmp_path)] == [8]
    (folder / "model.safetensors").write_bytes(b"weight")
    assert checkpoints.complete_checkpoints(tmp_path) == []
    assert json.loads((folder / checkpoints.MARKER).read_text())["sharding"] == "none"
