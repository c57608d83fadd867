"""Decoders: only the answer is learnt, scores are the model's own, prompt and answer meet as they are trained."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from eval.scoring.prediction import predict_cell
from targen.config.groups.training import Model
from targen.runtime.errors import UserError
from tests.support.commands import settings
from tests.support.small_data import SPECS, examples_of, small_run, tiny_gpt2
from train.data.rendering import answers, prompt
from train.families.base import IGNORED
from train.families.decoder import DecoderFamily
from train.families.text import EncodedContinuation
from train.grid.cells import cells
from train.loop.losses import batch_loss
from train.models.loading import Loaded, Loading
from train.run import train

decoder = DecoderFamily()

TINY = settings("model=tiny_decoder").model


@pytest.fixture(scope="module")
def tiny() -> Loaded:
    torch.manual_seed(0)
    return decoder.load_pretrained(TINY, SPECS["cb"])


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


def load(folder: Path) -> Loaded:
    return decoder.load_pretrained(Model("gpt2", "decoder", str(folder), None, 1e-3, "fp32"), SPECS["cb"])


def test_only_the_answer_and_its_end_are_learnt(tiny: Loaded) -> None:
    encoded = decoder.encode(tiny, SPECS["cb"], examples_of("cb")[:3], 1000)
    batch = decoder.collator(tiny)(encoded)
    for row, example in enumerate(encoded):
        learnt = batch["labels"][row] != IGNORED
        assert batch["input_ids"][row][learnt].tolist() == example.answers[example.gold]
        assert tiny.tokenizer.decode(example.answers[example.gold]) in (" true</s>", " false</s>", " neither</s>")
        text = tiny.tokenizer.decode(batch["input_ids"][row][batch["attention_mask"][row] == 1])
        assert text == f"{prompt(SPECS['cb'], examples_of('cb')[row])}\nAnswer:" + tiny.tokenizer.decode(
            example.answers[example.gold]
        )


def test_the_loss_is_the_mean_over_answer_tokens_and_the_same_in_parts(tiny: Loaded) -> None:
    tiny.model.eval()
    encoded = decoder.encode(tiny, SPECS["record"], examples_of("record")[:5], 400)
    singles = []
    for example in encoded:
        answer = example.answers[example.gold]
        with torch.no_grad():
            logits = tiny.model(torch.tensor([example.prompt + answer])).logits[0, len(example.prompt) - 1 : -1]
        singles.append(-logits.log_softmax(1)[range(len(answer)), answer].sum().item())
    tokens = sum(len(example.answers[example.gold]) for example in encoded)

    def loss(parts: list[list[EncodedContinuation]]) -> float:
        total = 0.0
        for part in parts:
            batch = decoder.collator(tiny)(part)
            labels = batch.pop("labels")
            with torch.no_grad():
                total += batch_loss(decoder, tiny.model(**batch), labels, torch.tensor(tokens)).item()
        return total

    assert loss([encoded]) == pytest.approx(sum(singles) / tokens, rel=1e-5)
    assert loss([[example] for example in encoded]) == pytest.approx(sum(singles) / tokens, rel=1e-5)


@pytest.mark.parametrize("which", ["tiny", "gpt2"])
@pytest.mark.parametrize("name", ["record", "cb", "copa"])
def test_scores_are_the_models_own_log_likelihoods(which: str, name: str, tiny: Loaded, gpt2: Path) -> None:
    """Against one plain forward pass per answer, without padding, batching or a cache."""
    loaded = tiny if which == "tiny" else load(gpt2)
    loaded.model.eval()
    encoded = decoder.encode(loaded, SPECS[name], examples_of(name)[:4], 700)
    scores = dict(decoder.predict(loaded, encoded, 7))
    for index, example in enumerate(encoded):
        log_likelihoods = []
        for answer in example.answers:
            with torch.no_grad():
                logits = loaded.model(torch.tensor([example.prompt + answer])).logits[0]
            by_token = logits[len(example.prompt) - 1 : -1].log_softmax(1)[range(len(answer)), answer]
            log_likelihoods.append(by_token.sum())
        assert torch.allclose(torch.tensor(scores[index]), torch.stack(log_likelihoods).log_softmax(0), atol=1e-4)


ARCHITECTURES = {  # those of conf/model beside the two above, in small
    "llama": {"num_key_value_heads": 2},  # grouped keys, as Llama 3.1
    "qwen2": {"num_key_value_heads": 2},
    "gpt_neox": {"rotary_pct": 0.25},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_and_cache_change_no_score_in_any_architecture(kind: str, attention: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = {"model_type": kind, **sizes, **ARCHITECTURES[kind], "max_position_embeddings": 2048}
    torch.manual_seed(0)
    model = replace(TINY, config=config)
    loaded = decoder.load_pretrained(model, SPECS["copa"], loading=Loading(attention=attention))
    loaded.model.eval()
    encoded = decoder.encode(loaded, SPECS["copa"], examples_of("copa")[:4], 700)
    alone = {index: next(decoder.predict(loaded, [example], 1))[1] for index, example in enumerate(encoded)}
    for index, scores in decoder.predict(loaded, encoded, 64):
        assert scores == pytest.approx(alone[index], abs=1e-4)
    batch = decoder.collator(loaded)(encoded)
    labels = batch.pop("labels")
    with torch.no_grad():
        log_probabilities = decoder.example_losses(loaded.model(**batch), labels, 0.0).log_probability
        for example, log_probability in zip(encoded, log_probabilities.tolist(), strict=True):
            ids = torch.tensor([example.prompt + example.answers[example.gold]])
            by_token = loaded.model(ids).logits[0, len(example.prompt) - 1 : -1].log_softmax(1)
            answer = example.answers[example.gold]
            assert by_token[range(len(answer)), answer].sum().item() == pytest.approx(log_probability, abs=1e-3)


def test_prompt_and_answer_are_the_tokens_of_the_whole_text(gpt2: Path) -> None:
    """The blank before the answer belongs to its first token, as in running text."""
    loaded = load(gpt2)
    for name in ("cb", "rte", "record"):
        examples = examples_of(name)
        for example, encoded in zip(examples, decoder.encode(loaded, SPECS[name], examples, 1000), strict=True):
            for answer, ids in zip(answers(SPECS[name], example), encoded.answers, strict=True):
                text_ids = loaded.tokenizer(f"{prompt(SPECS[name], example)}\nAnswer: {answer}")["input_ids"]
                assert encoded.prompt + ids == [*text_ids, loaded.tokenizer.eos_token_id]
    yes = decoder.encode(loaded, SPECS["rte"], examples_of("rte")[:1], 1000)[0].answers[0]
    assert loaded.tokenizer.convert_ids_to_tokens(yes) == ["Ġyes", "<|endoftext|>"]


def test_a_tokenizer_without_padding_still_learns_the_end(gpt2: Path) -> None:
    loaded = load(gpt2)
    assert loaded.tokenizer.pad_token_id == loaded.tokenizer.eos_token_id
    batch = decoder.collator(loaded)(decoder.encode(loaded, SPECS["cb"], examples_of("cb")[:4], 1000))
    assert (batch["labels"][:, -1] == loaded.tokenizer.eos_token_id).all()
    assert (batch["attention_mask"][:, -1] == 1).all()


def test_a_prompt_that_is_too_long_keeps_question_cue_and_the_whole_answer(tiny: Loaded) -> None:
    for name, field in (("boolq", "question"), ("rte", "hypothesis"), ("cb", "hypothesis")):
        example = examples_of(name)[0]
        limit = len(prompt(SPECS[name], example)) - 40
        (encoded,) = decoder.encode(tiny, SPECS[name], [example], limit)
        text = tiny.tokenizer.decode(encoded.prompt)
        assert example.fields[field] in text
        assert text.endswith("\nAnswer:")
        assert len(encoded.prompt) + max(map(len, encoded.answers)) <= limit
        assert all(len(answer) > 1 and answer[-1] == tiny.tokenizer.eos_token_id for answer in encoded.answers)
    (even_less,) = decoder.encode(tiny, SPECS["rte"], examples_of("rte")[:1], 20)
    assert tiny.tokenizer.decode(even_less.prompt).endswith("Answer:")


def test_a_length_without_room_for_the_answers_is_refused(tiny: Loaded) -> None:
    with pytest.raises(UserError, match=r"train\.max_length: leaves \d tokens for an answer, but '.*' of cb has \d+"):
        decoder.encode(tiny, SPECS["cb"], examples_of("cb")[:1], 13)


def test_a_tiny_decoder_learns_its_rows(gpt2: Path, tmp_path: Path) -> None:
    learning = ["train.epochs=40", "train.learning_rate=0.01", "arms=[synthetic]"]
    run = small_run(tmp_path, "model=gpt2_large", f"model.path={gpt2}", *learning)
    train(run)
    (cell,) = cells(run)
    predictions = predict_cell(run, cell, SPECS["cb"], examples_of("cb"))
    assert sum(prediction.prediction == prediction.gold[0] for prediction in predictions) >= 9


CONTROL = "Stop </s> here [SEP] or <|endoftext|> there [CLS] <pad>."


@pytest.mark.parametrize("which", ["tiny", "gpt2"])
def test_a_control_token_in_a_row_is_text(which: str, tiny: Loaded, gpt2: Path, tmp_path: Path) -> None:
    loaded = tiny if which == "tiny" else load(gpt2)
    example = examples_of("cb")[0]
    odd = replace(example, fields={**example.fields, "premise": CONTROL})
    (encoded,) = decoder.encode(loaded, SPECS["cb"], [odd], 1000)
    assert not set(encoded.prompt) & {loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id}
    assert CONTROL in loaded.tokenizer.decode(encoded.prompt)
    texts = [prompt(SPECS[name], each) for name in ("cb", "record") for each in examples_of(name)]
    assert loaded.tokenizer(texts)["input_ids"] == loaded.tokenizer(texts, split_special_tokens=False)["input_ids"]
    loaded.tokenizer.save_pretrained(tmp_path)
    assert "split_special_tokens" not in (tmp_path / "tokenizer_config.json").read_text()
