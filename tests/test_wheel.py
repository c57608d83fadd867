"""The wheel: it has what the code reads, and works from any folder, even beside files called train.py or eval.py."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from targen import __version__
from tests.support.commands import LONGEST, PROJECT, command, lines

pytestmark = pytest.mark.slow
FOLDERS = ("targen", "train", "eval", "slurm", "conf")
TOOL_FOLDERS = {"__pycache__", ".mypy_cache", ".ruff_cache"}


def output_of(*words: object, cwd: Path, **environment: str) -> str:
    """What a process prints; it must end with exit code 0."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=variables, capture_output=True, text=True, timeout=LONGEST, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps", "--no-build-isolation")
    output_of(*pip, "--wheel-dir", folder, PROJECT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def scripts(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a new environment with the wheel.

    Its libraries are those of this environment, by a line in a .pth file: torch is not installed again, and an editable
    install of the project is not seen, since Python reads no .pth files of such a folder.
    """
    folder = tmp_path_factory.mktemp("environment")
    output_of(sys.executable, "-m", "venv", folder, cwd=folder)
    python = folder / "bin" / "python"
    libraries = output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(libraries) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = (python, "-m", "pip", "--disable-pip-version-check")
    output_of(*pip, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    return folder / "bin"


def shipped() -> set[str]:
    """Names in the wheel of all files of the packages, of conf/, and of the paper's numbers."""
    paths = [path.relative_to(PROJECT) for folder in FOLDERS for path in (PROJECT / folder).rglob("*")]
    files = {str(path) for path in paths if (PROJECT / path).is_file() and not TOOL_FOLDERS & set(path.parts)}
    return {f"targen/{name}" if name.startswith("conf/") else name for name in files} | {"targen/results/paper.yaml"}


def test_the_wheel_has_all_files_of_the_packages_and_of_conf_and_no_others(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        described = {Path(name).name for name in archive.namelist()} - {Path(name).name for name in names}
    assert names == shipped() and len(names) > 350
    samples = {
        "targen/conf/config.yaml",
        "targen/recordings/superglue/CARD.md",
        "eval/superglue.py",
        "eval/fixture/CB/val.jsonl",
    }
    assert samples <= names and "entry_points.txt" in described
    assert (PROJECT / "LICENSE").exists() == ("LICENSE" in described)


def test_the_source_archive_has_what_the_tests_need(tmp_path: Path) -> None:
    build = "import os, sys; from hatchling.build import build_sdist; os.chdir(sys.argv[1]); build_sdist(sys.argv[2])"
    output_of(sys.executable, "-c", build, PROJECT, tmp_path, cwd=tmp_path)
    with tarfile.open(tmp_path / f"targen-{__version__}.tar.gz") as archive:
        top = {Path(name).parts[1] for name in archive.getnames()}
    assert {*FOLDERS, "docs", "results", "scripts", "tests", "pyproject.toml", "requirements-cpu.lock"} <= top
    assert not {"outputs", ".venv", ".git"} & top


def test_the_command_of_an_installed_wheel_works_beside_files_of_the_same_names(scripts: Path, tmp_path: Path) -> None:
    for name in ("train", "eval", "slurm"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user was run')\n")
    targen = scripts / "targen"
    assert output_of(targen, "--version", cwd=tmp_path) == f"targen {__version__}\n"
    tiny = ("+experiment=quickstart", "task=cb", "arms=[synthetic]", "model=tiny_encoder", "data.source=fixture", "train.max_rows=4",
            "phases=[generate,train,evaluate,report]", "synth.learnability_rows=0", "run.dir=run")  # fmt: skip
    plan = output_of(targen, "plan", *tiny, cwd=tmp_path)
    assert "calls" in plan and not (tmp_path / "run").exists()
    output_of(targen, "run", *tiny, cwd=tmp_path, PYTHONPATH=".")
    run = tmp_path / "run"
    assert len(lines(run / "synthetic" / "cb" / "train.jsonl")) == 24 and (run / "report" / "index.html").is_file()
    assert '"git_commit": null' in (run / "run.json").read_text()
    assert "report/tables" in command("eval.report", f"run.dir={run}").stderr  # of the checkout


def test_slurm_and_publish_are_reachable_from_an_installed_wheel(scripts: Path, tmp_path: Path) -> None:
    grid = (
        "+experiment=quickstart",
        "task=cb",
        "arms=[synthetic]",
        "model=tiny_encoder",
        "data.source=fixture",
        f"run.dir={tmp_path}/run",
    )
    jobs = output_of(scripts / "targen", "submit", *grid, "--dry-run", cwd=tmp_path)
    assert f"exec {scripts / 'python'} -m slurm.worker" in jobs and "export PYTHONSAFEPATH=1" in jobs
    assert "export PYTHONPATH" not in jobs
    for verb in ("status", "resubmit", "publish", "fetch"):
        assert f"targen {verb}" in output_of(scripts / "targen", verb, "--help", cwd=tmp_path)


def test_the_installed_distribution_lacks_no_requirement(scripts: Path, tmp_path: Path) -> None:
    done = subprocess.run([scripts / "pip", "check"], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST)
    assert not [line for line in done.stdout.splitlines() if line.startswith("targen ")], done.stdout
