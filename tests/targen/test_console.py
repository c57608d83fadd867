"""The console command: each verb is its module, and what lies in the current folder stays out of it."""

import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from targen import __version__
from targen.config.settings import Phase
from targen.pipeline.phases import ORDER
from targen.runtime.command_line.verbs import VERBS
from targen.runtime.subprocesses import python_command, python_path
from tests.support.commands import PROJECT, command
from tests.support.small_data import python

VERB_NAMES = [
    "run",
    "generate",
    "merge",
    "train",
    "evaluate",
    "analyze",
    "report",
    "plan",
    "status",
    "submit",
    "publish",
    "new-task",
]


def console(*arguments: str, cwd: Path | None = None) -> tuple[int, str, str]:
    done = command("targen.__main__", *arguments, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def test_every_verb_is_a_module_that_exists() -> None:
    assert set(VERB_NAMES) <= set(VERBS) and set(ORDER) == set(Phase.__args__) <= set(VERBS)
    for verb, (module, words) in VERBS.items():
        assert words and find_spec(module) is not None, verb


def test_the_help_names_every_verb_and_imports_nothing_heavy() -> None:
    code, output, _ = console("--help")
    assert code == 0 and all(f"\n  {verb:10}" in output for verb in VERBS)
    assert console() == console("-h") == (0, output, "")
    loaded = python("-c", "import sys, targen.__main__; print(sorted(sys.modules))", cwd=Path.cwd()).stdout
    assert not {"numpy", "torch", "hydra", "omegaconf", "pydantic", "yaml"} & set(loaded.split("'"))


def test_the_version_is_that_of_the_package() -> None:
    assert console("--version") == (0, f"targen {__version__}\n", "")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]


@pytest.mark.parametrize(("verb", "suggestion"), [("rnu", "Did you mean 'run'?"), ("tarin", "Did you mean 'train'?")])
def test_a_verb_that_does_not_exist_is_one_line_with_the_nearest(verb: str, suggestion: str) -> None:
    assert console(verb, "task=cb") == (2, "", f"error: targen: got {verb!r}, expected a verb. {suggestion}\n")


@pytest.mark.parametrize("verb", ["run", "analyze", "launch", "status", "publish", "fetch"])
def test_the_help_of_a_verb_says_how_it_is_typed(verb: str) -> None:
    code, output, _ = console(verb, "--help")
    assert code == 0 and f"targen {verb}" in output.splitlines()[0]
    module = "slurm/status.sh" if verb == "status" else f"python -m {VERBS[verb][0]}"
    assert command(VERBS[verb][0], "--help").stdout.split() == output.replace(f"targen {verb}", module).split()


def test_arguments_and_exit_codes_are_those_of_the_module(tmp_path: Path) -> None:
    run = f"run.dir={tmp_path / 'run'}"
    for verb, arguments in (("train", ("task=cbb", run)), ("report", ("task=cb", run)), ("status", (str(tmp_path),))):
        result = console(verb, *arguments)
        module = command(VERBS[verb][0], *arguments)
        assert result == (module.returncode, module.stdout, module.stderr.replace("slurm/submit.sh", "targen submit"))
        assert result[0] == 2


def test_plan_is_a_run_with_plan_true(tmp_path: Path) -> None:
    words = ["+experiment=quickstart", "task=cb", "phases=[generate]", f"run.dir={tmp_path / 'run'}"]
    code, output, _ = console("plan", *words)
    assert (code, output) == (0, command("targen.run", *words, "plan=true").stdout) and "calls" in output
    assert not (tmp_path / "run").exists()


def test_files_of_the_current_folder_do_not_take_the_place_of_ours(tmp_path: Path) -> None:
    for name in ("train", "eval", "slurm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was run')\n")
    variables = {**python_path(), "PYTHONPATH": f"{PROJECT}:."}  # as people set it
    for arguments in (python_command("train", "task=cbb")[1:], [str(PROJECT / "targen"), "train", "task=cbb"]):
        done = python(*arguments, cwd=tmp_path, **variables)
        assert (done.returncode, "Did you mean 'cb'?" in done.stderr) == (2, True), done.stderr


def test_our_packages_come_before_others_of_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from targen.__main__ import _project_first

    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "__init__.py").touch()
    (tmp_path / "plain").mkdir()
    monkeypatch.chdir(tmp_path)
    plain, project = str(tmp_path / "plain"), str(PROJECT)
    assert _project_first(["", plain, project]) == [plain, project, ""]
    assert _project_first([str(tmp_path), plain]) == [plain, project, str(tmp_path)]  # installed as editable
    assert _project_first([plain, project, sys.prefix]) == [plain, project, sys.prefix]
