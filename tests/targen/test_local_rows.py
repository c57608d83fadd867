"""Local rows are read once before the first phase: a damaged one is named before anything is asked or trained."""

import json
from pathlib import Path

import pytest

from targen.data.checks import check_local_rows
from targen.runtime.errors import UserError
from tests.support.commands import settings

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
