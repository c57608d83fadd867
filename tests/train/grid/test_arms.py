"""Arms, mixtures and instructions: which rows a cell is trained on, what it is shown, and that it is scored per task."""

import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from eval.run import evaluate
from eval.scoring.scores import read_scores
from eval.tables.score_tables import score_lines
from targen.runtime.errors import UserError
from tests.support.commands import command, lines
from tests.support.small_data import SPECS, examples_of, small_run
from train.data.rendering import instruction_prompt
from train.families.base import FewShot
from train.families.encoder import EncoderFamily, head_names
from train.families.seq2seq import Seq2SeqFamily
from train.grid.arms import training_rows
from train.grid.cells import cells
from train.grid.checkers import training_job
from train.grid.encoding import positive_examples
from train.grid.mixture import epoch_counts, epoch_examples
from train.grid.rows import TaskRows, apportion, stratified_sample
from train.loop.losses import batch_loss
from train.loop.preparation import prepare
from train.models.loading import Loaded
from train.run import train

encoder, seq2seq = EncoderFamily(), Seq2SeqFamily()


def test_shares_by_largest_remainder() -> None:
    assert apportion([119, 115, 16], 50) == [24, 23, 3]  # CB's labels: 23.8, 23 and 3.2
    assert apportion([1, 1, 1], 2) == [1, 1, 0]
    sample = stratified_sample("aaaabbbbcc", "aaaabbbbcc", 5, random.Random(0))
    assert sample == ("a", "a", "b", "b", "c")
    assert stratified_sample("abc", "abc", 9, random.Random(0)) == ("a", "b", "c")


def test_how_often_a_mixture_shows_each_task() -> None:
    assert epoch_counts([100, 900], "proportional", 2.0) == [100, 900]
    assert epoch_counts([100, 900], "equal", 2.0) == [900, 900]
    assert epoch_counts([100, 900], "temperature", 2.0) == [300, 900]  # square roots: 10 to 30
    epoch = epoch_examples(["a", "b"], [4, 10], "equal", 2.0, seed=0)
    assert Counter(name for name, _ in epoch) == {"a": 10, "b": 10}
    assert sorted(Counter(index for name, index in epoch if name == "a").values()) == [2, 2, 3, 3]
    assert {index for name, index in epoch if name == "b"} == set(range(10))
    assert epoch == epoch_examples(["a", "b"], [4, 10], "equal", 2.0, seed=0)
    assert epoch != epoch_examples(["a", "b"], [4, 10], "equal", 2.0, seed=1)


def test_a_cap_leaves_rows_of_a_task_out_label_by_label(tmp_path: Path) -> None:
    overrides = ("model=tiny_encoder", "arms=[synthetic]", "train.setting=multi", "train.mixture_cap=4")
    run = small_run(tmp_path, *overrides, tasks=("rte", "copa"))
    (cell,) = cells(run)
    assert cell == cells(small_run(tmp_path, *overrides, tasks=("copa", "rte")))[0]
    encoded = prepare(training_job(run, cell)).epoch.encoded
    counts = Counter((example.sequence_count, example.gold) for example in encoded)
    assert counts == {(2, 0): 2, (2, 1): 2, (1, 0): 2, (1, 1): 2}


def labels(part: TaskRows) -> Counter[str]:
    return Counter(str(row["label"]) for row in part.rows)


def test_the_mixed_arm_has_all_synthetic_rows_and_original_ones_label_by_label(tmp_path: Path) -> None:
    for share, count in (("50%", 5), ("4", 4), ("300%", 10)):
        run = small_run(tmp_path, "arms=[mixed]", f"train.mixed_original={share}")
        original, synthetic = training_rows(run, cells(run)[0])
        assert (original.real, synthetic.real) == (True, False)
        assert (len(original.rows), len(synthetic.rows)) == (count, 10)
        assert max(labels(original).values()) - min(labels(original).values()) <= 1
    with pytest.raises(UserError, match=r"train\.mixed_original: got 'half'"):
        small_run(tmp_path, "train.mixed_original=half")


def test_arms_of_equal_size(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[original,synthetic,mixed]", "train.equal_size=true", "train.mixed_original=50%")
    path = run.paths.synthetic("cb") / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:6]))
    sizes = {cell.arm: [len(part.rows) for part in training_rows(run, cell)] for cell in cells(run)}
    assert sizes == {"original": [6], "synthetic": [6], "mixed": [2, 4]}  # 3 of 9 are original


