"""Predictions: how answers are ranked, generated and read, the examples shown to a model without finetuning, the files on disk."""

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from eval.run import evaluate, original_parts
from eval.scoring.prediction import predict_cell, read_predictions
from targen.config.groups.training import Model
from targen.config.settings import Settings
from targen.data.original import FIXTURE
from targen.runtime.errors import UserError
from targen.runtime.jsonl import write_jsonl
from targen.tasks.task import Example
from tests.support.commands import command, lines, settings
from tests.support.small_data import SPECS, examples_of, small_overrides, small_run, tiny_gpt2, tiny_overrides
from train.data.rendering import cued_prompt, prompt, read_answer, right_answer
from train.families.base import FewShot
from train.families.decoder import DecoderFamily
from train.families.registry import family_named, text_family_named
from train.families.seq2seq import Seq2SeqFamily
from train.families.text import EncodedContinuation
from train.grid.cells import cells
from train.grid.encoding import demonstrations, encode_for_prediction
from train.inference.batching import ItemSize, length_batches
from train.inference.generation import GeneratedText
from train.inference.ranking import log_likelihoods
from train.models.loading import Loaded, Loading
from train.run import train

decoder = DecoderFamily()
seq2seq = Seq2SeqFamily()

WRITERS = ("seq2seq", "decoder")
AS_IT_IS = ["model=tiny_decoder", "arms=[none]", "train.max_length=2000"]


@pytest.fixture(scope="module")
def tiny() -> dict[str, Loaded]:
    """Models of both families that answer in words, a token per byte."""
    models = {}
    for family in WRITERS:
        torch.manual_seed(0)
        models[family] = text_family_named(family).load_pretrained(settings(f"model=tiny_{family}").model, SPECS["cb"])
        models[family].model.eval()
    return models


def token_log_probabilities(family: str, loaded: Loaded, prompt: Sequence[int], answer: Sequence[int]) -> torch.Tensor:
    """Of the answer's tokens, (tokens,), by one plain forward pass: no padding, batching or cache."""
    with torch.no_grad():
        if family == "seq2seq":
            logits = loaded.model(input_ids=torch.tensor([prompt]), labels=torch.tensor([answer])).logits[0]
        else:
            logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(1)[range(len(answer)), answer]


@pytest.mark.parametrize("name", ["record", "cb"])
@pytest.mark.parametrize("family", WRITERS)
def test_answers_are_ranked_by_the_sum_or_the_mean_over_their_tokens(
    family: str, name: str, tiny: dict[str, Loaded]
) -> None:
    """Also where a prompt has more answers than go through at once. The end of an answer is one of its tokens."""
    loaded, module = tiny[family], text_family_named(family)
    encoded = module.encode(loaded, SPECS[name], examples_of(name)[:3], 700)
    assert len({len(answer) for example in encoded for answer in example.answers}) > 1
    by_sum, by_mean = [], []
    for example in encoded:
        assert all(answer[-1] == loaded.tokenizer.eos_token_id for answer in example.answers)
        tokens = [token_log_probabilities(family, loaded, example.prompt, answer) for answer in example.answers]
        by_sum.append(torch.stack([values.sum() for values in tokens]).log_softmax(0).tolist())
        by_mean.append(torch.stack([values.mean() for values in tokens]).log_softmax(0).tolist())
    for batch_size in (1, 3, 64):
        for by_token, expected in ((False, by_sum), (True, by_mean)):
            predicted = dict(module.predict(loaded, encoded, batch_size, by_token=by_token))
            assert list(predicted) == sorted(range(3), key=lambda index: (-len(encoded[index].prompt), index))
            for index, scores in predicted.items():
                assert scores == pytest.approx(expected[index], abs=1e-4)


@pytest.mark.parametrize("family", WRITERS)
def test_log_likelihoods_are_sums_of_logarithms(family: str, tiny: dict[str, Loaded]) -> None:
    loaded, module = tiny[family], {"seq2seq": seq2seq, "decoder": decoder}[family]
    encoded = module.encode(loaded, SPECS["copa"], examples_of("copa")[:3], 900)
    score = partial(module.answer_scores, loaded)
    for index, sums in log_likelihoods(score, encoded, 4, torch.device("cpu")):
        example = encoded[index]
        tokens = [token_log_probabilities(family, loaded, example.prompt, answer) for answer in example.answers]
        assert sums.tolist() == pytest.approx([values.sum().item() for values in tokens], abs=1e-3)


