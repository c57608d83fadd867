"""The shipped recording: good for its experiment and the quickstart, balanced, and no topic that gives a label away."""

import json
from collections import Counter
from pathlib import Path

import pytest

from targen.generate import generate
from targen.llm.backends.recorded import RECORDINGS
from tests.support.commands import TASKS, lines, settings

SUPERGLUE = RECORDINGS / "superglue"
QUICKSTART = settings()


@pytest.fixture(scope="module")
def quickstart_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    generate(settings(f"run.dir={folder}"))
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_the_recording_gives_24_balanced_rows_a_task(quickstart_run: Path, name: str) -> None:
    task, folder = QUICKSTART.tasks[name], quickstart_run / "synthetic" / name
    rows = lines(folder / "train.jsonl")
    assert [row["idx"] for row in rows] == list(range(24))
    for row in rows:
        task.check_format(row)
    if task.labels:
        counts = {label.name: sum(task.label_of(row) == label.name for row in rows) for label in task.labels}
        assert set(counts.values()) == {24 // len(task.labels)}
    assert len({task.duplicate_key(row) for row in rows}) == 24


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is recorded."""
    folder = tmp_path_factory.mktemp("whole")
    generate(settings("+experiment=superglue_recorded", "synth.learnability_rows=0", f"run.dir={folder}"))
    return folder


def test_the_whole_recording_gives_the_sizes_of_its_experiment(full_run: Path) -> None:
    sizes = settings("+experiment=superglue_recorded").synth.size
    assert {name: len(lines(full_run / "synthetic" / name / "train.jsonl")) for name in TASKS} == {
        name: sizes[name] for name in TASKS
    }


def test_the_two_tasks_that_the_paper_leaves_out_are_recorded_too(tmp_path: Path) -> None:
    run = settings(
        "+experiment=superglue_recorded", "task=[multirc,axb]", "synth.learnability_rows=0", f"run.dir={tmp_path}"
    )
    generate(run)
    for name in ("multirc", "axb"):
        rows = lines(tmp_path / "synthetic" / name / "train.jsonl")
        for row in rows:
            run.tasks[name].check_format(row)
        assert len({run.tasks[name].duplicate_key(row) for row in rows}) == run.synth.size[name] == 24
        recorded = {call["id"] for call in lines(SUPERGLUE / f"{name}.jsonl")}
        assert {call["id"] for call in lines(tmp_path / "calls" / f"{name}.jsonl")} == recorded


def test_a_context_does_not_give_label_or_variant_away(full_run: Path) -> None:
    """Where rows share contexts: 250 of CB and 400 of COPA in 50 contexts each. What a statement of CB is about and its
    length, drawn from three values with weights, fall alike for all five rows of a few contexts."""
    by_chance = {"cb": {"matter": 3, "statement_length": 2}, "copa": {}}
    for name in ("cb", "copa"):
        stats = json.loads((full_run / "synthetic" / name / "stats.json").read_text(encoding="utf-8"))
        assert stats["contexts_used"] == 50
        one_value = {key: contexts for key, contexts in stats["contexts_with_one_value_only"].items() if contexts}
        assert one_value == by_chance[name]
        assert {"label"} <= set(stats["contexts_with_one_value_only"])


def test_the_position_of_a_seed_in_its_call_does_not_give_the_label_away(full_run: Path) -> None:
    for name in ("cb", "copa", "rte"):
        counts: dict[str, Counter[int]] = {}
        for record in lines(full_run / "synthetic" / name / "provenance.jsonl"):
            if record["seed_position"] is not None:
                counts.setdefault(record["label_before"], Counter())[record["seed_position"]] += 1
        for positions in counts.values():
            assert set(positions) == {0, 1} and abs(positions[0] - positions[1]) <= 0.2 * positions.total()


def test_labels_in_original_proportions_come_from_the_same_calls(tmp_path: Path) -> None:
    shares = ["task=cb", "synth.label_share=original", "synth.self_correct=off"]
    generate(settings("+experiment=superglue_recorded", "synth.learnability_rows=0", *shares, f"run.dir={tmp_path}"))
    rows = lines(tmp_path / "synthetic" / "cb" / "train.jsonl")
    assert Counter(row["label"] for row in rows) == {"contradiction": 119, "entailment": 115, "neutral": 16}


def test_pairs_of_axg_differ_in_the_pronoun_only(quickstart_run: Path) -> None:
    rows = lines(quickstart_run / "synthetic" / "axg" / "train.jsonl")
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert first["hypothesis"] == second["hypothesis"]
        assert first["label"] == second["label"]
        words = zip(first["premise"].split(), second["premise"].split(), strict=True)
        assert sum(word != other_word for word, other_word in words) == 1


def test_recorded_calls_are_those_of_the_experiment(full_run: Path) -> None:
    """CB has those of other corrections, label shares and methods too."""
    for name in TASKS:
        recorded = {call["id"] for call in lines(SUPERGLUE / f"{name}.jsonl")}
        used = {call["id"] for call in lines(full_run / "calls" / f"{name}.jsonl")}
        assert used < recorded if name == "cb" else used == recorded


@pytest.mark.parametrize(
    "overrides",
    [("synth.self_correct=drop",), ("synth.correct_blind=true",), ("synth.label_share=original",)]
    + [(f"method={method}", "synth.size={cb:120}") for method in ("zero_shot", "zero_shot_topic")],
)
def test_cb_has_other_corrections_shares_and_methods(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    generate(
        settings(
            "+experiment=superglue_recorded", "task=cb", "synth.learnability_rows=0", *overrides, f"run.dir={tmp_path}"
        )
    )
    size = 120 if "method" in overrides[0] else 250
    assert len(lines(tmp_path / "synthetic" / "cb" / "train.jsonl")) == size


def test_the_card_says_what_it_is() -> None:
    card = (SUPERGLUE / "CARD.md").read_text(encoding="utf-8")
    for words in ("Answers of a large language model", "No writer looked at an\noriginal row", "Limits"):
        assert words in card


@pytest.mark.parametrize("name", ["sst2", "trec", "ag_news", "emotion"])
def test_text_classification_is_replayed_from_its_packed_recording(tmp_path: Path, name: str) -> None:
    run = ("arms=[synthetic]", "synth.learnability_rows=0", f"task={name}", f"run.dir={tmp_path}")
    generate(settings("+experiment=text_classification", *run))
    labels = Counter(row["label"] for row in lines(tmp_path / "synthetic" / name / "train.jsonl"))
    assert sum(labels.values()) == 200 and max(labels.values()) - min(labels.values()) <= 1
    generate(settings("+experiment=text_classification", "method=zero_shot", *run[:3], f"run.dir={tmp_path}-zero"))
    assert len(lines(Path(f"{tmp_path}-zero", "synthetic", name, "train.jsonl"))) == 200


def test_five_blind_votes_on_each_message_are_recorded(tmp_path: Path) -> None:
    votes = ("task=emotion", "synth.self_correct=vote", "synth.correct_blind=true", "synth.learnability_rows=0")
    generate(settings("+experiment=text_classification", *votes, f"run.dir={tmp_path}"))
    counts = [record["votes"] for record in lines(tmp_path / "synthetic" / "emotion" / "provenance.jsonl")]
    assert [sum(count.values()) for count in counts] == [5] * 200
    assert sum(len(count) > 1 for count in counts) == 2
