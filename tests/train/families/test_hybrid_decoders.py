"""Decoders with a state that every token changes: scored, trained and written as the plain model says, whatever the padding."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.run import evaluate
from targen.runtime.jsonl import Json
from tests.support.commands import lines, settings
from tests.support.small_data import SPECS, examples_of, small_run
from train.families.decoder import DecoderFamily, shares_prompts
from train.families.text import EncodedContinuation
from train.models.loading import Loaded
from train.run import train

decoder = DecoderFamily()
TINY = settings("model=tiny_decoder").model
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
         "intermediate_size": 64, "max_position_embeddings": 2048}  # fmt: skip
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1,
          "mamba_chunk_size": 16}  # fmt: skip
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
HYBRIDS: dict[str, dict[str, Any]] = {
    "lfm2": {**SIZES, "layer_types": ["conv", "full_attention"], "conv_bias": True},
    "qwen3_5_text": {**SIZES, **LINEAR, **MIXED},
    "qwen3_next": {**SIZES, **LINEAR, **MIXED, "num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32,
                   "shared_expert_intermediate_size": 32},
    "granitemoehybrid": {**SIZES, **MAMBA2, "layer_types": ["mamba", "attention"], "num_local_experts": 2,
                         "num_experts_per_tok": 1, "shared_intermediate_size": 32},
    "falcon_h1": {**SIZES, **MAMBA2, "mamba_d_ssm": 64},
    "bamba": {**SIZES, **MAMBA2, "attn_layer_indices": [1]},
    "jamba": {**SIZES, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "mamba_d_state": 8,
              "use_mamba_kernels": False},
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "mamba2": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1,
               "chunk_size": 16},
    "rwkv": {"hidden_size": 32, "attention_hidden_size": 32, "num_hidden_layers": 2, "context_length": 2048},
    "recurrent_gemma": {**SIZES, "lru_width": 32, "block_types": ["recurrent", "attention"]},
}  # fmt: skip
ORDINARY: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "gemma2": {**SIZES, "sliding_window": 8, "query_pre_attn_scalar": 8},
    "gpt_neox": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
}


def tiny(kind: str, sizes: Json) -> Loaded:
    torch.manual_seed(0)
    loaded = decoder.load_pretrained(replace(TINY, config={"model_type": kind, **sizes}), SPECS["copa"])
    loaded.model.eval()
    return loaded


def log_likelihood(loaded: Loaded, example: EncodedContinuation, answer: list[int]) -> float:
    """The log-likelihood of an answer by one plain forward pass, without padding or cache."""
    with torch.no_grad():
        logits = loaded.model(torch.tensor([example.prompt + answer])).logits[0, len(example.prompt) - 1 : -1]
    return float(logits.float().log_softmax(1)[range(len(answer)), answer].sum())


@pytest.mark.parametrize("kind", HYBRIDS)
def test_a_hybrid_is_scored_trained_and_read_as_the_plain_model(kind: str) -> None:
    loaded = tiny(kind, HYBRIDS[kind])
    assert not shares_prompts(loaded.model)
    encoded = decoder.encode(loaded, SPECS["copa"], examples_of("copa")[:3], 700)
    assert len({len(example.prompt) for example in encoded}) > 1
    for index, scores in decoder.predict(loaded, encoded, 64):
        sums = torch.tensor([log_likelihood(loaded, encoded[index], answer) for answer in encoded[index].answers])
        assert scores == pytest.approx(sums.log_softmax(0).tolist(), abs=1e-4)
    batch = decoder.collator(loaded)(encoded)
    labels = batch.pop("labels")
    with torch.no_grad():
        learnt = decoder.example_losses(loaded.model(**batch), labels, 0.0).log_probability.tolist()
    expected = [log_likelihood(loaded, example, example.right_answer) for example in encoded]
    assert learnt == pytest.approx(expected, abs=1e-3)
    generated = {index: next(decoder.generate(loaded, [example], 1, 3))[1] for index, example in enumerate(encoded)}
    assert dict(decoder.generate(loaded, encoded, 3, 3)) == generated


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_decoder_computes_each_prompt_once(kind: str) -> None:
    loaded = tiny(kind, ORDINARY[kind])
    assert shares_prompts(loaded.model)
    (example,) = decoder.encode(loaded, SPECS["record"], examples_of("record")[:1], 700)
    prompt, answers = example.prompt, example.answers
    shared = torch.stack(decoder.answer_scores(loaded, [prompt], [answers]))[0]
    separate = decoder.answer_scores(loaded, [prompt] * len(answers), [[answer] for answer in answers])
    assert torch.allclose(shared, torch.cat(separate), atol=1e-4)
    assert len(answers) > 1


def test_a_hybrid_is_trained_and_scored_as_any_other(tmp_path: Path) -> None:
    sizes = ",".join(f"{key}:{value}" for key, value in SIZES.items())
    config = f"+model.config={{model_type:lfm2,layer_types:[conv,full_attention],{sizes}}}"
    arguments = ["model=tiny_decoder", "~model.config", config, "arms=[synthetic]", "train.max_length=300"]
    run = small_run(tmp_path, *arguments, "train.validate_every=2", "train.lora.r=2", "train.lora.targets=all-linear")
    train(run)
    evaluate(run)
    assert {score["metric"] for score in lines(run.paths.scores)} == {"accuracy", "f1_macro"}
