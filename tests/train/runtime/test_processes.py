"""Batches and metrics do not depend on the number of processes, nor on what fits into memory at once."""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eval.run import evaluate
from targen.config.settings import Settings
from targen.runtime.cli import REQUEUE
from targen.runtime.errors import UserError
from targen.runtime.paths import CONF
from tests.support.commands import LONGEST, PROJECT, command, lines, settings
from tests.support.small_data import model_of, start, tiny_overrides
from train.data.batches import Batching, MicroBatchSampler, epoch_batches, micro_batches
from train.grid.cells import cells
from train.loop.throughput import peak_rss
from train.loop.trainer import batching_of
from train.models.adapters import BASE
from train.run import train
from train.runtime.processes import LAUNCHED, Processes, join_processes


def test_an_epoch_has_each_example_once_in_batches_of_like_length() -> None:
    draws = random.Random(0)
    lengths = [draws.randint(5, 200) for _ in range(1003)]
    batches = epoch_batches(lengths, Batching(16, 16), random.Random(1))
    assert [len(batch) for batch in batches] == [16] * 62 + [11]
    assert sorted(index for batch in batches for index in batch) == list(range(1003))
    plain = epoch_batches(lengths, Batching(16, 16, by_length=False), random.Random(1))
    padded, plain_padded = (
        sum(len(batch) * max(lengths[index] for index in batch) for batch in epoch) for epoch in (batches, plain)
    )
    assert padded < 1.15 * sum(lengths) < 0.7 * plain_padded
    longest = [max(lengths[index] for index in batch) for batch in batches]
    assert longest[0] >= max(longest[1:-1])
    assert batches != epoch_batches(lengths, Batching(16, 16), random.Random(2))


def test_a_batch_is_the_same_for_any_number_of_processes_and_any_memory() -> None:
    lengths = [7, 3, 9, 1, 5, 8, 2, 6, 4, 10, 12, 11, 13]
    batches = list(MicroBatchSampler(lengths, Batching(4, 4), 0, "cell"))
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]
    for processes in (1, 2, 3):
        for at_once in (1, 2, 4):
            batching = Batching(4, at_once, processes)
            samplers = [MicroBatchSampler(lengths, batching, 0, "cell", process) for process in range(processes)]
            by_process = [list(sampler) for sampler in samplers]
            assert {len(share) for share in by_process} == {len(samplers[0])}  # all take the same steps
            assert all(len(micro_batch) <= at_once for share in by_process for micro_batch in share)
            for step in range(4):
                window = slice(step * batching.micro_batches, (step + 1) * batching.micro_batches)
                indices = [index for share in by_process for part in share[window] for index in part if index >= 0]
                assert sorted(indices) == sorted(batches[step])


def test_a_process_without_an_example_gets_one_that_counts_nothing() -> None:
    assert micro_batches([6, 4], [1] * 7, Batching(8, 2, processes=3)) == [[[~6], [4], [6]]]
    assert micro_batches([1, 2, 0], [5, 9, 7], Batching(8, 2, processes=1)) == [[[1]], [[2, 0]]]


def test_the_order_changes_with_the_epoch_and_the_seed_and_not_with_the_start() -> None:
    lengths, batching = list(range(64)), Batching(4, 4)
    sampler, same, other = (
        MicroBatchSampler(lengths, batching, 0, "a"),
        MicroBatchSampler(lengths, batching, 0, "a"),
        MicroBatchSampler(lengths, batching, 1, "a"),
    )
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    same.set_epoch(1)
    assert first != second
    assert list(same) == second
    assert first != list(other)