def test_the_mean_may_choose_what_the_sum_does_not(tmp_path: Path) -> None:
    """Of entities of different length; scores of both are among those of the options."""
    predictions = {}
    for scoring in ("rank", "rank_normalised"):
        run = small_run(tmp_path / scoring, *AS_IT_IS, f"eval.scoring={scoring}", tasks=("record",))
        evaluate(run)
        predictions[scoring] = lines(run.paths.predictions(cells(run)[0].name))
        assert {row["scoring"] for row in lines(run.paths.scores)} == {scoring}
    by_sum, by_mean = predictions.values()
    assert len(by_sum) == len(by_mean)
    for line in (*by_sum, *by_mean):
        assert line["prediction"] == max(line["scores"], key=line["scores"].__getitem__)
        assert "text" not in line
    assert [line["prediction"] for line in by_sum] != [line["prediction"] for line in by_mean]


def test_batches_hold_like_lengths_and_no_more_than_fits() -> None:
    sizes = [
        ItemSize(length, 1, count)
        for length, count in ((10, 2), (900, 2), (700, 2), (9, 3), (900, 2), (8, 9), (800, 1))
    ]
    assert list(length_batches(sizes, 5, torch.device("cuda"))) == [[1, 4, 6], [2, 0], [3], [5]]
    assert list(length_batches(sizes, 5, torch.device("cpu"))) == [[1], [4], [6], [2], [0, 3], [5]]  # 2 x 700 > 1024
    assert list(length_batches([], 5, torch.device("cpu"))) == []


READ = [  # task, generated text, answer that is read from it
    ("cb", "true", "entailment"),
    ("cb", ' \n"False."\n', "contradiction"),
    ("cb", "“Neither”.", "neutral"),
    ("rte", "YES", "entailment"),
    ("rte", "yes, it does", None),
    ("rte", "yes no", None),
    ("rte", "entailment", None),  # the label's name is not what was asked for
    ("rte", "y", None),
    ("rte", "", None),
    ("rte", ' "." ', None),
    ("copa", "2", "choice2"),
    ("copa", "12", None),
    ("copa", "choice2", None),
    ("record", "  New York. ", "New York."),
    ("record", " \n ", None),
]


@pytest.mark.parametrize(("name", "text", "answer"), READ)
def test_what_was_written_is_read_strictly(name: str, text: str, answer: str | None) -> None:
    assert read_answer(SPECS[name], text) == answer


def greedy(family: str, loaded: Loaded, prompt_ids: list[int], count: int) -> list[int]:
    """Token by token, by plain forward passes."""
    tokens: list[int] = []
    while len(tokens) < count:
        with torch.no_grad():
            if family == "seq2seq":
                decoder_ids = torch.tensor([[0, *tokens]])
                logits = loaded.model(input_ids=torch.tensor([prompt_ids]), decoder_input_ids=decoder_ids).logits
            else:
                logits = loaded.model(torch.tensor([[*prompt_ids, *tokens]])).logits
        tokens.append(int(logits[0, -1].argmax()))
        if tokens[-1] == loaded.tokenizer.eos_token_id:
            break
        if family == "decoder" and "\n" in loaded.tokenizer.decode(tokens[-1:]):
            break
    return tokens


@pytest.mark.parametrize("family", WRITERS)
def test_the_likeliest_token_is_written_again_and_again(family: str, tiny: dict[str, Loaded]) -> None:
    """In batches of prompts of different length, and whatever settings of generation the model comes with."""
    loaded, module = tiny[family], text_family_named(family)
    encoded = module.encode(loaded, SPECS["cb"], examples_of("cb")[:5], 900)
    ids = [greedy(family, loaded, example.prompt, 8) for example in encoded]
    texts = loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)
    expected = {index: GeneratedText(text, cut=len(ids[index]) == 8) for index, text in enumerate(texts)}
    assert dict(module.generate(loaded, encoded, 2, 8)) == expected
    saved_config = loaded.model.generation_config
    sampling = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=9.0, min_new_tokens=8, num_beams=3)
    loaded.model.generation_config = sampling
    try:
        assert dict(module.generate(loaded, encoded, 3, 8)) == expected
        assert loaded.model.generation_config is sampling
    finally:
        loaded.model.generation_config = saved_config


