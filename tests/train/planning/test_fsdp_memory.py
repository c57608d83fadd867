"""The memory of FSDP's units: what is planned against what torch's own tracker counts of a training step.

FSDP itself runs, with its gathered weights and its buffers, on tensors of a CPU; only the messages between processes are left
out, so that one process stands for any number of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import distributed
from torch.distributed._tools.fsdp2_mem_tracker import FSDPMemTracker
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoConfig

from tests.train.planning.test_memory import ARCHITECTURES, inputs, train_of
from train.models.transformer_blocks import blocks
from train.planning.memory import MicroBatchSize, peak_memory

SMALL = MicroBatchSize(2, 16, 4)
WIDE = {"hidden_size": 512, "intermediate_size": 1024, "vocab_size": 1000}
WIDE_T5 = {"d_model": 512, "d_ff": 1024, "vocab_size": 1000}
# what takes most of the memory: (architecture, what else, micro-batch)
CASES = {
    "root": ("llama", {}, SMALL),
    "tied root": ("qwen2", {}, SMALL),
    "root of T5": ("t5, gated", {"num_layers": 2, "num_decoder_layers": 2}, SMALL),
    "blocks": ("llama", WIDE, SMALL),
    "blocks of T5": ("t5, gated", WIDE_T5, SMALL),
    "activations": ("llama", {"vocab_size": 1000}, MicroBatchSize(8, 128, 4)),
}


@contextmanager
def processes(count: int) -> Iterator[None]:
    distributed.init_process_group("fake", rank=0, world_size=count, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


def counted(which: str, count: int, precision: str, micro_batches: int) -> int:
    """Bytes at the peak of a step after the first, so that the optimizer has its moments.

    Where a table is used twice, autograd adds one gradient to the other in place only if nothing looks on: less one of them.
    """
    name, more, size = CASES[which]
    auto, sizes = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = auto.from_config(AutoConfig.for_model(**sizes | more), attn_implementation="eager").train()
    in_bf16 = precision == "bf16"
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if in_bf16 else MixedPrecisionPolicy()
    with processes(count):
        mesh = init_device_mesh("cpu", (count,))
        for block in blocks(model):
            fully_shard(block, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
        fully_shard(model, mesh=mesh, mp_policy=policy)
        optimizer = torch.optim.AdamW(model.parameters())

        def micro_batch() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=in_bf16):
                logits = model(**inputs(auto, size, "cpu")).logits
            logits.float().log_softmax(dim=-1).sum().backward()

        micro_batch()
        optimizer.step()
        optimizer.zero_grad()
        tracker = FSDPMemTracker(model, optimizer)
        with tracker:
            for number in range(micro_batches):
                if number:
                    tracker.reset_mod_stats()
                micro_batch()
        snapshot = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    table = model.get_input_embeddings().weight
    used_twice = model.config.is_encoder_decoder or model.config.tie_word_embeddings
    return int(snapshot["Total"]) - used_twice * table.numel() * (2 if in_bf16 else 4)


def planned(which: str, count: int, precision: str, micro_batches: int) -> int:
    name, more, size = CASES[which]
    auto, sizes = ARCHITECTURES[name]
    with torch.device("meta"):
        model = auto.from_config(AutoConfig.for_model(**sizes | more), attn_implementation="eager")
    train = train_of(f"train.precision={precision}", f"train.batch_size={size.sequences * count * micro_batches}")
    memory = peak_memory(model, size, train, processes=count, sharding="fsdp", on_gpu=False)
    assert memory.accumulates == (micro_batches > 1)
    return memory.total


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module")
@pytest.mark.parametrize(
    ("which", "count", "precision", "micro_batches"),
    [
        *((which, 8, "fp32", 1) for which in CASES),
        *((which, 8, "bf16", 1) for which in CASES if which != "activations"),  # a CPU keeps others in bf16
        *((which, 8, "fp32", 2) for which in ("root", "blocks of T5", "activations")),
        *((which, 2, "fp32", 1) for which in ("root", "blocks")),
    ],
)
def test_the_units_of_fsdp_are_planned(which: str, count: int, precision: str, micro_batches: int) -> None:
    expected = counted(which, count, precision, micro_batches)
    assert 0.95 * expected < planned(which, count, precision, micro_batches) < 1.15 * expected