# (model, tasks, what else): ReCoRD's answers differ in length, so that a mean of means is not the mean
TRAININGS = {
    "encoder": ("tiny_encoder", ("rte",), ()),
    "encoder, weighted mixture": (
        "tiny_encoder",
        ("copa", "cb"),
        (
            "train.setting=multi",
            "arms=[mixed]",
            "train.mixed_original=40%",
            "train.loss=imp",
            "train.label_smoothing=0.1",
        ),
    ),
    "encoder, selected rows": (
        "tiny_encoder",
        ("cb",),
        ("train.select_rows=checker", "train.select_student=bag_of_words"),
    ),
    "seq2seq": ("tiny_seq2seq", ("record",), ()),
    "seq2seq, weighted, instructions": ("tiny_seq2seq", ("cb",), ("train.loss=dimp", "train.instruct=true")),
    "decoder": ("tiny_decoder", ("record",), ()),
    "decoder, weighted mixture of adapters": (
        "tiny_decoder",
        ("cb", "rte"),
        ("train.setting=multi", "train.mixture=equal", "train.loss=dimp", "train.lora.r=4", "train.lora.dropout=0"),
    ),
}


def weights_of(run: Settings) -> dict[str, torch.Tensor]:
    folder = model_of(run)
    adapters = folder / "adapter_model.safetensors"
    weights = load_file(adapters if adapters.is_file() else folder / "model.safetensors")
    # COPA's two scores share it: no gradient, and AdamW makes steps of rounding errors
    weights.pop("classifier.bias", None)
    return weights


def log_values(run: Settings, key: str) -> list[float]:
    return [entry[key] for entry in lines(model_of(run) / "train_log.jsonl") if key in entry]


LONG_TRAININGS = ("encoder, weighted mixture", "decoder, weighted mixture of adapters")


@pytest.mark.parametrize(
    "which", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG_TRAININGS)) for name in TRAININGS]
)
def test_one_part_of_eight_trains_as_eight_parts_of_one(which: str, tmp_path: Path) -> None:
    model, tasks, more = TRAININGS[which]
    results = []
    for at_once in (8, 3, 1):
        shape = ["train.batch_size=8", f"train.device_batch_size={at_once}", "train.epochs=3", "train.checker_rows=8"]
        run = settings(*tiny_overrides(tmp_path / str(at_once), *shape, *more, model=model, tasks=tasks))
        train(run)
        results.append((log_values(run, "loss"), weights_of(run)))
    for log, weights in results[1:]:
        assert log == pytest.approx(results[0][0], rel=1e-4)
        assert all(torch.allclose(weights[name], results[0][1][name], atol=5e-5) for name in weights)


def test_a_loss_that_is_no_number_names_the_step_and_the_rows(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "train.learning_rate=1e38", "train.warmup_ratio=0"))
    with pytest.raises(UserError, match=r"train: the loss is nan at step [2-9]\d*, on the rows with idx \d+, "):
        train(run)
    assert not (model_of(run) / "done.json").exists()


def test_the_log_says_how_fast_and_how_much(tmp_path: Path) -> None:
    run = settings(*tiny_overrides(tmp_path, "train.epochs=1"))
    train(run)
    (first, *_), last = (log := lines(model_of(run) / "train_log.jsonl")), log[-1]
    assert first["tokens_per_second"] <= first["padded_tokens_per_second"]
    assert first["peak_rss_mib"] > 100
    assert first["mfu"] is None
    assert first["grad_norm"] > 0 and last["train_runtime"] > 0


def test_the_peak_of_memory_is_that_of_the_process_itself_and_not_of_the_one_that_started_it() -> None:
    ballast = b"x" * 700 * 2**20
    script = "from train.loop.throughput import peak_rss; print(peak_rss())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert peak_rss() > len(ballast) / 2**20 > float(done.stdout) > 50


def test_a_launch_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(
        UserError, match=r"train\.launch: got 'dpd', expected a file of conf/accelerate/.*Did you mean 'ddp'"
    ):
        settings("train.launch=dpd")


def test_more_processes_than_examples_in_a_batch_are_refused() -> None:
    with pytest.raises(
        UserError, match=r"train\.batch_size: got 1 with 2 processes, expected at least one example for"
    ):
        batching_of(settings("train.batch_size=1"), [], 2)