def test_a_decoder_stops_at_the_end_of_the_line(tiny: dict[str, Loaded]) -> None:
    loaded = tiny["decoder"]
    encoded = decoder.encode(loaded, SPECS["cb"], examples_of("cb")[:1], 900)
    ids = greedy("decoder", loaded, encoded[0].prompt, 6)
    index = next((index for index, token in enumerate(ids) if token != ids[0]), 0)
    rows = loaded.model.get_output_embeddings().weight
    token_pair = torch.tensor([ids[index], loaded.tokenizer("\n")["input_ids"][0]])
    with torch.no_grad():
        rows[token_pair] = rows[token_pair.flip(0)]  # the model now writes a line end where it wrote this token
    try:
        assert dict(decoder.generate(loaded, encoded, 1, 6)) == {
            0: GeneratedText(loaded.tokenizer.decode(ids[:index]) + "\n", cut=False)
        }
    finally:
        with torch.no_grad():
            rows[token_pair] = rows[token_pair.flip(0)]


def test_nothing_is_written_beyond_the_models_positions(tmp_path: Path) -> None:
    loaded = decoder.load_pretrained(
        Model("gpt2", "decoder", str(tiny_gpt2(tmp_path)), None, 1e-3, "fp32"), SPECS["cb"]
    )
    word = loaded.tokenizer("the")["input_ids"][0]
    encoded = [EncodedContinuation([word] * count, ([1, 0],), gold=0) for count in (1022, 1018, 40)]
    alone = {index: next(decoder.generate(loaded, [example], 1, 8))[1] for index, example in enumerate(encoded)}
    assert dict(decoder.generate(loaded, encoded, 3, 8)) == alone
    assert len(loaded.tokenizer(alone[0].text)["input_ids"]) <= 2


def test_what_cannot_be_read_or_is_cut_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    overrides = ["eval.scoring=generate", "eval.max_new_tokens=3", "eval.max_rows=4"]
    run = small_run(tmp_path, *AS_IT_IS, *overrides, tasks=("cb", "record"))
    evaluate(run)
    rows = {(row["task"], row["metric"]): row for row in lines(run.paths.scores)}
    assert len(rows) == 4
    for row in rows.values():
        assert (row["scoring"], row["shots"], row["arm"], row["train_rows"]) == ("generate", 0, "none", None)
    assert rows["cb", "accuracy"] | {"value": 0.0, "unparsed": 4, "cut_answers": 4, "n": 4} == rows["cb", "accuracy"]
    for cell in cells(run):
        for line in lines(run.paths.predictions(cell.name)):
            assert line["scores"] == {}
            assert line["cut"] is True
            assert line["prediction"] == (None if cell.task == "cb" else line["text"].strip() or None)
    assert "4 of 4 answers of cb did not end within eval.max_new_tokens=3" in caplog.text


def test_a_model_that_writes_its_labels_is_read(tmp_path: Path) -> None:
    """Trained on ten rows: every answer it writes is one that it learnt."""
    overrides = ["train.epochs=40", "train.learning_rate=0.01", "arms=[synthetic]", "eval.scoring=generate"]
    run = small_run(tmp_path, "model=gpt2_large", f"model.path={tiny_gpt2(tmp_path / 'gpt2')}", *overrides)
    train(run)
    evaluate(run)
    (row,) = [row for row in lines(run.paths.scores) if row["metric"] == "accuracy"]
    assert row["value"] >= 0.9
    assert (row["unparsed"], row["cut_answers"]) == (0, 0)
    predictions = lines(run.paths.predictions(cells(run)[0].name))
    assert {line["text"].strip() for line in predictions} <= {"true", "false", "neither"}
    assert {line["prediction"] for line in predictions} <= {"entailment", "contradiction", "neutral"}


