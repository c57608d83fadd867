"""Runs over this project's own few rows: the fixture as train and evaluation split, and as synthetic rows."""

import os
import subprocess
import sys
from pathlib import Path

from targen.config.required_files import local_file
from targen.config.settings import Settings
from targen.data.original import FIXTURE, read_rows
from targen.tasks.task import Example
from tests.support.commands import ALL_TASKS, LONGEST, PROJECT, TASKS, settings
from train.data.rendering import prompt
from train.grid.cells import cells

SPECS = settings(f"task=[{','.join(ALL_TASKS)}]").tasks
DROPOUT = {  # what the architectures of the tiny models drop out, where they drop out anything
    "tiny_encoder": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "tiny_seq2seq": ("dropout_rate",),
    "tiny_decoder": (),
}


def examples_of(name: str) -> list[Example]:
    task = SPECS[name]
    rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
    return [example for row in rows for example in task.examples(row)]


def small_overrides(
    folder: Path, *overrides: str, tasks: tuple[str, ...] = ("cb",), original: tuple[str, ...] = ()
) -> list[str]:
    """What is typed for a run below `folder` with synthetic rows of its tasks and an original train split of them and of
    `original`."""
    for name in dict.fromkeys([*tasks, *original]):
        task = SPECS[name]
        rows = local_file(FIXTURE, task, task.eval_split).read_bytes()
        for split in ("train", task.eval_split):
            path = folder / "data" / task.folder / f"{split}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(rows)
        synthetic = folder / "run" / "synthetic" / name / "train.jsonl"
        synthetic.parent.mkdir(parents=True, exist_ok=True)
        synthetic.write_bytes(rows)
    data = ["data.source=local", f"data.dir={folder / 'data'}", f"run.dir={folder / 'run'}"]
    return [f"task=[{','.join(tasks)}]", "train.epochs=1", "train.max_length=128", *data, *overrides]


def small_run(
    folder: Path, *overrides: str, tasks: tuple[str, ...] = ("cb",), original: tuple[str, ...] = ()
) -> Settings:
    return settings(*small_overrides(folder, *overrides, tasks=tasks, original=original))


def tiny_overrides(
    folder: Path, *overrides: str, model: str = "tiny_encoder", dropout: bool = False, tasks: tuple[str, ...] = ("rte",)
) -> list[str]:
    """What is typed to train a tiny model on a task's ten synthetic rows in batches of 4: three steps an epoch."""
    no_dropout = [] if dropout else [f"+model.config.{name}=0.0" for name in DROPOUT[model]]
    defaults = [f"model={model}", *no_dropout, "arms=[synthetic]", "train.batch_size=4"]
    return small_overrides(folder, *defaults, *overrides, tasks=tasks)


def model_of(run: Settings) -> Path:
    """The folder of the only cell."""
    (cell,) = cells(run)
    return run.paths.model(cell.name)


def start(module: str, *arguments: str) -> subprocess.Popen[str]:
    """A command as a user types it, running; the quickstart unless an experiment is named."""
    if not any("experiment=" in argument for argument in arguments):
        arguments = (*arguments, "+experiment=quickstart")  # last: before it `accelerate launch` has its own
    variables = os.environ | {"PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.Popen(command, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def python(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The interpreter in another folder, with the project installed."""
    variables = os.environ | {"PYTHONPATH": str(PROJECT)} | environment
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=variables, text=True, capture_output=True, timeout=LONGEST
    )


def tiny_gpt2(folder: Path) -> Path:
    """A two-layer GPT-2 with learned positions and a byte-level BPE of its own, which has an end and no padding."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    texts = [
        prompt(SPECS[task], example) + " yes no true false neither" for task in TASKS for example in examples_of(task)
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=900, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(fast), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 1024, "eos_token_id": 0}
    config = GPT2Config(**sizes, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
