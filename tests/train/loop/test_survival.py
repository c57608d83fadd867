"""Training that is stopped, killed, or out of disk goes on where it was and ends with the same weights."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from targen.config.settings import Settings
from targen.runtime.cli import REQUEUE
from targen.runtime.errors import UserError
from targen.runtime.signals import Stopped
from tests.support.commands import LONGEST, files, lines, settings
from tests.support.small_data import model_of, start, tiny_overrides
from tests.support.stopping import StopAfter
from train.models.checkpoints import complete_checkpoints, keep_only_checkpoints, keep_steps, mark_complete
from train.run import train

LONG = ("train.epochs=20", "train.save_every=1", "train.max_length=48")  # 60 steps, a checkpoint at each
SHORT = ("train.epochs=4", "train.max_length=48")  # 12 steps


def overrides(folder: Path, *more: str) -> list[str]:
    """With dropout, so that the random states matter."""
    return tiny_overrides(folder, *more, dropout=True)


@pytest.fixture(scope="module")
def unstopped_weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The weights of SHORT, never stopped."""
    return trained(settings(*overrides(tmp_path_factory.mktemp("whole"), *SHORT)))


def trained(run: Settings) -> bytes:
    train(run)
    assert complete_checkpoints(model_of(run)) == []
    return (model_of(run) / "model.safetensors").read_bytes()