@pytest.mark.slow
def test_too_many_processes_are_one_line(tmp_path: Path) -> None:
    arguments = tiny_overrides(tmp_path, "train.batch_size=1")
    process = start("train.launch", "ddp", *arguments)
    _, stderr = process.communicate(timeout=LONGEST)
    assert process.returncode == 2, stderr
    assert "error: train.batch_size: got 1 with 2 processes, expected at least one example for each." in stderr


def test_every_launch_configuration_is_one_that_accelerate_takes() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    configs = {path.stem: load_config_from_file(str(path)) for path in (CONF / "accelerate").glob("*.yaml")}
    assert set(configs) == {"cpu", "one_gpu", "ddp", "fsdp", "deepspeed_zero2", "deepspeed_zero3"}
    assert all(settings(f"train.launch={name}") for name in configs)
    assert all(configs[name].main_process_port == 0 for name in configs if configs[name].num_processes > 1)
    assert [configs[f"deepspeed_zero{stage}"].deepspeed_config["zero_stage"] for stage in (2, 3)] == [2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("which", [name for name in TRAININGS if "weighted" in name or "selected" in name])
def test_two_processes_train_as_one_does(which: str, tmp_path: Path) -> None:
    """Some batches leave a process without an example. Tolerance: gradients are summed in another order."""
    model, tasks, more = TRAININGS[which]
    shape = ["train.epochs=3", "train.validate_every=4", "train.checker_rows=9", "train.save_every=null", *more]
    single, pair = (tiny_overrides(tmp_path / name, *shape, model=model, tasks=tasks) for name in ("single", "pair"))
    train(settings(*single))
    done = command("targen.run", *pair, "phases=[train]", "train.launch=ddp")
    assert done.returncode == 0, done.stderr
    assert re.search(r"train: (\d+) of \1 steps", done.stderr)
    runs = [settings(*arguments) for arguments in (single, pair)]
    for key, tolerance in (("loss", 1e-4), ("grad_norm", 1e-3), ("eval_accuracy", 0), ("eval_loss", 1e-4)):
        values = [log_values(run, key) for run in runs]
        assert values[1] == pytest.approx(values[0], rel=tolerance), key
    weights = [weights_of(run) for run in runs]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=5e-5) for name in weights[0])


@pytest.mark.slow
def test_no_process_reads_what_a_killed_start_left(tmp_path: Path) -> None:
    """So many files that removing them takes longer than the other process needs to look for them."""
    arguments = tiny_overrides(tmp_path, "train.lora.r=4", model="tiny_decoder")
    base = model_of(settings(*arguments)) / BASE
    base.mkdir(parents=True)
    for number in range(20_000):
        (base / str(number)).touch()
    done = command("targen.run", *arguments, "phases=[train]", "train.launch=ddp")
    assert done.returncode == 0, done.stderr
    assert load_file(base / "model.safetensors")


@pytest.mark.slow
def test_three_processes_predict_as_one_does(tmp_path: Path) -> None:
    """A mixture, and 10 rows a task: two too few for equal shares."""
    tasks = ("copa", "rte")
    arguments = tiny_overrides(tmp_path, "train.setting=multi", tasks=tasks)
    run = settings(*arguments)
    train(run)
    outputs = []
    for processes in (1, 3):
        for path in run.paths.root.glob("predictions/*"):
            path.unlink()
        if processes == 1:
            evaluate(run)
        else:
            launcher = ["--multi_gpu", f"--num_processes={processes}", "--main_process_port=0", "--module", "eval.run"]
            done = command("accelerate.commands.launch", *launcher, *arguments)
            assert done.returncode == 0, done.stderr
        scores = {row["task"]: row for row in lines(run.paths.scores)}
        outputs.append({name: lines(run.paths.predictions(cells(run)[0].predictions_name(name))) for name in tasks})
        for name in tasks:
            predictions = outputs[-1][name]
            assert scores[name]["n"] == len(predictions) == 10
            assert scores[name]["value"] == sum(row["prediction"] in row["gold"] for row in predictions) / 10
    for name in tasks:
        for line, first in zip(outputs[1][name], outputs[0][name], strict=True):
            assert line["scores"] == pytest.approx(first["scores"], abs=1e-5)
            assert {**line, "scores": 0} == {**first, "scores": 0}


