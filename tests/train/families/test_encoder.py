"""The encoder: what it reads, what its loss is, that it learns, that the weights are the ones named."""

import dataclasses
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from targen.config.required_files import local_file
from targen.data.original import FIXTURE, read_rows
from targen.runtime.errors import UserError
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example
from tests.support.commands import ORIGINALS, settings
from tests.support.small_data import small_overrides
from train.data.rendering import fewer_choices
from train.families.encoder import EncodedPairs, EncoderFamily, example_logits
from train.grid.arms import training_rows
from train.grid.cells import cells
from train.loop.losses import batch_loss
from train.models.loading import Loaded, resolve
from train.run import train

family = EncoderFamily()

SETTINGS = settings()
SPECS = SETTINGS.tasks


@pytest.fixture(scope="module")
def minilm() -> Loaded:
    return family.load_pretrained(SETTINGS.model, *SPECS.values())


def example_of(name: str, **fields: str) -> Example:
    task = SPECS[name]
    first = task.examples(read_rows(local_file(FIXTURE, task, task.eval_split), task)[0])[0]
    return dataclasses.replace(first, fields={**first.fields, **fields})


def text_of(encoder: Loaded, encoded: EncodedPairs, number: int = 0) -> str:
    return encoder.tokenizer.decode(encoded.sequences[number]["input_ids"])


def test_what_the_encoder_reads() -> None:
    wic = encoder_texts(SPECS["wic"], example_of("wic", word="run", marked1="I *ran* off.", marked2="A *run* on gold."))
    assert wic == [("run: I *ran* off.", "A *run* on gold.")]
    copa = dataclasses.replace(
        example_of("copa", premise="It rained.", question="effect"), choices=("He got wet.", "He sang.")
    )
    assert encoder_texts(SPECS["copa"], copa) == [
        ("It rained. What was the effect of this?", "He got wet."),
        ("It rained. What was the effect of this?", "He sang."),
    ]
    record = dataclasses.replace(
        example_of("record", query="Then @placeholder won.", passage="P"), choices=("Oslo", "Lima")
    )
    assert encoder_texts(SPECS["record"], record) == [("Then Oslo won.", "P"), ("Then Lima won.", "P")]


def test_the_question_survives_a_passage_that_is_too_long(minilm: Loaded) -> None:
    for name, field in (("boolq", "question"), ("record", "query")):
        long = example_of(name, passage="many words " * 900, **{field: "is this still here @placeholder"})
        (encoded,) = family.encode(minilm, SPECS[name], [long], 64)
        for number, sequence in enumerate(encoded.sequences):
            assert len(sequence["input_ids"]) == 64
            assert "is this still here" in text_of(minilm, encoded, number)


def test_the_clause_of_cb_survives_since_it_stands_last(minilm: Loaded) -> None:
    long = example_of("cb", premise="early words " * 300 + "I doubt that it sank", hypothesis="it sank")
    (encoded,) = family.encode(minilm, SPECS["cb"], [long], 48)
    assert "i doubt that it sank [SEP] it sank" in text_of(minilm, encoded)


def test_even_a_question_that_fills_the_whole_length_is_encoded(minilm: Loaded) -> None:
    (encoded,) = family.encode(minilm, SPECS["boolq"], [example_of("boolq", question="word " * 500)], 32)
    assert len(encoded.sequences[0]["input_ids"]) == 32