@pytest.mark.parametrize("precision", ["bf16", "bf16_weights"])
@pytest.mark.parametrize("family", ["encoder", *WRITERS])
def test_models_are_scored_in_the_arithmetic_of_their_validation(family: str, precision: str, tmp_path: Path) -> None:
    overrides = ["train.validate_every=3", "train.validate_on=evaluation", "train.save_every=null"]
    run = settings(*tiny_overrides(tmp_path, f"train.precision={precision}", *overrides, model=f"tiny_{family}"))
    train(run)
    evaluate(run)
    (cell,) = cells(run)
    predictions = lines(run.paths.predictions(cell.name))
    losses = [-line["scores"][line["gold"][0]] for line in predictions]
    log_line = lines(run.paths.model(cell.name) / "train_log.jsonl")[-2]
    assert log_line["eval_loss"] == pytest.approx(sum(losses) / len(losses), abs=2e-6)
    (row,) = lines(run.paths.scores)
    assert row["precision"] == precision
    assert row["ties"] == sum(len(set(line["scores"].values())) == 1 for line in predictions)  # of two labels each


def test_rows_whose_options_have_the_same_score_are_counted(tmp_path: Path) -> None:
    """A head of zeros cannot tell them apart."""
    run = settings(*tiny_overrides(tmp_path))
    train(run)
    path = run.paths.model(cells(run)[0].name) / "model.safetensors"
    weights = {name: value * (not name.startswith("classifier")) for name, value in load_file(path).items()}
    save_file(weights, path, {"format": "pt"})
    evaluate(run)
    (row,) = lines(run.paths.scores)
    assert (row["ties"], row["n"], row["precision"]) == (10, 10, "fp32")


def prompts_of(run: Settings, name: str, examples: Sequence[Example], number: int = 0) -> list[str]:
    """The prompts of the run's cell of this number, as the model gets them."""
    task, cell = run.tasks[name], cells(run)[number]
    loaded = Loaded(None, family_named(run.model.family).load_tokenizer(run.model))
    encoded = encode_for_prediction(run, cell, loaded, original_parts(run, [task]), task, examples)
    return [loaded.tokenizer.decode(example.prompt, skip_special_tokens=True) for example in encoded]


@pytest.mark.parametrize("model", ["tiny_decoder", "tiny_seq2seq"])
def test_solved_examples_stand_before_the_question(model: str, tmp_path: Path) -> None:
    """Those of the train split, whose rows are those of the evaluation here: the one that is asked is never among them."""
    overrides = [f"model={model}", "arms=[none]", "train.max_length=3000", "eval.shots=3", "seeds=[0,1]"]
    run = small_run(tmp_path, *overrides, tasks=("cb",))
    examples = examples_of("cb")
    prompts = [prompts_of(run, "cb", examples, number) for number in (0, 1)]
    assert prompts[0] == prompts_of(run, "cb", examples, 0)
    assert prompts[0] != prompts[1]
    solved = {f"{prompt(SPECS['cb'], row)}\nAnswer: {right_answer(SPECS['cb'], row)}": row for row in examples}
    for text, example in zip(prompts[0], examples, strict=True):
        *shown_texts, question = text.split("\n\n")
        assert question == f"{prompt(SPECS['cb'], example)}\nAnswer:"
        assert len({*shown_texts}) == 3
        assert all(solved[shown] != example for shown in shown_texts)


def test_as_many_examples_as_asked_for_though_there_are_twins(tmp_path: Path) -> None:
    """Four rows that are the same up to case and the order of the choices give each other's answer away."""
    run = small_run(tmp_path, *AS_IT_IS, "eval.shots=4", tasks=("copa",))
    (path,) = (tmp_path / "data").glob("COPA/train.jsonl")
    first, *others = lines(path)
    swapped = {"choice1": first["choice2"], "choice2": first["choice1"], "label": 1 - first["label"]}
    twins = [first, first | {"premise": first["premise"].upper()}, first | swapped, first | swapped]
    rows = [*twins, *others[:5]]
    write_jsonl(path, [row | {"idx": number} for number, row in enumerate(rows)])
    task, cell, examples = run.tasks["copa"], cells(run)[0], examples_of("copa")
    shown_examples = demonstrations(run, cell, original_parts(run, [task]), task, examples)
    premises = [{example.fields["premise"].lower() for example in shown} for shown in shown_examples]
    assert [len(shown) for shown in shown_examples] == [4] * len(examples)
    assert first["premise"].lower() not in premises[0]
    assert all(row.fields["premise"].lower() not in shown for row, shown in zip(examples, premises, strict=True))


