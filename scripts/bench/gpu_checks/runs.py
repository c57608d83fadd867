"""Runs of this project for the checks: models from configurations, rows of random letters, settings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from targen.config.loading import settings_from
from targen.config.settings import Settings
from targen.runtime.cli import compose
from train.grid.cells import cells
from train.launch import PROCESSES

Json = dict[str, Any]
T5 = {"model_type": "t5", "d_kv": 64, "num_layers": 24, "num_decoder_layers": 24, "d_model": 1024, "vocab_size": 32128}
SIZES: dict[str, tuple[str, Json]] = {  # family, and sizes as published; the models are new
    "flan_t5_large": (
        "seq2seq",
        T5 | {"d_ff": 2816, "num_heads": 16, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "t5_3b": ("seq2seq", T5 | {"d_ff": 16384, "num_heads": 32, "d_kv": 128, "dropout_rate": 0.1}),
    "llama2_7b": (
        "decoder",
        {
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "vocab_size": 32000,
        },
    ),
    "llama31_8b": (
        "decoder",
        {
            "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "vocab_size": 128256,
        },
    ),
}  # fmt: skip
TINY = {
    "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    "max_position_embeddings": 2048,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz     "
ENTITIES = 9  # of a passage
FOLDERS = {"boolq": "BoolQ", "record": "ReCoRD"}


def sizes_of(name: str, tiny: bool) -> tuple[str, Json]:
    """(family, sizes) of a model; with the same parts and few layers if it is to be tiny."""
    family, sizes = SIZES[name]
    return family, {key: TINY.get(key, value) for key, value in sizes.items()} if tiny else sizes


def boolq_rows(lengths: Sequence[int]) -> list[Json]:
    """Rows in BoolQ's format whose passages have so many letters."""
    draws = Random(0)
    return [
        {
            "question": "is this right",
            "passage": _letters(draws, length),
            "label": bool(draws.random() < 0.6),
            "idx": number,
        }
        for number, length in enumerate(lengths)
    ]


def record_rows(lengths: Sequence[int]) -> list[Json]:
    """Rows in ReCoRD's format: a passage with entities, and a query with a gap."""
    draws, rows = Random(1), []
    for number, length in enumerate(lengths):
        names = [f"{chr(65 + index)}{_letters(draws, 4).replace(' ', 'o')}" for index in range(ENTITIES)]
        text = " ".join([*names, _letters(draws, length)])
        spots = [{"start": text.index(name), "end": text.index(name) + len(name) - 1} for name in names]
        answer = {"start": spots[0]["start"], "end": spots[0]["end"], "text": names[0]}
        query = {"query": f"@placeholder {_letters(draws, 40)}", "answers": [answer], "idx": number}
        rows.append({"source": "bench", "passage": {"text": text, "entities": spots}, "qas": [query], "idx": number})
    return rows


def _letters(draws: Random, length: int) -> str:
    return "x" + "".join(draws.choices(LETTERS, k=max(1, length - 2))) + "x"


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def overrides(
    folder: Path,
    model: str,
    tiny: bool,
    train_rows: Sequence[Json] = (),
    evaluated: Json | None = None,
    path: Path | None = None,
) -> list[str]:
    """What is typed for a run in `folder`: BoolQ's synthetic rows are `train_rows`, those of other splits by task `evaluated`. The
    model is made from its sizes, or lies in `path`."""
    train_file = folder / "run" / "synthetic" / "boolq" / "train.jsonl"
    _write(train_file, train_rows)
    for task, rows in (evaluated or {"boolq": list(train_rows)[:8]}).items():
        _write(folder / "data" / FOLDERS[task] / "val.jsonl", rows)
    family, sizes = sizes_of(model, tiny)
    fields = ",".join(f"{key}:{json.dumps(value)}" for key, value in sizes.items())
    source = [f"model.path={path}", "model.tokenizer=null"] if path else [f"+model.config={{{fields}}}"]
    tasks = ",".join(evaluated or ["boolq"])
    return [
        f"task=[{tasks}]", "arms=[synthetic]", f"model=tiny_{family}", "model.config=null", *source, f"model.name={model}",
        "data.source=local", f"data.dir={folder / 'data'}", f"run.dir={folder / 'run'}", "train.epochs=1", "train.batch_size=32",
        "train.save_every=null", "train.learning_rate=1e-5",
    ]  # fmt: skip


def _write(path: Path, rows: Sequence[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def settings(arguments: Sequence[str]) -> Settings:
    """The checked settings of a run."""
    return settings_from(compose(list(arguments)))


def log_of(run: Settings) -> list[Json]:
    """train_log.jsonl of the only cell."""
    path = run.paths.model(cells(run)[0].name) / "train_log.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def command(verb: str, arguments: Sequence[str], **environment: str) -> "subprocess.Popen[str]":
    """`targen VERB ...` in a process of its own, running."""
    words = [sys.executable, "-m", "targen", verb, *arguments]
    return subprocess.Popen(
        words, env=os.environ | environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def written_model(folder: Path, name: str, tiny: bool, template: str | None = None) -> Path:
    """The folder of a model of these sizes with random bf16 weights and the tokenizer of bytes, made once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from train.models.byte_tokenizer import byte_tokenizer

    path = folder / f"{name}{'-tiny' * tiny}{'-chat' * (template is not None)}"
    if (path / "complete").is_file():
        return path
    fresh(path)
    family, sizes = sizes_of(name, tiny)
    tokenizer = byte_tokenizer(family == "seq2seq")
    tokenizer.chat_template = template
    device = "cuda" if torch.cuda.is_available() else "cpu"
    special: Json = {"decoder_start_token_id": 0} if family == "seq2seq" else {}
    special |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    with torch.device(device):  # where random numbers take no time
        auto_class: Any = AutoModelForSeq2SeqLM if family == "seq2seq" else AutoModelForCausalLM
        model = auto_class.from_config(AutoConfig.for_model(**{**special, **sizes}), dtype=torch.bfloat16)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    (path / "complete").touch()
    return path


def one_process_environment() -> dict[str, str]:
    """The environment of a training that is launched with one process."""
    return dict(os.environ) | {PROCESSES: "1"}