@pytest.mark.parametrize("folder", [FIXTURE, ORIGINALS], ids=["fixture", "originals"])
def test_no_question_is_cut(minilm: Loaded, folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip("the original SuperGLUE files are not beside the project")
    task = SPECS["boolq"]
    rows = read_rows(local_file(folder, task, "val"), task)[:400]
    examples = [example for row in rows for example in task.examples(row)]
    for example, encoded in zip(examples, family.encode(minilm, task, examples, 64), strict=True):
        question = minilm.tokenizer(example.fields["question"], add_special_tokens=False)["input_ids"]
        assert encoded.sequences[0]["input_ids"][1 : 1 + len(question)] == question


def test_choices_of_an_example_are_scored_against_one_another() -> None:
    logits = torch.tensor([[2.0], [0.0], [1.0], [1.0], [3.0]])  # two choices, then three
    labels = torch.tensor([[0, 2, 0, 1], [2, 3, 0, 1]])
    scores = example_logits(logits, labels)
    assert scores.tolist() == [[2.0, 0.0, float("-inf")], [1.0, 1.0, 3.0]]

    class Outputs:
        pass

    outputs = Outputs()
    outputs.logits = logits
    first = -torch.log(torch.exp(torch.tensor(2.0)) / (torch.exp(torch.tensor(2.0)) + 1))
    second = -torch.log(
        torch.exp(torch.tensor(3.0)) / (torch.exp(torch.tensor(3.0)) + 2 * torch.exp(torch.tensor(1.0)))
    )
    assert batch_loss(family, outputs, labels).item() == pytest.approx(((first + second) / 2).item())
    part = batch_loss(family, outputs, labels, num_items_in_batch=torch.tensor(16))  # two of four examples of the batch
    assert part.item() == pytest.approx(((first + second) / 4).item())


def test_one_batch_in_parts_gives_the_gradient_of_the_whole(minilm: Loaded) -> None:
    minilm.model.eval()  # no dropout, so that the parts can be compared
    task = SPECS["rte"]
    examples = [example for row in read_rows(FIXTURE / "RTE" / "val.jsonl", task) for example in task.examples(row)][:8]
    encoded, collate = family.encode(minilm, task, examples, 64), family.collator(minilm)

    def gradient(parts: list[list[EncodedPairs]]) -> torch.Tensor:
        minilm.model.zero_grad()
        for part in parts:
            batch = collate(part)
            labels = batch.pop("labels")
            batch_loss(family, minilm.model(**batch), labels, torch.tensor(4 * 8)).backward()
        return minilm.model.classifier.weight.grad.clone()

    assert torch.allclose(gradient([encoded]), gradient([[example] for example in encoded]), atol=1e-6)


def test_fewer_choices_keep_one_right_answer_and_no_other() -> None:
    many = Example("record", 0, {}, tuple("abcdef"), (1, 4), ("b", "e"))
    for number in range(20):
        few = fewer_choices(many, 3, random.Random(number))
        assert len(few.choices) == 3
        assert few.choices[few.gold[0]] == "b"
        assert "e" not in few.choices
    all_right_but_one = Example("record", 0, {}, tuple("abc"), (0, 1), ("a", "b"))
    assert sorted(fewer_choices(all_right_but_one, 3, random.Random(0)).choices) == ["a", "c"]
    assert fewer_choices(replace(many, groups=(4, 2)), 3, random.Random(0)).groups == (4, 2)


def test_other_weights_than_the_ones_named_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"model.sha256: .*has [0-9a-f]{64}, expected 53aa"):
        resolve(dataclasses.replace(SETTINGS.model, path=str(tmp_path)))
    with pytest.raises(UserError, match=r"has no model\.safetensors"):
        resolve(dataclasses.replace(SETTINGS.model, path="some/hub-id"))
    with pytest.raises(UserError, match="the package not_there is not installed"):
        resolve(dataclasses.replace(SETTINGS.model, path="package:not_there/model"))


def copa_run(folder: Path, *overrides: str):
    run = settings(
        f"run.dir={folder}", "task=copa", "arms=[synthetic]", "data.source=fixture", "train.max_length=32", *overrides
    )
    path = run.paths.synthetic("copa") / "train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((FIXTURE / "COPA" / "val.jsonl").read_bytes())
    return run


def test_training_learns_resumes_by_cell_and_is_deterministic(tmp_path: Path) -> None:
    first, second = copa_run(tmp_path / "one", "train.epochs=2"), copa_run(tmp_path / "two", "train.epochs=2")
    train(first)
    train(second)
    (cell,) = cells(first)
    weights = [run.paths.model(cell.name) / "model.safetensors" for run in (first, second)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    (first.paths.model(cell.name) / "done.json").unlink()  # as after a kill
    train(first)
    assert weights[0].read_bytes() == weights[1].read_bytes()
    changed = weights[0].stat().st_mtime_ns
    train(first)
    assert weights[0].stat().st_mtime_ns == changed
    with pytest.raises(
        UserError, match=r"was trained with different settings or rows: train\.epochs was 2\.0 and is 3\.0"
    ):
        train(copa_run(tmp_path / "one", "train.epochs=3"))


def test_the_original_arm_of_axg_is_trained_on_our_own_rows_of_rte(tmp_path: Path) -> None:
    run = settings(*small_overrides(tmp_path, "arms=[original]", tasks=("axg",), original=("rte",)))
    (part,) = training_rows(run, cells(run)[0])
    assert (part.task.name, part.real) == ("rte", True)
    assert list(part.rows) == list(read_rows(local_file(FIXTURE, SPECS["rte"], "val"), SPECS["rte"]))
    few = small_overrides(tmp_path, "arms=[original]", "train.max_rows=4", tasks=("axg",), original=("rte",))
    (part,) = training_rows(settings(*few), cells(settings(*few))[0])
    assert len(part.rows) == 4


def test_the_original_arm_of_axg_is_trained_on_rte(tmp_path: Path) -> None:
    if not ORIGINALS.is_dir():
        pytest.skip("the original SuperGLUE files are not beside the project")
    run = settings(f"run.dir={tmp_path}", "task=axg", "data.source=local", f"data.dir={ORIGINALS}", "arms=[original]")
    (cell,) = cells(run)
    (part,) = training_rows(run, cell)
    assert part.task.name == "rte"
    assert part.real
    assert len(part.rows) == run.train.max_rows


def test_a_control_token_in_a_row_is_text_and_equal_choices_are_known(minilm: Loaded) -> None:
    usual = example_of("copa")
    odd = dataclasses.replace(example_of("copa", premise="An [SEP] in [CLS] it."), choices=("He ran.", "he RAN."))
    encoded_usual, encoded_odd = family.encode(minilm, SPECS["copa"], [usual, odd], 100)
    assert not encoded_usual.has_equal_options
    assert encoded_odd.has_equal_options  # this vocabulary has no capital letters
    for sequence in encoded_odd.sequences:
        ids = sequence["input_ids"]
        assert (ids.count(minilm.tokenizer.cls_token_id), ids.count(minilm.tokenizer.sep_token_id)) == (1, 2)