def test_axg_is_shown_examples_of_rte(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS, "eval.shots=2", tasks=("axg",), original=("rte",))
    (text, *_) = prompts_of(run, "axg", examples_of("axg")[:2])
    rte = [f"{prompt(SPECS['rte'], row)}\nAnswer: {right_answer(SPECS['rte'], row)}" for row in examples_of("rte")]
    first, second, _ = text.split("\n\n")
    assert {first, second} <= {*rte}


def test_examples_give_way_before_the_question_does(tmp_path: Path) -> None:
    for family in WRITERS:
        loaded = Loaded(None, text_family_named(family).load_tokenizer(settings(f"model=tiny_{family}").model))
        task, (example, *others) = SPECS["boolq"], examples_of("boolq")
        encode = text_family_named(family).encode
        for count in (2, 1, 0):
            limit = len(cued_prompt(task, example, others[:count]).encode()) + 12
            (encoded,) = encode(loaded, task, [example], limit, FewShot([others[:2]], instructs=False))
            assert loaded.tokenizer.decode(encoded.prompt, skip_special_tokens=True) == cued_prompt(
                task, example, others[:count]
            )
        (encoded,) = encode(loaded, task, [example], 160, FewShot([others[:2]], instructs=False))
        text = loaded.tokenizer.decode(encoded.prompt, skip_special_tokens=True)
        assert text.endswith(f"Question: {example.fields['question']}?\nAnswer:")


def test_a_trained_model_is_not_asked_without_the_examples_it_is_shown(tmp_path: Path) -> None:
    """Of original rows that fall back to the fixture there are none."""
    short = ["train.max_length=2000", "train.epochs=1"]
    run = small_run(tmp_path, "model=tiny_decoder", "arms=[original]", "train.instruct=true", *short)
    train(run)
    (cell,) = cells(run)
    unreachable = replace(run, data=replace(run.data, source="hub", dir=None, fallback="fixture"))
    with pytest.raises(
        UserError, match=r"train.instruct_examples: got 2, but tiny_decoder-\S+-original-s0 was trained on original"
    ):
        predict_cell(unreachable, cell, unreachable.tasks["cb"], examples_of("cb")[:2])


def test_instructions_show_original_examples_to_a_model_as_it_is(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS, "train.instruct=true", "seeds=[0,1]")
    (tmp_path / "run" / "synthetic" / "cb" / "train.jsonl").unlink()  # nothing synthetic is needed
    assert len(cells(run)) == 2  # the seed draws the examples
    (text, *_) = prompts_of(run, "cb", examples_of("cb")[:1])
    assert text.startswith("Definition: ")
    assert text.count("Positive Example") == 2
    evaluate(run)
    assert {row["instruct"] for row in lines(run.paths.scores)} == {True}


def test_zero_and_few_shot_by_command(tmp_path: Path) -> None:
    """Without shots there is nothing to draw and so one seed; what lies on disk is used where it is asked in the same way."""
    arguments = small_overrides(tmp_path, *AS_IT_IS, "seeds=[0,1]")
    run = settings(*arguments)
    evaluate(run)
    (cell,) = cells(run)
    assert cell.name == "tiny_decoder-single-cb-none-s0"
    (score,) = [row for row in lines(run.paths.scores) if row["metric"] == "accuracy"]
    assert (score["shots"], score["scoring"], score["n"]) == (0, "rank", 10)
    completed = command("eval.run", *arguments, "eval.shots=2")
    assert completed.returncode == 0, completed.stderr
    assert "s0 was predicted on" in completed.stderr and "asked.shots was 0 and is 2" in completed.stderr
    rows = [row for row in lines(run.paths.scores) if row["metric"] == "accuracy"]
    assert [(row["seed"], row["shots"]) for row in rows] == [(0, 2), (1, 2)]


def test_predictions_without_the_passage_of_a_query_get_it_and_are_not_made_again(tmp_path: Path) -> None:
    run = settings(*small_overrides(tmp_path, *AS_IT_IS, "data.source=fixture", "data.dir=null", "task=record"))
    path = run.paths.predictions(cells(run)[0].name)
    evaluate(run)
    groups = [row["groups"] for row in lines(path)]
    assert {len(passage) for passage in groups} == {1}
    old = [{key: value for key, value in row.items() if key != "groups"} for row in lines(path)]
    old[0]["scores"] = {option: 0.25 for option in old[0]["scores"]}  # predicted again, they would differ
    write_jsonl(path, old)
    evaluate(run)
    assert lines(path) == [row | {"groups": passage} for row, passage in zip(old, groups, strict=True)]