def stopped(run: Settings, step: int) -> list[int]:
    """The steps of the checkpoints of a run that was told to stop at a step."""
    with pytest.raises(Stopped):
        train(run, stop=StopAfter(step))
    return [checkpoint.step for checkpoint in complete_checkpoints(model_of(run))]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk that takes no larger file."""
    before, bytecode = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # it would be cut at the limit, and read so by others
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = bytecode


def test_stopped_at_any_step_it_ends_with_the_same_weights(unstopped_weights: bytes, tmp_path: Path) -> None:
    run = settings(*overrides(tmp_path, *SHORT))
    for step in (1, 3, 5, 6, 11):  # in an epoch, at its end, twice in the same
        assert stopped(run, step - sum(checkpoint.step for checkpoint in complete_checkpoints(model_of(run)))) == [step]
        assert not (model_of(run) / "done.json").exists()
    assert trained(run) == unstopped_weights
    steps = [entry["step"] for entry in lines(model_of(run) / "train_log.jsonl") if "loss" in entry]
    assert steps == list(range(1, 13))


# (model, tasks, what else): all that a checkpoint has to cover beside plain weights
TRAININGS = {
    "decoder": ("tiny_decoder", ("rte",), ()),
    "adapters of an instructed mixture": (
        "tiny_seq2seq",
        ("cb", "rte"),
        ("train.setting=multi", "train.mixture=equal", "train.instruct=true", "train.lora.r=4", "train.epochs=1"),
    ),
    "adapters and a head, the best of them": (
        "tiny_encoder",
        ("cb",),
        ("train.lora.r=4", "train.validate_every=2", "train.hold_out=0.3", "train.select=best"),
    ),
    "weighted by checkers": (
        "tiny_encoder",
        ("cb",),
        ("train.loss=imp", "arms=[mixed]", "train.checker_rows=8", "train.epochs=2", "train.max_length=48"),
    ),
    "weighted by itself": (
        "tiny_decoder",
        ("cb",),
        ("train.loss=dimp", "train.checker_rows=8", "train.lora.r=4", "train.epochs=2"),
    ),
}


COUNTS = dict(zip(TRAININGS, (1, 2, 2, 3, 4), strict=True))  # files of weights: bases of adapters and checkers included


LONG_TRAININGS = ("adapters and a head, the best of them", "weighted by checkers", "weighted by itself")


@pytest.mark.parametrize(
    "which", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG_TRAININGS)) for name in TRAININGS]
)
def test_stopped_again_and_again_every_kind_of_training_ends_with_the_same_weights(which: str, tmp_path: Path) -> None:
    model, tasks, more = TRAININGS[which]
    shape = ("train.epochs=3", *more)
    unstopped, interrupted = (
        settings(*tiny_overrides(tmp_path / name, *shape, model=model, tasks=tasks, dropout=True))
        for name in ("one", "two")
    )
    train(unstopped)
    stops = 0
    while not (model_of(interrupted) / "done.json").is_file():
        stops += 1
        assert stops < 30
        with suppress(Stopped):  # also in the middle of a checker
            train(interrupted, stop=StopAfter(4))
    assert stops >= 2
    weights = [
        {name: content for name, content in files(run.paths.root / "models").items() if name.endswith(".safetensors")}
        for run in (unstopped, interrupted)
    ]
    assert len(weights[0]) == COUNTS[which]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("which", "changed", "words"),
    [
        ("adapters of an instructed mixture", "train.lora.alpha=3", "train.lora.alpha was 8 and is 3"),
        ("adapters of an instructed mixture", "train.instruct_examples=1", "train.instruct_examples was 2 and is 1"),
        ("adapters of an instructed mixture", "train.mixture=proportional", "train.mixture was 'equal' and is"),
        pytest.param(
            "weighted by checkers",
            "train.label_smoothing=0.1",
            "train.label_smoothing was 0.0 and is 0.1",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_checkpoint_of_another_kind_of_training_is_refused(
    which: str, changed: str, words: str, tmp_path: Path
) -> None:
    model, tasks, more = TRAININGS[which]
    shape = ("train.epochs=3", *more)
    before, now = (
        settings(*tiny_overrides(tmp_path, *shape, *change, model=model, tasks=tasks)) for change in ((), (changed,))
    )
    while not complete_checkpoints(model_of(before)):
        with pytest.raises(Stopped):
            train(before, stop=StopAfter(2))
    with pytest.raises(UserError, match=f"checkpoint-.*was trained with different settings or rows: .*{words}"):
        train(now)


def test_a_torn_checkpoint_is_not_taken(unstopped_weights: bytes, tmp_path: Path) -> None:
    run = settings(*overrides(tmp_path, *SHORT))
    assert stopped(run, 4) == [4]
    folder = model_of(run)
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-7")
    with (folder / "checkpoint-7" / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    shutil.copytree(folder / "checkpoint-4", folder / "checkpoint-9")
    (folder / "checkpoint-9" / "complete.json").unlink()
    assert [checkpoint.step for checkpoint in complete_checkpoints(folder)] == [4]
    assert trained(run) == unstopped_weights


def test_a_checkpoint_is_whole_before_the_one_before_goes(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "weights").write_text("x" * step)
    mark_complete(tmp_path / "checkpoint-1", {"model": "m"}, "none")
    keep_only_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    (tmp_path / "checkpoint-2").mkdir()
    mark_complete(tmp_path / "checkpoint-2", {"model": "m"}, "none")
    keep_steps(tmp_path, {2})
    assert [(checkpoint.step, checkpoint.fingerprint) for checkpoint in complete_checkpoints(tmp_path)] == [
        (2, {"model": "m"})
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_a_full_disk_leaves_the_last_good_checkpoint(unstopped_weights: bytes, tmp_path: Path) -> None:
    run = settings(*overrides(tmp_path, *SHORT))
    assert stopped(run, 2) == [2]
    weights = (model_of(run) / "checkpoint-2" / "model.safetensors").stat().st_size
    for size in (weights // 2, weights + 10_000):  # the weights do not fit; they do, the optimizer does not
        with (
            largest_file(size),
            pytest.raises(UserError, match=r"run\.dir: .* could not be written \(.*Make room") as error,
        ):
            train(run, stop=StopAfter(3))
        assert "\n" not in str(error.value)
        assert [checkpoint.step for checkpoint in complete_checkpoints(model_of(run))] == [2]
        assert not (model_of(run) / "checkpoint-5").exists()
    assert trained(run) == unstopped_weights


def test_a_checkpoint_of_other_settings_or_rows_is_refused(tmp_path: Path) -> None:
    arguments = overrides(tmp_path, *SHORT)
    stopped(settings(*arguments), 2)
    with pytest.raises(
        UserError,
        match=r"checkpoint-2: was trained with different settings or rows: train\.learning_rate was .*remove this folder",
    ):
        train(settings(*arguments, "train.learning_rate=0.5"))
    rows = tmp_path / "run" / "synthetic" / "rte" / "train.jsonl"
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="checkpoint-2: was trained with different settings or rows: training rows was"):
        train(settings(*arguments))
    assert [checkpoint.step for checkpoint in complete_checkpoints(model_of(settings(*arguments)))] == [2]


def test_the_best_checkpoint_is_kept_and_becomes_the_model(tmp_path: Path) -> None:
    validated = ("train.validate_every=2", "train.hold_out=0.3", "train.learning_rate=0.01", "train.select=best")
    run = settings(*overrides(tmp_path, *SHORT, *validated))
    steps = stopped(run, 7)
    folder = model_of(run)
    history = json.loads((folder / "checkpoint-7" / "trainer_state.json").read_text())["log_history"]
    scores = {entry["step"]: (entry["eval_accuracy"], -entry["eval_loss"]) for entry in history if "eval_loss" in entry}
    assert set(scores) == {2, 4, 6}
    best = max(scores, key=lambda step: scores[step])
    assert steps == [best, 7]
    weights = (folder / f"checkpoint-{best}" / "model.safetensors").read_bytes()
    train(run)
    log = [entry for entry in lines(folder / "train_log.jsonl") if "eval_loss" in entry]
    assert log[-1]["step"] == 8
    assert {"eval_rte_accuracy", "eval_rte_loss"} <= log[-1].keys()
    assert (log[-1]["eval_accuracy"], -log[-1]["eval_loss"]) < scores[best]  # so that the last is not the best
    assert (folder / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    unstopped, killed = overrides(tmp_path / "one", *LONG), overrides(tmp_path / "two", *LONG)
    folder, reached = model_of(settings(*killed)), 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        kills = number == signal.SIGKILL
        process = start("train.run", *killed) if kills else start("targen.run", *killed, "phases=[train]")
        reached = wait_for_step(process, folder, reached + 10)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=LONGEST)
        assert process.returncode == (-signal.SIGKILL if kills else REQUEUE), stderr
        assert (tmp_path / "two" / "run" / "run.lock").exists() == kills
        assert not (folder / "done.json").exists()
    assert max(checkpoint.step for checkpoint in complete_checkpoints(folder)) >= reached
    seldom = "train.save_every=null"
    assert trained(settings(*killed, seldom)) == trained(settings(*unstopped, seldom))


@pytest.mark.slow
def test_two_processes_are_told_to_stop_through_the_launcher(tmp_path: Path) -> None:
    arguments = overrides(tmp_path, *LONG, "train.launch=ddp")
    folder = model_of(settings(*arguments))
    process = start("targen.run", *arguments, "phases=[train]")
    reached = wait_for_step(process, folder, 1)
    process.send_signal(signal.SIGUSR1)
    _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == REQUEUE, stderr
    assert "told to stop" in stderr
    (checkpoint,) = complete_checkpoints(folder)
    assert reached <= checkpoint.step < 60
    assert not (tmp_path / "run" / "run.lock").exists()  # none of the processes is left


def wait_for_step(process: subprocess.Popen[str], folder: Path, step: int) -> int:
    """The step of the newest checkpoint, when it is at least so many."""
    while process.poll() is None:
        steps = [int(path.parent.name.split("-")[1]) for path in folder.glob("checkpoint-*/complete.json")]
        if steps and max(steps) >= step:
            return max(steps)
        time.sleep(0.01)
    raise AssertionError(process.communicate())
