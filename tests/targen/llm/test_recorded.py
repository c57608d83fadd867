"""A recording that has no answer says what differs from the run that was recorded."""

import shutil
from pathlib import Path

import pytest

from targen.generate import generate
from targen.runtime.errors import UserError
from targen.runtime.paths import PROJECT
from tests.support.commands import command, settings

SMALL = ("task=cb", "synth.size=6", "synth.learnability_rows=0")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run; read only."""
    folder = tmp_path_factory.mktemp("recorded")
    done = command("targen.generate", *SMALL, f"run.dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


DIFFERENCES = [
    ("generator.model=other", "generator.model was 'large-language-model' and is 'other'"),
    ("seed=3", "seed was 0 and is 3"),
    ("synth.sampling.contexts.temperature=0.5", "synth.sampling.contexts.temperature was 1.0 and is 0.5"),
]


@pytest.mark.parametrize(("override", "words"), DIFFERENCES)
@pytest.mark.parametrize("with_config", [True, False])
def test_what_differs_is_named(recorded: Path, tmp_path: Path, override: str, words: str, with_config: bool) -> None:
    """With the configuration of the recorded run beside its calls, and with the calls alone."""
    calls = recorded / "calls"
    if not with_config:
        shutil.copytree(calls, tmp_path / "calls")
        calls = tmp_path / "calls"
    with pytest.raises(UserError, match="does not answer") as error:
        generate(settings(*SMALL, override, f"generator.path={calls}", f"run.dir={tmp_path / 'run'}"))
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_prompt_and_a_call_that_is_not_there_are_told_apart(tmp_path: Path) -> None:
    calls = PROJECT / "targen" / "recordings" / "superglue"
    with pytest.raises(UserError, match=r"The call cb-contexts-r0 is recorded with another prompt"):
        generate(settings(*SMALL, "tasks.cb.title=Another", f"generator.path={calls}", f"run.dir={tmp_path / 'one'}"))
    with pytest.raises(UserError, match=r"No call cb-\S+ is recorded: .*synth.size"):
        generate(settings("task=cb", "synth.size=300", "synth.learnability_rows=0", f"run.dir={tmp_path / 'two'}"))