def test_predictions_are_made_anew_only_where_they_would_differ(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)

    arguments = small_overrides(tmp_path, *AS_IT_IS)

    def predicted(*overrides: str) -> tuple[list[dict[str, object]], bool]:
        """The predictions, and whether those on disk were used: one is changed there, as a user might."""
        caplog.clear()
        run = settings(*arguments, *overrides)
        path = run.paths.predictions(cells(run)[0].name)
        if path.is_file():
            first, *others = lines(path)
            changed = {"prediction": "neutral", "gold": first["gold"], "scores": {"neutral": 0.25}, "idx": first["idx"]}
            write_jsonl(path, [changed, *others])
        evaluate(run)
        predictions = lines(path)
        return predictions, predictions[0]["scores"] == {"neutral": 0.25}

    first, used = predicted()
    assert not used
    assert predicted("train.epochs=7", "eval.max_new_tokens=5", "eval.batch_size=3")[1]  # nothing to this model
    assert "predicted again" not in caplog.text
    for overrides, words in (
        (["eval.scoring=rank_normalised"], "asked.scoring was 'rank' and is 'rank_normalised'"),
        (["eval.scoring=generate"], "asked.scoring was 'rank_normalised' and is 'generate'"),
        (["eval.scoring=generate", "eval.max_new_tokens=5"], "asked.max_new_tokens was 32 and is 5"),
        (["eval.shots=1"], "asked.shots was 0 and is 1"),
        (["eval.shots=1", "train.max_length=1900"], "model.train.max_length was 2000 and is 1900"),
    ):
        assert not predicted(*overrides)[1]
        assert words in caplog.text, caplog.text
        assert predicted(*overrides)[1]
        assert "predicted again" not in caplog.text
    path = tmp_path / "data" / "CB" / "train.jsonl"
    write_jsonl(path, lines(path)[:-1])
    assert not predicted("eval.shots=1", "train.max_length=1900")[1]
    assert "asked.shown was" in caplog.text
    assert predicted()[0] == first


def damage(path: Path, change: str) -> None:
    rows = lines(path)
    if change == "garbled":
        path.write_text(path.read_text()[:-30])
        return
    if change in ("doubled", "missing", "foreign", "turned"):
        first, second, *others = rows
        by_change = {"doubled": [first, second, second, *others], "missing": [first, *others], "turned": rows[::-1]}
        rows = by_change.get(change, [first | {"idx": 999}, second, *others])
    else:
        rows[3] |= {
            "gold": {"gold": ["neutral"] if rows[3]["gold"] != ["neutral"] else ["entailment"]},
            "unknown": {"prediction": "maybe"},
            "none": {"scores": None},
        }[change]
    write_jsonl(path, rows)


DAMAGES = {
    "garbled": r"\.jsonl:10: not a JSON object",
    "doubled": r"\.jsonl: 1 idx twice \(first 1\), expected each of the 10 of CB once\. Remove the file to predict again",
    "missing": r"\.jsonl: 1 idx missing \(first 1\)",
    "foreign": r"\.jsonl: 1 idx missing \(first 0\)",
    "turned": r"\.jsonl: got the rows in a different order",
    "gold": r"\.jsonl: idx 3: got gold \[",
    "unknown": r"\.jsonl: idx 3: got prediction 'maybe', expected one of entailment, contradiction, neutral",
    "none": r"\.jsonl:4: scores: .*expected a prediction",
}


def test_predictions_that_were_changed_by_hand_are_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    evaluate(run)
    path = run.paths.predictions(cells(run)[0].name)
    intact = path.read_bytes()
    read_predictions(path, SPECS["cb"], examples_of("cb"))
    for change, words in DAMAGES.items():
        path.write_bytes(intact)
        damage(path, change)
        with pytest.raises(UserError, match=words) as err:
            evaluate(run)
        assert "\n" not in str(err.value)