def test_rte_stands_in_for_axg_once(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[original]", tasks=("axg", "rte"))
    assert [part.task.name for part in training_rows(run, cells(run)[0])] == ["rte"]  # single: axg trains on RTE
    mixture = small_run(tmp_path, "arms=[original]", "train.setting=multi", tasks=("axg", "rte"))
    (cell,) = cells(mixture)
    assert [(part.task.name, len(part.rows)) for part in training_rows(mixture, cell)] == [("rte", 10)]


def test_rte_stands_in_once_for_both_diagnostic_sets(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[original]", "train.setting=multi", tasks=("axb", "axg"), original=("rte",))
    (cell,) = cells(run)
    assert [(part.task.name, part.count) for part in training_rows(run, cell)] == [("rte", 10)]


def test_rows_that_stand_in_are_shown_with_the_names_of_the_task_that_asks(tmp_path: Path) -> None:
    overrides = ("arms=[original]", "model=tiny_decoder", "train.instruct=true", "train.instruct_examples=1")
    run = small_run(tmp_path, *overrides, tasks=("axb",), original=("rte",))
    (cell,) = cells(run)
    rows = training_rows(run, cell)
    examples = examples_of("axb")
    shown = positive_examples(run, cell, rows, SPECS["axb"], examples, training=False)
    for example, (positive,) in zip(examples, shown, strict=True):
        text = instruction_prompt(SPECS["axb"], example, [positive])
        assert f"First sentence: {positive.fields['sentence1']}\nSecond sentence: " in text
    assert {positive.fields["sentence1"] for (positive,) in shown} <= {e.fields["premise"] for e in examples_of("rte")}
    with pytest.raises(
        UserError, match=r"original_fields: got 'sentence2' for 'sentence2', expected one of premise, hypothesis"
    ):
        small_run(tmp_path, "~tasks.axb.original_fields.sentence2", tasks=("axb",), original=("rte",))


def test_examples_are_counted_and_drawn_where_a_row_has_several(tmp_path: Path) -> None:
    """The fixture of MultiRC has 59 answers in 8 passages, that of ReCoRD 18 queries in 10."""
    run = small_run(tmp_path, "arms=[original,synthetic]", "train.max_rows=20", tasks=("multirc",))
    for cell in cells(run):
        (part,) = training_rows(run, cell)
        assert part.count == len(part.examples()) == 20
        job = training_job(run, cell)
        assert job.row_count == 20
    again = small_run(tmp_path, "arms=[original]", "train.max_rows=21", tasks=("multirc",))
    assert training_job(again, cells(again)[0]).fingerprint != training_job(run, cells(run)[0]).fingerprint
    path = run.paths.synthetic("multirc") / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    equal = small_run(tmp_path / "other", "arms=[original,synthetic]", "train.equal_size=true", tasks=("record",))
    record_path = equal.paths.synthetic("record") / "train.jsonl"
    record_path.write_text(record_path.read_text().splitlines(keepends=True)[0])
    assert [[part.count for part in training_rows(equal, cell)] for cell in cells(equal)] == [[2], [2]]
    mixed = small_run(
        tmp_path / "mixed", "arms=[mixed]", "train.mixed_original=50%", "train.max_rows=null", tasks=("multirc",)
    )
    (cell,) = cells(mixed)
    original, synthetic = training_rows(mixed, cell)
    assert (original.count, synthetic.count) == (30, 59)
    assert_whole(example.groups for example in original.examples())


WHOLE = Counter(example.groups for example in examples_of("multirc"))


def assert_whole(groups: Iterable[tuple[int, ...]]) -> None:
    """At most one of MultiRC's questions lacks answers."""
    counts = Counter(groups)
    assert sum(count < WHOLE[group] for group, count in counts.items()) <= 1


def test_arms_of_equal_size_and_mixtures_have_whole_questions(tmp_path: Path) -> None:
    equal = small_run(tmp_path, "arms=[original,synthetic]", "train.equal_size=true", tasks=("multirc",))
    path = equal.paths.synthetic("multirc") / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    parts = [part for cell in cells(equal) for part in training_rows(equal, cell)]
    assert len({part.count for part in parts}) == 1
    assert parts[0].count < WHOLE.total()
    for part in parts:
        assert_whole(example.groups for example in part.examples())
    overrides = ("model=tiny_encoder", "arms=[synthetic]", "train.setting=multi", "train.mixture_cap=20")
    capped = small_run(tmp_path / "mixture", *overrides, tasks=("rte", "multirc"))
    epoch = prepare(training_job(capped, cells(capped)[0])).epoch
    examples = [example for example in epoch.examples if example.task == "multirc"]
    assert len(examples) == 20
    assert_whole(example.groups for example in examples)


def test_questions_are_drawn_whole_with_all_their_answers(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[original]", "train.max_rows=20", "seeds=[0,1,2]", tasks=("multirc",))
    samples = []
    for cell in cells(run):
        (part,) = training_rows(run, cell)
        groups = Counter(example.groups for example in part.examples())
        assert groups.total() == 20
        assert_whole(example.groups for example in part.examples())
        samples.append(groups)
    assert samples[0] != samples[1] != samples[2]


def test_whole_passages_are_held_out(tmp_path: Path) -> None:
    overrides = ("arms=[synthetic]", "train.validate_every=1", "train.hold_out=0.25", "train.max_rows=40")
    run = small_run(tmp_path, *overrides, tasks=("multirc",))
    job = training_job(run, cells(run)[0])
    passages = [
        {example.groups[0] for part in parts for example in part.examples()} for parts in (job.rows, job.held_out)
    ]
    assert passages[0].isdisjoint(passages[1])
    assert sum(part.count for part in (*job.rows, *job.held_out)) == 40


def test_one_head_of_several_tasks_is_a_head_per_task() -> None:
    """An example's loss and gradient touch the columns of its own task only."""
    names = head_names([SPECS[name] for name in ("cb", "copa", "rte", "axg")])
    assert names == [
        "cb.entailment", "cb.contradiction", "cb.neutral", "copa.score", "rte.entailment", "rte.not_entailment",
    ]  # fmt: skip
    logits = torch.tensor([[1.0, 2.0, 3.0, 9.0, 9.0, 9.0], [9, 9, 9, 1, 9, 9], [9, 9, 9, 2, 9, 9]], requires_grad=True)
    targets = torch.tensor([[2, 1, 0, 3], [0, 2, 3, 1]])  # an example of CB, then one of COPA with two sequences

    class Outputs:
        pass

    outputs = Outputs()
    outputs.logits = logits
    cb = torch.nn.functional.cross_entropy(torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([2]))
    copa = torch.nn.functional.cross_entropy(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    loss = batch_loss(encoder, outputs, targets)
    assert loss.item() == pytest.approx(((cb + copa) / 2).item())
    loss.backward()
    assert (logits.grad != 0).tolist() == [
        [True, True, True, False, False, False],
        [False, False, False, True, False, False],
        [False, False, False, True, False, False],
    ]


@pytest.mark.parametrize("model", ["tiny_encoder", "tiny_decoder"])
def test_a_mixture_is_one_model_scored_per_task(tmp_path: Path, model: str) -> None:
    names = ("cb", "copa", "axg")
    run = small_run(
        tmp_path, f"model={model}", "train.setting=multi", "train.mixture=equal", tasks=names, original=("rte",)
    )
    train(run)
    evaluate(run)
    folder = run.paths.root
    assert {path.name for path in (folder / "models").iterdir()} == {
        f"{model}-multi-axg_cb_copa-{arm}-s0" for arm in ("original", "synthetic")
    }
    rows = lines(run.paths.scores)
    assert {(row["task"], row["arm"], row["setting"]) for row in rows} == {
        (name, arm, "multi") for name in names for arm in ("original", "synthetic")
    }
    cell = f"{model}-multi-axg_cb_copa-synthetic-s0"
    for name in names:
        assert len(lines(folder / "predictions" / f"{cell}.{name}.jsonl")) == 10
    table = score_lines([SPECS[name] for name in names], ["original", "synthetic"], read_scores(run.paths.scores))
    assert [line.title for line in table] == ["CB", "CB", "COPA", "AX-g", "AX-g"]
    before = run.paths.scores.read_bytes()
    evaluate(run)
    assert run.paths.scores.read_bytes() == before


def test_the_layout_of_instructions() -> None:
    task, (example, shown, *_) = SPECS["cb"], examples_of("cb")
    answer = task.labels[shown.gold[0]].verbalizer
    assert instruction_prompt(task, example, [shown]) == (
        f"Definition: {task.description} Is the author of the premise committed to the hypothesis? true or false or neither? "
        "Answer true for entailment, false for contradiction, neither for neutral.\n\n"
        "Positive Example 1 -\n"
        f"Input: Premise: {shown.fields['premise']}\nHypothesis: {shown.fields['hypothesis']}\n"
        f"Output: {answer}\n\n"
        "Now complete the following example -\n"
        f"Input: Premise: {example.fields['premise']}\nHypothesis: {example.fields['hypothesis']}\n"
        "Output:"
    )


def test_positive_examples_are_other_training_rows_drawn_by_the_seed(tmp_path: Path) -> None:
    run = small_run(tmp_path, "model=tiny_seq2seq", "train.instruct=true", "arms=[original]", "seeds=[0,1]")
    task, examples = SPECS["cb"], examples_of("cb")
    shown = {}
    for cell in cells(run):
        parts = training_rows(run, cell)
        shown[cell.seed] = positive_examples(run, cell, parts, task, examples, training=True)
        assert shown[cell.seed] == positive_examples(run, cell, parts, task, examples, training=True)
        for positive, example in zip(shown[cell.seed], examples, strict=True):
            assert len(positive) == 2
            assert example not in positive
    assert shown[0] != shown[1]


def test_positive_examples_give_way_to_the_input(tmp_path: Path) -> None:
    task, (example, *others) = SPECS["cb"], examples_of("cb")
    loaded = Loaded(None, seq2seq.load_tokenizer(small_run(tmp_path, "model=tiny_seq2seq").model))
    for count in (2, 1, 0):
        limit = len(instruction_prompt(task, example, others[:count]).encode()) + 10
        (encoded,) = seq2seq.encode(loaded, task, [example], limit, FewShot([others[:2]], instructs=True))
        assert loaded.tokenizer.decode(encoded.prompt) == instruction_prompt(task, example, others[:count]) + "</s>"


def test_instructions_and_going_on_from_a_trained_cell(tmp_path: Path) -> None:
    tasks, small = ("cb", "rte"), ("model=tiny_seq2seq", "arms=[synthetic]", "train.instruct=true")
    first = small_run(tmp_path, *small, "train.setting=multi", tasks=tasks)
    train(first)
    (start,) = cells(first)
    assert start.name == "tiny_seq2seq-multi-instruct-cb_rte-synthetic-s0"
    then = small_run(tmp_path, *small, f"train.init_from={start.name}", "train.learning_rate=1e-12")
    train(then)
    (cell,) = cells(then)
    assert cell.name == "tiny_seq2seq-single-instruct-init-cb-synthetic-s0"
    evaluate(then)
    weights = [torch_weights(run.paths.model(name)) for run, name in ((first, start.name), (then, cell.name))]
    assert all(torch.allclose(weight, weights[1][name], atol=1e-6) for name, weight in weights[0].items())


def test_an_encoder_goes_on_with_its_own_rows_of_the_shared_head(tmp_path: Path) -> None:
    small = ("model=tiny_encoder", "arms=[synthetic]")
    first = small_run(tmp_path, *small, "train.setting=multi", tasks=("cb", "rte"))
    train(first)
    (start,) = cells(first)
    then = small_run(tmp_path, *small, f"train.init_from={start.name}", "train.learning_rate=1e-12")
    train(then)
    shared, single = (torch_weights(run.paths.model(cells(run)[0].name))["classifier.weight"] for run in (first, then))
    assert torch.allclose(single, shared[:3], atol=1e-6)  # cb stands first


def test_an_empty_arm_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path, "arms=[synthetic]")
    (run.paths.synthetic("cb") / "train.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"train\.jsonl: got no row, expected rows of CB"):
        train(run)


def torch_weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def test_a_start_that_is_none_or_of_another_model_is_refused(tmp_path: Path) -> None:
    first = small_run(tmp_path, "model=tiny_encoder", "arms=[synthetic]")
    train(first)
    (start,) = cells(first)
    other = small_run(tmp_path, "model=tiny_decoder", "arms=[synthetic]", f"train.init_from={start.name}")
    with pytest.raises(UserError, match=r"is tiny_encoder \(encoder\), expected tiny_decoder \(decoder\)"):
        train(other)
    missing = command("targen.run", "train.init_from=nothing", f"run.dir={tmp_path / 'new'}")
    assert (missing.returncode, "expected a trained cell, but there is none" in missing.stderr) == (2, True)
    assert not (tmp_path / "new").exists()


MISTAKES = [
    (["train.instruct=true"], "train.instruct: got true with the encoder minilm, which reads no instructions."),
    (["train.setting=multi"], "train.setting: got multi with one task, cb"),
    (["arms=[mixed]", "data.source=fixture"], "arms: got mixed with data.source=fixture"),
    (
        ["train.equal_size=true", "arms=[synthetic]"],
        "train.equal_size: got true with the arms ['synthetic'], expected at least two that are trained",
    ),
    (
        ["train.mixture=temperature", "train.mixture_temperature=1"],
        "which is train.mixture=proportional, expected more than 1.",
    ),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_what_has_no_sense_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError) as err:
        small_run(tmp_path, *overrides)
    assert words in str(err.value)
