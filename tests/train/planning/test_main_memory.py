"""The main memory of a node, by hand, and what the plan says where a job asks for less."""

import re
from pathlib import Path

import pytest

from tests.support.commands import settings
from tests.support.small_data import tiny_overrides
from train.plan import lines as lines_of_plan
from train.plan import plan
from train.planning.cell_plan import GIB, Size
from train.planning.fitting import Device
from train.planning.main_memory import lines, main_memory
from train.planning.memory import Disk, Memory

THREE_BILLION = Size(3 * GIB, 3 * GIB, Memory(5 * GIB, 5 * GIB, 10 * GIB, 7 * GIB), Disk(0, 0), 8, (0.0, 0.0))
CPU, TWO_NODES = Device(False, None, 4), "cluster.train.nodes=2"


@pytest.mark.parametrize(
    ("overrides", "device", "expected"),
    [
        ((), CPU, 1 + 5 + 10 + 7),  # without a launcher it is one process
        (("train.launch=ddp",), CPU, 4 * (1 + 5 + 10 + 7)),
        (("train.launch=ddp",), Device(True, 80e9, 4), 4 * (1 + 12)),
        (("train.launch=ddp", "train.precision=bf16_weights"), Device(True, 80e9, 4), 4 * (1 + 6)),
        (("train.launch=ddp", TWO_NODES), Device(True, 80e9, 16), 8 * (1 + 12)),
        (("train.launch=deepspeed_zero2",), Device(True, 80e9, 4, "zero2"), 4 * (1 + 12)),
        (("train.launch=deepspeed_zero3",), Device(True, 80e9, 4, "zero3"), 4 * 1 + 12),
        (("train.launch=fsdp",), Device(True, 80e9, 4, "fsdp"), 4 * 1 + 2 * 12),
        (("train.launch=fsdp", "model=bert_large"), Device(True, 80e9, 4, "fsdp"), 4 * (1 + 12)),
        (("train.quantize=4bit", "train.lora.r=4"), Device(True, 80e9), 1),
    ],
)
def test_main_memory_by_hand(overrides: tuple[str, ...], device: Device, expected: int) -> None:
    """In GiB: 1 for the libraries of each process, 12 for three billion weights."""
    run = settings("task=rte", "model=flan_t5_xl", *overrides)
    assert main_memory(run, THREE_BILLION, device, GIB) == expected * GIB


def test_a_job_that_asks_for_too_little_is_told(tmp_path: Path) -> None:
    def memory_line(*overrides: str) -> str:
        run = settings(*tiny_overrides(tmp_path, "train.max_length=64", *overrides))
        (line,) = (
            line for line in lines_of_plan(run, plan(run)) if line.startswith("main memory of a node: at least ")
        )
        return line

    assert memory_line().endswith(" GiB")
    line = memory_line("cluster.train.memory=100M")
    assert re.search(
        r" GiB; DOES NOT FIT into cluster\.train\.memory=100M of a job\. Set cluster\.train\.memory=[1-9]G\.$", line
    )


FOUR = Device(True, 80e9, 4)  # 4 processes, which need 52 GiB
NODE = "cluster.node={gpus: 8, cpus: 64, memory: 80G}"


@pytest.mark.parametrize(
    ("overrides", "device", "source"),
    [
        # as many processes as this machine has GPUs: the settings of the cluster speak of another job
        (("cluster.per_gpu.memory=8G",), FOUR, None),
        (("cluster.train.memory=8G",), FOUR, None),
        (("cluster.per_gpu.memory=8G",), Device(True, 80e9, 1), r"cluster\.per_gpu\.memory=8G of a job"),
        (("cluster.train.gpus=4",), FOUR, None),  # 4 x 64G
        (("cluster.train.gpus=4", "cluster.per_gpu.memory=13G"), FOUR, None),
        (
            ("cluster.train.gpus=4", "cluster.per_gpu.memory=12G"),
            FOUR,
            r"cluster\.per_gpu\.memory=12G of a job with 4 GPUs",
        ),
        (("cluster.train.gpus=4", "cluster.train.memory=51G"), FOUR, r"cluster\.train\.memory=51G of a job"),
        (("cluster.train.gpus=4", NODE), FOUR, r"the 40G of cluster\.node\.memory=80G that a job gets"),
        (
            ("cluster.train.gpus=0", "cluster.train.processes=4", "cluster.train.memory=51G"),
            FOUR,
            "cluster.train.memory=51G of a job",
        ),
    ],
)
def test_a_job_with_as_many_processes_is_compared_by_the_setting_that_gives_its_memory(
    overrides: tuple[str, ...], device: Device, source: str | None
) -> None:
    run = settings("task=rte", "model=flan_t5_xl", "train.launch=ddp", *overrides)
    (line,) = lines(run, [THREE_BILLION], device, GIB)
    needs = f"main memory of a node: at least {13 * device.processes}.0 GiB"
    expected = rf"; DOES NOT FIT into {source}\. Set cluster\.train\.memory={65 if device is FOUR else 17}G\."
    assert re.fullmatch(re.escape(needs) + (expected if source else ""), line)


def test_nothing_is_said_of_what_is_unknown() -> None:
    assert lines(settings("task=rte"), [], CPU, GIB) == []