def test_a_damaged_line_of_scores_is_told_before_anything_is_predicted(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    evaluate(run)
    good = run.paths.scores.read_text()
    for line, words in (
        ("{", r"scores\.jsonl:3: not a JSON object"),
        ('{"a": 1}', r"scores\.jsonl:3: benchmark: is missing"),
    ):
        run.paths.scores.write_text(good + line + "\n")
        run.paths.predictions(cells(run)[0].name).unlink(missing_ok=True)
        with pytest.raises(UserError, match=words):
            evaluate(run)
        assert not run.paths.predictions(cells(run)[0].name).exists()


def test_rows_of_other_cells_and_benchmarks_stay(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    evaluate(run)
    (first, *others) = lines(run.paths.scores)
    elsewhere = first | {"cell": "other", "value": 0.5}
    harness = first | {"benchmark": "openllm_4", "task": "hellaswag", "value": 0.25}
    write_jsonl(run.paths.scores, [first | {"value": 0.125}, *others, elsewhere, harness])
    evaluate(run)
    rows = lines(run.paths.scores)
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, [first, *others, elsewhere, harness]))


@pytest.mark.parametrize("label", [None, -1])
def test_hidden_labels_are_told_by_line(tmp_path: Path, label: int | None) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    path = tmp_path / "data" / "CB" / "val.jsonl"
    rows = lines(path)
    rows[4] = {key: value for key, value in rows[4].items() if key != "label"} | (
        {} if label is None else {"label": -1}
    )
    write_jsonl(path, rows)
    with pytest.raises(UserError, match=r"val\.jsonl:4: .*label.*Expected a row of CB|val\.jsonl:5: .*label.*Expected"):
        evaluate(run)


def test_a_split_with_an_idx_twice_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    path = tmp_path / "data" / "CB" / "val.jsonl"
    write_jsonl(path, [row | {"idx": 7} for row in lines(path)])
    with pytest.raises(UserError, match="idx 7 of CB occurs more than once"):
        evaluate(run)


