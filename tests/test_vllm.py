"""vLLM in the process: its CPU build with a two-layer Llama made from a config. Skipped where vllm is not installed."""

import json
from pathlib import Path

import pytest
from conftest import command, files, lines, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

pytestmark = pytest.mark.slow
vllm = pytest.importorskip("vllm", reason="the package vllm is not installed in this environment")
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a tiny Llama of random weights and a byte-level tokenizer with a chat template."""
    folder = tmp_path_factory.mktemp("tiny_llama")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary), hidden_size=128, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=4096, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def overrides(tiny: Path, run: Path, *more: str) -> list[str]:
    base = ["generator=vllm", "generator.model=tiny-llama", f"generator.path={tiny}", "generator.engine.dtype=float32"]
    base += [
        "generator.engine.max_model_len=3072",
        "generator.engine.max_num_seqs=16",
        "+generator.engine.enforce_eager=true",
    ]
    steps = [
        f"synth.sampling.{s}.max_tokens=200" for s in ("contexts", "instance_seed", "generation", "self_correction")
    ]
    return [
        *base,
        *steps,
        "task=copa",
        "synth.size=4",
        "synth.contexts=2",
        "synth.max_attempts=2",
        "synth.max_slots=2",
        f"run.dir={run}",
        *more,
    ]


def test_the_engine_answers_in_the_form_that_is_asked_for_and_the_same_twice(tiny: Path, tmp_path: Path) -> None:
    """A random model writes senseless texts, so that a run may end short of rows; its answers are what is looked at."""
    assert settings(*overrides(tiny, tmp_path / "x")).generator.backend == "vllm"
    for name in ("one", "two"):
        done = command("targen.generate", *overrides(tiny, tmp_path / name), VLLM_CPU_KVCACHE_SPACE="1")
        assert "Traceback" not in done.stderr, done.stderr[-3000:]
        assert done.returncode in (0, 2), done.stderr[-3000:]
    calls = lines(tmp_path / "one" / "calls" / "copa.jsonl")
    assert calls
    assert all(
        call["text"].startswith('{"contexts":[') for call in calls if call["step"] == "contexts"
    )  # the schema, no blanks
    assert all(call["usage"]["prompt_tokens"] > 100 for call in calls)
    whole = [json.loads(call["text"]) for call in calls if call["finish_reason"] == "stop"]
    assert all(isinstance(answer, dict) for answer in whole)
    first = {call["id"]: call["text"] for call in calls}
    second = {call["id"]: call["text"] for call in lines(tmp_path / "two" / "calls" / "copa.jsonl")}
    assert first == second
    assert files(tmp_path / "one" / "synthetic") == files(tmp_path / "two" / "synthetic")


def test_what_vllm_cannot_take_is_one_line(tiny: Path, tmp_path: Path) -> None:
    wrong = command("targen.generate", *overrides(tiny, tmp_path, "+generator.engine.max_model_length=5"))
    assert wrong.returncode == 2
    assert (
        "generator.engine.max_model_length: no such setting of vLLM's EngineArgs. Did you mean 'max_model_len'?"
        in wrong.stderr
    )
