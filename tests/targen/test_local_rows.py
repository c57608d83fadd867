"""Local rows are read once before the first phase: a damaged one is named before anything is asked or trained."""

import json
from pathlib import Path

import pytest

from targen.data.checks import check_local_rows
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from tests.support.commands import command, settings
from tests.support.openllm_data import mmlu, write

ROW = {"premise": "A.", "hypothesis": "B.", "label": "entailment", "idx": 0}


@pytest.mark.parametrize("damaged", ["val.jsonl", "train.jsonl", "test.jsonl", "instructions.jsonl"])
def test_half_a_character_is_named_in_every_split(tmp_path: Path, damaged: str) -> None:
    for task in ("RTE", "CB"):
        (tmp_path / task).mkdir()
        for name in ("val.jsonl", "train.jsonl", "test.jsonl", "instructions.jsonl"):
            is_damaged = (task, name) == ("CB", damaged)
            second = ROW | {"idx": 1, "premise": "half \ud83d" if is_damaged else "whole \U0001f600"}
            (tmp_path / task / name).write_text(json.dumps(ROW) + "\n" + json.dumps(second) + "\n", encoding="ascii")
    run = settings(
        "task=[cb,rte]", "arms=[original,self_instruct]", "train.setting=multi", "model=tiny_decoder", "data.source=local", f"data.dir={tmp_path}",
        "eval.submission=true", f"data.self_instruct={tmp_path / 'CB' / 'instructions.jsonl'}",
    )  # fmt: skip
    with pytest.raises(UserError, match=rf"{damaged}:2: got half a character"):
        check_local_rows(run)


OPENLLM = ["eval.openllm.suite=openllm_4", "eval.openllm.tasks=[mmlu]", "eval.superglue=false"]
REFUSED = [
    ("instructions.jsonl", [{"text": "A river."}], [], r"instructions.jsonl:1: got the fields text. Expected {instruction, input"),
    ("mmlu/anatomy/test.jsonl", [{**mmlu("anatomy", 1)[0], "answer": "E"}], ["eval.openllm.num_fewshot=0"], r"answer: got 'E', expected 0 to 3"),
    ("mmlu/anatomy/dev.jsonl", mmlu("anatomy", 4), [], "dev.jsonl: got 4 rows, expected at least 5, the examples that mmlu/anatomy shows"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rows", "overrides", "words"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_a_run_is_refused_before_its_first_call(
    tmp_path: Path, name: str, rows: list[Json], overrides: list[str], words: str
) -> None:
    """Instruction data and OpenLLM files are read as they will be for training and scoring."""
    write(tmp_path / "mmlu" / "anatomy" / "test.jsonl", mmlu("anatomy", 2))
    write(tmp_path / "mmlu" / "anatomy" / "dev.jsonl", mmlu("anatomy", 5))
    write(tmp_path / "instructions.jsonl", [{"instruction": "Name a river.", "output": "The Rhine"}])
    write(tmp_path / name, rows)
    done = command(
        "targen.run", "task=[cb,rte]", "arms=[synthetic,self_instruct]", "train.setting=multi", "model=tiny_decoder",
        "data.source=fixture", f"data.self_instruct={tmp_path / 'instructions.jsonl'}", f"run.dir={tmp_path / 'run'}",
        f"eval.openllm.data_dir={tmp_path}", *OPENLLM, *overrides,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line
    assert not (tmp_path / "run").exists()