def test_a_model_folder_with_another_head_is_refused(tmp_path: Path) -> None:
    """What a user may have copied over a cell's folder."""
    runs = {name: settings(*tiny_overrides(tmp_path / name, tasks=(name,))) for name in ("cb", "rte")}
    for run in runs.values():
        train(run)
    folders = {name: run.paths.model(cells(run)[0].name) for name, run in runs.items()}
    config = (folders["cb"] / "config.json").read_bytes()
    (folders["cb"] / "model.safetensors").write_bytes((folders["rte"] / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"cannot be loaded \(the weights .* differ in shape from its config\.json\)"):
        evaluate(runs["cb"])
    (folders["cb"] / "config.json").write_bytes((folders["rte"] / "config.json").read_bytes())
    with pytest.raises(
        UserError, match="its head has the labels entailment, not_entailment, expected entailment, contra"
    ):
        evaluate(runs["cb"])
    (folders["cb"] / "config.json").write_bytes(config)
    (folders["cb"] / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="cannot be loaded"):
        evaluate(runs["cb"])


def test_a_model_that_is_built_from_sizes_is_the_same_again(tmp_path: Path) -> None:
    run = small_run(tmp_path, *AS_IT_IS)
    (cell,) = cells(run)
    first, second = (predict_cell(run, cell, SPECS["cb"], examples_of("cb")) for _ in range(2))
    assert first == second


MISTAKES = [
    (["eval.scoring=generate"], "eval.scoring: got generate with the encoder minilm"),
    (["eval.scoring=rank_normalised"], "eval.scoring: got rank_normalised with the encoder minilm"),
    (["eval.shots=2"], "eval.shots: got 2 without the arm none; finetuned models are shown no"),
    (
        ["eval.shots=2", *AS_IT_IS, "data.source=fixture"],
        "eval.shots: got 2 for the arm none with data.source=fixture, which has no train split",
    ),
    (
        ["train.instruct=true", *AS_IT_IS, "data.source=fixture"],
        "train.instruct_examples: got 2 for the arm none with data.source=fixture",
    ),
    (["eval.shots=2", "train.instruct=true", *AS_IT_IS], "eval.shots: got 2 with train.instruct=true"),
    (["eval.shots=-1", *AS_IT_IS], "eval.shots: got -1, expected greater than or equal to 0."),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_what_does_not_fit_together_is_one_line(overrides: list[str], words: str) -> None:
    with pytest.raises(UserError) as err:
        settings(*overrides)
    assert words in str(err.value)
    assert "\n" not in str(err.value)


def test_a_train_split_that_is_missing_is_told_before_anything_starts(tmp_path: Path) -> None:
    arguments = small_overrides(tmp_path, *AS_IT_IS, "eval.shots=2")
    (tmp_path / "data" / "CB" / "train.jsonl").unlink()
    done = command("targen.run", *arguments)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert "CB/train.jsonl is missing" in done.stderr
    assert "eval.shots=0" in done.stderr
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_a_train_split_that_is_not_at_hand_or_too_small_is_told_before_a_model_is_loaded(tmp_path: Path) -> None:
    """The Hub out of reach, with the fixture to fall back on; the model's folder is empty and never opened."""
    overrides = ["model=tiny_decoder", "model.config=null", f"model.path={tmp_path}", "arms=[none]", "eval.shots=2"]
    hub = settings(*overrides, "task=cb", f"run.dir={tmp_path / 'run'}", f"data.hub={tmp_path / 'nowhere'}")
    with pytest.raises(
        UserError, match=r"eval\.shots: got 2 for the arm none, but the train split of CB.*not available"
    ):
        evaluate(hub)
    local = small_run(tmp_path, *overrides, "eval.shots=10")
    with pytest.raises(
        UserError, match=r"eval\.shots: got 10, expected less than 10, the rows of CB/train\.jsonl \(CB\)"
    ):
        evaluate(local)
    assert FIXTURE.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["rank_normalised", "generate"])
def test_two_processes_ask_as_one_does(scoring: str, tmp_path: Path) -> None:
    arguments = small_overrides(tmp_path, *AS_IT_IS, f"eval.scoring={scoring}", "eval.shots=1", tasks=("cb", "axg"),
                                original=("rte",))  # fmt: skip
    run = settings(*arguments)
    evaluate(run)
    predictions = {cell.name: lines(run.paths.predictions(cell.name)) for cell in cells(run)}
    scores = lines(run.paths.scores)
    for path in run.paths.root.glob("predictions/*"):
        path.unlink()
    launcher = ["--multi_gpu", "--num_processes=2", "--module", "eval.run"]
    done = command("accelerate.commands.launch", *launcher, *arguments)
    assert done.returncode == 0, done.stderr
    assert lines(run.paths.scores) == scores
    for name, expected_lines in predictions.items():
        for line, expected in zip(lines(run.paths.predictions(name)), expected_lines, strict=True):
            assert line["scores"] == pytest.approx(expected["scores"], abs=1e-5)
            assert {**line, "scores": 0} == {**expected, "scores": 0}


ARCHITECTURES = {  # of encoder-decoders, in small: Flan-T5's, and one with learned positions
    "t5": {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "feed_forward_proj": "gated-gelu"},
    "bart": {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
             "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 2048},
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_keys_and_values_of_a_prompt_serve_all_its_answers(kind: str, attention: str) -> None:
    config = {"model_type": kind, "d_model": 32, **ARCHITECTURES[kind]}
    torch.manual_seed(0)
    model = replace(settings("model=tiny_seq2seq").model, config=config)
    loaded = seq2seq.load_pretrained(model, SPECS["copa"], loading=Loading(attention=attention))
    loaded.model.eval()
    encoded = seq2seq.encode(loaded, SPECS["cb"], examples_of("cb")[:4], 900)
    for index, scores in seq2seq.predict(loaded, encoded, 7):
        prompt_ids, answers = encoded[index].prompt, encoded[index].answers
        tokens = [token_log_probabilities("seq2seq", loaded, prompt_ids, answer).sum() for answer in answers]
        assert scores == pytest.approx(torch.stack(tokens).log_softmax(0).tolist(), abs=1e-4)
    ids = [greedy("seq2seq", loaded, example.prompt, 5) for example in encoded]
    expected = dict(enumerate(loaded.tokenizer.batch_decode(ids, skip_special_tokens=True)))
    assert {index: generated.text for index, generated in seq2seq.generate(loaded, encoded, 3, 5)} == expected