RANK_0 = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"WORLD_SIZE": "2"},
            "WORLD_SIZE: got 2 in the environment without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT",
        ),
        (RANK_0 | {"WORLD_SIZE": "2"}, "WORLD_SIZE: got 2 in the environment without MASTER_PORT, expected all that"),
        (RANK_0 | {"WORLD_SIZE": "two"}, "WORLD_SIZE: got 'two' in the environment, expected a number"),
        ({"WORLD_SIZE": ""}, None),
        ({"LOCAL_RANK": "0", "RANK": "0"}, None),
        (RANK_0 | {"WORLD_SIZE": "1"}, None),
    ],
)
def test_what_a_platform_left_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str | None
) -> None:
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if words is None:
        assert join_processes() == Processes()
        assert not {*LAUNCHED} & {*os.environ}
    else:
        with pytest.raises(UserError, match=words):
            join_processes()


@pytest.mark.slow
def test_a_process_that_waits_for_others_says_so_and_ends_when_told(tmp_path: Path) -> None:
    program = (
        "import logging, train.runtime.processes as p\n"
        "from targen.runtime.signals import StopRequest\n"
        "logging.basicConfig()\n"
        "p.SECONDS_BEFORE_A_LINE = 0.1\n"
        "with StopRequest(): p.join_processes()"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    variables = os.environ | RANK_0 | {"WORLD_SIZE": "2", "MASTER_PORT": port, "PYTHONPATH": str(PROJECT)}
    process = subprocess.Popen([sys.executable, "-c", program], env=variables, text=True, stderr=subprocess.PIPE)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "waiting" in line)
    assert f"waiting for the other 1 of 2 processes (WORLD_SIZE) at 127.0.0.1:{port}" in line
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONGEST) == REQUEUE


@pytest.mark.slow
def test_a_process_waits_for_a_silent_one_as_long_as_the_limit_says(tmp_path: Path) -> None:
    """The second process is silent for a second, then for good: it waits for what the test never writes."""
    program = (
        "import os, sys, time, torch, accelerate, train.runtime.processes as p\n"
        "from datetime import timedelta\n"
        "p.LONGEST_SILENCE = timedelta(seconds=4)\n"
        "rank = 0 if os.fork() else 1\n"  # both have imported all, so that neither waits for that
        "if rank: os.dup2(2, 1)\n"  # the output ends with the first process
        "os.environ['RANK'] = os.environ['LOCAL_RANK'] = str(rank)\n"
        "processes = p.join_processes()\n"
        "time.sleep(rank)\n"
        "processes.wait()\n"
        "if rank: sys.stdin.read(), os._exit(0)\n"
        "print('waited', flush=True)\n"
        "began = time.monotonic()\n"
        "try: processes.wait()\n"
        "except RuntimeError as err: print(round(time.monotonic() - began), 'Timed out' in str(err), flush=True)\n"
        "os._exit(0)"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    variables = os.environ | RANK_0 | {"WORLD_SIZE": "2", "MASTER_PORT": port, "PYTHONPATH": str(PROJECT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    error_file = tmp_path / "stderr"
    with (
        error_file.open("w") as errors,
        subprocess.Popen([sys.executable, "-c", program], env=variables, stderr=errors, **pipes) as process,
    ):
        limit = threading.Timer(LONGEST, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        output = [process.stdout.readline() for _ in range(2)]
        process.stdin.close()
        exit_code = process.wait(LONGEST)
        limit.cancel()
    assert (exit_code, output[0]) == (0, "waited\n"), error_file.read_text()
    seconds, timed_out = output[1].split()
    assert 4 <= int(seconds) < 60 and timed_out == "True"
