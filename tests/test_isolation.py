"""The suite leaves the checkout's `outputs/` and the user's home alone: no test reads or writes there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from targen.generate import generate
from targen.runtime.errors import UserError
from tests.support.commands import PROJECT, command, settings
from tests.support.isolation import FORBIDDEN, touched, working_folder


def test_home_and_caches_are_the_sessions_own() -> None:
    home = working_folder().parent / "home"
    assert Path.home() == home
    caches = ("huggingface_hub.constants.HF_HUB_CACHE", "matplotlib.get_cachedir()", "torch.hub.get_dir()")
    imports = ", ".join(cache.rpartition(".")[0] for cache in caches)
    script = f"import {imports}; print({', '.join(caches)}, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    folders = done.stdout.splitlines()
    assert len(folders) == len(caches) and all(Path(folder).is_relative_to(home) for folder in folders), folders


@pytest.mark.parametrize("path", FORBIDDEN)
def test_what_is_the_users_is_refused(path: str) -> None:
    for touch in (os.listdir, os.mkdir, lambda folder: Path(folder, "run", "config.yaml").read_text()):
        with pytest.raises(AssertionError, match="a test may not touch"):
            touch(path)
    assert len(touched) == 3
    touched.clear()


def test_no_process_starts_in_the_checkout() -> None:
    with pytest.raises(AssertionError, match="a test may not touch"):
        subprocess.run([sys.executable, "--version"], cwd=PROJECT)
    touched.clear()


def test_the_default_run_directory_is_the_sessions_own_and_no_run_can_use_it() -> None:
    run = settings("task=cb")
    assert run.paths.root.resolve() == working_folder() / "outputs" / "quickstart"
    with pytest.raises(UserError, match=r"run\.lock cannot be written"):
        generate(run)
    for module in ("targen.run", "targen.generate", "train.run", "eval.run"):
        done = command(module, "task=cb")
        assert done.returncode == 2, done.stderr
        assert "run.dir: outputs/quickstart cannot be made (Not a directory)" in done.stderr, module
