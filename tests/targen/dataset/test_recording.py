"""The shipped recording: good for the quickstart, balanced, and no topic that gives a label away."""

from collections import defaultdict
from pathlib import Path

import pytest

from targen.generate import generate
from targen.llm.backends.recorded import SHIPPED
from tests.support.commands import TASKS, lines, settings

QUICKSTART = settings()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    generate(settings(f"run.dir={folder}"))
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_the_recording_gives_24_balanced_rows_a_task(made: Path, name: str) -> None:
    task, folder = QUICKSTART.tasks[name], made / "synthetic" / name
    rows = lines(folder / "train.jsonl")
    assert [row["idx"] for row in rows] == list(range(24))
    for row in rows:
        task.check_format(row)
    if task.labels:
        counts = {label.name: sum(task.label_of(row) == label.name for row in rows) for label in task.labels}
        assert set(counts.values()) == {24 // len(task.labels)}
    assert len({task.duplicate_key(row) for row in rows}) == 24


@pytest.mark.parametrize("name", [name for name in TASKS if name != "record"])
def test_a_context_does_not_give_the_label_away(made: Path, name: str) -> None:
    labels = defaultdict(set)
    for story in lines(made / "synthetic" / name / "provenance.jsonl"):
        labels[story["context"]].add(story["label_before"])
    assert sum(len(found) > 1 for found in labels.values()) >= 0.5 * len(labels)


def test_pairs_of_axg_differ_in_the_pronoun_only(made: Path) -> None:
    rows = lines(made / "synthetic" / "axg" / "train.jsonl")
    for one, two in zip(rows[::2], rows[1::2], strict=True):
        assert one["hypothesis"] == two["hypothesis"]
        assert one["label"] == two["label"]
        changed = [(a, b) for a, b in zip(one["premise"].split(), two["premise"].split(), strict=True) if a != b]
        assert len(changed) == 1


def test_every_recorded_call_is_used(made: Path) -> None:
    for name in TASKS:
        recorded = {call["id"] for call in lines(SHIPPED / f"{name}.jsonl")}
        assert {call["id"] for call in lines(made / "calls" / f"{name}.jsonl")} == recorded


def test_the_card_says_what_it_is() -> None:
    card = (SHIPPED / "CARD.md").read_text(encoding="utf-8")
    for words in ("recorded completions of a large language model", "demonstration", "proves nothing"):
        assert words in card
