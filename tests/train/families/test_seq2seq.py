"""Encoder-decoders: a tiny T5 built from a config is trained, saved, loaded and asked, with a real tokenizer."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from eval.scoring.prediction import predict_cell
from targen.config.groups.training import Model
from targen.config.required_files import local_file
from targen.data.original import FIXTURE, read_rows
from tests.support.commands import settings
from train.data.rendering import answers, prompt
from train.families.base import IGNORED
from train.families.seq2seq import Seq2SeqFamily
from train.families.text import EncodedText
from train.grid.cells import cells
from train.loop.losses import batch_loss
from train.models.loading import Loaded
from train.run import train

seq2seq = Seq2SeqFamily()

SPECS = settings().tasks


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a two-layer T5 and a word-level tokenizer over the fixture's words."""
    folder = tmp_path_factory.mktemp("tiny_t5")
    texts = [prompt(task, example) for task in SPECS.values() for example in examples_of(task.name)]
    texts += [
        answer for task in SPECS.values() for example in examples_of(task.name) for answer in answers(task, example)
    ]
    splitter = pre_tokenizers.Whitespace()
    words = dict.fromkeys(word for text in texts for word, _ in splitter.pre_tokenize_str(text))
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=len(vocabulary), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def examples_of(name: str):
    task = SPECS[name]
    rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
    return [example for row in rows for example in task.examples(row)]


def load(tiny: Path) -> Loaded:
    return seq2seq.load_pretrained(Model("tiny", "seq2seq", str(tiny), None, 1e-3, "fp32"), SPECS["rte"])


def test_the_prompt_asks_first_and_names_what_can_be_answered() -> None:
    example = examples_of("rte")[0]
    assert prompt(SPECS["rte"], example) == (
        "Does the premise entail the hypothesis? yes or no?\n"
        f"Premise: {example.fields['premise']}\nHypothesis: {example.fields['hypothesis']}"
    )
    record = examples_of("record")[0]
    assert answers(SPECS["record"], record) == list(record.choices)
    assert answers(SPECS["cb"], examples_of("cb")[0]) == ["true", "false", "neither"]


def test_only_the_long_field_is_cut(tiny: Path) -> None:
    loaded = load(tiny)
    for name, field in (("boolq", "question"), ("record", "query"), ("rte", "hypothesis"), ("cb", "hypothesis")):
        for example in examples_of(name):
            length = len(loaded.tokenizer(prompt(SPECS[name], example))["input_ids"])
            words = loaded.tokenizer(example.fields[field], add_special_tokens=False)["input_ids"]
            limit = max(length // 2, len(words) + 100 if name == "record" else len(words) + 22)
            ids = seq2seq.encode(loaded, SPECS[name], [example], limit)[0].prompt
            assert len(ids) <= limit
            assert any(ids[start : start + len(words)] == words for start in range(len(ids)))


def test_scores_are_the_models_own_log_likelihoods(tiny: Path) -> None:
    """Against one plain forward pass per answer, without padding, batching or a shared encoder."""
    loaded = load(tiny)
    loaded.model.eval()
    for name in ("record", "cb"):
        examples = examples_of(name)[:4]
        scores = dict(seq2seq.predict(loaded, seq2seq.encode(loaded, SPECS[name], examples, 512), 3))
        for index, example in enumerate(examples):
            log_likelihoods = []
            for answer in answers(SPECS[name], example):
                inputs = loaded.tokenizer(prompt(SPECS[name], example), return_tensors="pt").input_ids
                labels = loaded.tokenizer(text_target=answer, return_tensors="pt").input_ids
                with torch.no_grad():
                    log_likelihoods.append(-loaded.model(input_ids=inputs, labels=labels).loss * labels.shape[1])
            expected = torch.stack(log_likelihoods).log_softmax(dim=0)
            assert torch.allclose(torch.tensor(scores[index]), expected, atol=1e-4)


def test_the_loss_is_weighted_by_tokens_over_the_parts_of_a_batch(tiny: Path) -> None:
    loaded = load(tiny)
    loaded.model.eval()
    encoded = seq2seq.encode(loaded, SPECS["record"], examples_of("record")[:6], 128)
    collate = seq2seq.collator(loaded)

    def loss(parts: list[list[EncodedText]]) -> float:
        tokens = sum(int((collate(part)["labels"] != IGNORED).sum()) for part in parts)
        total = 0.0
        for part in parts:
            batch = collate(part)
            labels = batch.pop("labels")
            total += batch_loss(seq2seq, loaded.model(**batch), labels, torch.tensor(tokens)).item()
        return total

    assert len({len(example.answers[example.gold]) for example in encoded}) > 1
    assert loss([encoded]) == pytest.approx(loss([[example] for example in encoded]), rel=1e-5)


@pytest.mark.slow
def test_a_tiny_t5_learns_its_rows(tiny: Path, tmp_path: Path) -> None:
    overrides = ["task=cb", "arms=[synthetic]", "data.source=fixture", "train.epochs=60", "train.learning_rate=0.003"]
    run = settings("model=flan_t5_base", f"model.path={tiny}", f"run.dir={tmp_path}", *overrides)
    path = run.paths.synthetic("cb") / "train.jsonl"
    path.parent.mkdir(parents=True)
    path.write_bytes((FIXTURE / "CB" / "val.jsonl").read_bytes())
    train(run)
    (cell,) = cells(run)
    predictions = predict_cell(run, cell, SPECS["cb"], examples_of("cb"))
    assert sum(prediction.prediction == prediction.gold[0] for prediction in predictions) >= 9
    assert set(predictions[0].scores) == {"entailment", "contradiction", "neutral"}
