"""What an experiment needs from the Hub: named exactly, fetched once, read offline afterwards."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from eval.openllm.tasks import data_sets
from targen.config.openllm import subtasks
from targen.data.hub_requirements import hub_requirements
from tests.support.commands import LONGEST, PROJECT, command, lines, settings
from tests.support.fake_hub import MAIN, TABLES, serve_hub
from tests.support.openllm_data import hellaswag, winogrande


def requirements(*overrides: str) -> list[tuple[str, str, str]]:
    return [(item.repo_type, item.name, item.config) for item in hub_requirements(settings(*overrides))]


def test_an_experiment_names_its_models_and_data_and_nothing_else() -> None:
    superglue = "aps/super_glue"
    main = ["+experiment=superglue_flant5", "task=[axg,cb]"]
    assert requirements(*main) == [
        ("model", "meta-llama/Llama-3.1-8B-Instruct", ""),
        ("model", "google/flan-t5-large", ""),
        ("dataset", superglue, "axg"),
        ("dataset", superglue, "rte"),  # AX-g has no train split
        ("dataset", superglue, "cb"),
    ]
    assert requirements(*main, "phases=[evaluate]")[1:] == [("dataset", superglue, "axg"), ("dataset", superglue, "cb")]
    assert requirements(*main, "phases=[generate]", "generator=openai", "generator.model=m") == []
    instructions = [
        "model=gpt2_large",
        "arms=[self_instruct]",
        "phases=[train]",
        "data.self_instruct=me/rows",
        "train.setting=multi",
    ]
    assert requirements("task=[cb,rte]", *instructions)[1:] == [("dataset", "me/rows", "self_instruct")]
    few_shot = ["model=gpt2_large", "arms=[none]", "eval.shots=2", "phases=[evaluate]"]
    assert requirements("task=[axg]", *few_shot)[1:] == [("dataset", superglue, "axg"), ("dataset", superglue, "rte")]
    assert requirements("task=[cb]", "data.source=local", "data.dir=/data") == []  # MiniLM comes with a package
    assert requirements("task=[cb]", "phases=[generate]", "method=few_shot") == [("dataset", superglue, "cb")]
    training = ["task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large"]
    weights = ("model", settings("model=gpt2_large").model.path, "")
    assert requirements(*training) == [weights]
    validation = ["train.validate_every=5", "train.validate_on=evaluation"]
    assert requirements(*training, *validation) == [weights, ("dataset", superglue, "cb")]
    assert requirements(*training, "train.validate_every=5") == [weights]
    analysis = ["phases=[analyze]", "analysis.embedder=me/embedder", "analysis.model=roberta_large"]
    assert requirements("task=[axg]", *analysis, "analysis.parts=[semantic,difficulty]") == [
        ("model", "me/embedder", ""),
        ("model", settings("model=roberta_large").model.path, ""),
        ("dataset", superglue, "axg"),
    ]
    assert requirements("task=[axg]", "phases=[analyze]", "analysis.parts=[lexical]") == [("dataset", superglue, "axg")]
    leaderboard = ["eval.superglue=false", "eval.openllm.suite=openllm_4"]
    assert requirements(*training, "phases=[evaluate]", *leaderboard) == [weights]


def test_the_data_sets_of_the_leaderboards_tasks_are_named_as_the_harness_loads_them() -> None:
    def harness(*overrides: str) -> list[tuple[str, str]]:
        items = data_sets(subtasks(settings("model=gpt2_large", *overrides).eval.openllm))
        assert {item.repo_type for item in items} == {"dataset"}
        return [(item.name, item.config) for item in items]

    openllm_6 = harness("eval.openllm.suite=openllm_6")
    assert openllm_6[:3] == [
        ("allenai/ai2_arc", "ARC-Challenge"),
        ("Rowan/hellaswag", ""),
        ("cais/mmlu", "abstract_algebra"),
    ]
    assert openllm_6[-3:] == [
        ("truthfulqa/truthful_qa", "multiple_choice"),
        ("allenai/winogrande", "winogrande_xl"),
        ("openai/gsm8k", "main"),
    ]
    assert len(openllm_6) == 5 + 57
    openllm_v2 = harness("eval.openllm.suite=openllm_v2")
    assert len(openllm_v2) == 1 + 24 + 7 + 3 + 1 + 1
    assert [name for name, _ in openllm_v2].count("TAUR-Lab/MuSR") == 1  # its parts are splits
    assert harness("eval.openllm.suite=openllm_v2", "eval.openllm.tasks=[gpqa]") == [
        ("Idavidrein/gpqa", f"gpqa_{part}") for part in ("diamond", "extended", "main")
    ]


FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b'{"version": 1}',
    "pytorch_model.bin": b"pickled",
    "onnx/model.onnx": b"other",
    "original/model.safetensors": b"again",
    "README.md": b"words",
}


def fetch(*overrides: str, **environment: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, str(PROJECT / "scripts" / "fetch.py"), *overrides]
    return subprocess.run(
        words, capture_output=True, text=True, env=os.environ | environment, timeout=LONGEST, check=False
    )


def test_a_model_is_fetched_without_what_nobody_reads_and_is_there_offline(tmp_path: Path) -> None:
    with serve_hub({"models/me/model": {MAIN: FILES}}) as hub:
        words = ["task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large", "model.path=me/model"]
        hub_variables = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        planned = fetch(*words, "plan=true", **hub_variables)
        assert planned.returncode == 0 and "fetch: model me/model (model)" in planned.stderr and not hub.downloads
        done = fetch(*words, **hub_variables)
        assert done.returncode == 0, done.stderr
        assert sorted(hub.downloads) == ["config.json", "model.safetensors", "tokenizer.json"]
    offline = "from huggingface_hub import snapshot_download as s; print(s('me/model', allow_patterns=['config.json']))"
    variables = os.environ | hub_variables | {"HF_HUB_OFFLINE": "1"}
    loaded = subprocess.run([sys.executable, "-c", offline], capture_output=True, text=True, env=variables, check=True)
    assert (Path(loaded.stdout.strip()) / "model.safetensors").read_bytes() == b"weights"


def test_what_cannot_be_fetched_is_one_line_each(tmp_path: Path) -> None:
    words = ["task=[cb]", "phases=[train]", "arms=[synthetic]", "model=gpt2_large", "model.path=me/model"]
    done = fetch(*words, HF_HOME=str(tmp_path), HF_ENDPOINT="http://127.0.0.1:9")
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2 and "model: me/model cannot be fetched" in line and "Traceback" not in done.stderr


def jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, str]]) -> bytes:
    data = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data)
    return data.getvalue()


CARD = b"""---
configs:
- config_name: winogrande_xl
  data_files: [{split: train, path: train.jsonl}, {split: validation, path: val.jsonl}]
- config_name: winogrande_xs
  data_files: [{split: train, path: xs.jsonl}]
---
"""
INSTRUCTED = ["arms=[self_instruct]", "train.setting=multi", "data.self_instruct=me/instructions"]
INSTRUCTIONS = [{"prompt": f"Name the number {number}.", "completion": str(number)} for number in range(8)]
DATA_SETS = {
    "datasets/allenai/winogrande": {
        MAIN: {
            "README.md": CARD,
            "train.jsonl": jsonl(winogrande(6)),
            "val.jsonl": jsonl(winogrande(2)),
            "xs.jsonl": b"",
        }
    },
    "datasets/Rowan/hellaswag": {
        MAIN: {"data/train.jsonl": jsonl(hellaswag(11)), "data/validation.jsonl": jsonl(hellaswag(3, start=11))}
    },
    "datasets/me/instructions": {  # a program, and the plain tables that the Hub keeps of it
        MAIN: {"instructions.py": b"raise SystemExit"},
        TABLES: {
            "self_instruct/train/0000.parquet": parquet(INSTRUCTIONS),
            "other/train/0000.parquet": parquet([{"text": "of another form"}]),
        },
    },
}


@pytest.mark.slow
def test_data_of_the_leaderboard_and_instruction_data_are_fetched_and_a_run_reads_them_offline(tmp_path: Path) -> None:
    words = ["task=[cb,rte]", "phases=[train,evaluate]", *INSTRUCTED, "model=tiny_decoder"]
    words += ["eval.superglue=false", "eval.openllm.suite=openllm_6"]
    words += ["eval.openllm.tasks=[hellaswag,winogrande]", "train.epochs=1", f"run.dir={tmp_path / 'run'}"]
    with serve_hub(DATA_SETS) as hub:
        hub_variables = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1"}
        done = fetch(*words, **hub_variables)
        assert done.returncode == 0, done.stderr
        assert (
            "fetch: dataset allenai/winogrande winogrande_xl (winogrande)" in done.stderr
            and "fetch: all 3 are in" in done.stderr
        )
        assert not [name for name in hub.downloads if name == "xs.jsonl" or name.startswith("other/")]
        local = fetch(*words, "eval.openllm.data_dir=/data", "plan=true", **hub_variables)
        assert "fetch: 1 to fetch" in local.stderr and "winogrande" not in local.stderr
    run = command("targen.run", *words, **hub_variables)  # offline, and the server is gone
    assert run.returncode == 0, run.stderr
    assert {row["task"]: row["n"] for row in lines(tmp_path / "run" / "scores.jsonl")} == {
        "hellaswag": 3,
        "winogrande": 2,
    }


def test_a_data_set_that_cannot_be_fetched_is_one_line(tmp_path: Path) -> None:
    words = ["task=[cb,rte]", "phases=[train,evaluate]", *INSTRUCTED, "model=gpt2_large", "model.path=me/model"]
    words += ["eval.superglue=false", "eval.openllm.suite=openllm_v2", "eval.openllm.tasks=[mmlu_pro]"]
    program = {MAIN: {"instructions.py": b""}}  # without tables
    repositories = {"datasets/me/instructions": program, "datasets/TIGER-Lab/MMLU-Pro": None, "models/me/model": None}
    with serve_hub(repositories) as hub:
        done = fetch(*words, HF_HOME=str(tmp_path), HF_ENDPOINT=hub.url)
    messages = [line for line in done.stderr.splitlines() if line.startswith("error:") or "gated" in line]
    assert done.returncode == 2 and len(messages) == 3 and "Traceback" not in done.stderr
    assert messages[0].startswith("error: model: me/model is gated. Accept its licence")
    assert "data.self_instruct: got me/instructions, which cannot be loaded" in done.stderr
    assert "mmlu_pro: TIGER-Lab/MMLU-Pro is gated. Accept its licence" in messages[-1]
