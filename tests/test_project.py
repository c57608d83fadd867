"""The shape of the project: imports go one way, every configuration composes."""

import ast
from pathlib import Path

from tests.support.commands import PROJECT, settings

ALLOWED = {"targen": {"targen"}, "train": {"targen", "train"}, "eval": {"targen", "train", "eval"}}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return {name.split(".")[0] for name in names}


def test_imports_go_one_way() -> None:
    modules = [(package, path) for package in ALLOWED for path in (PROJECT / package).rglob("*.py")]
    assert len(modules) > 35
    for package, path in modules:
        assert imported(path) & set(ALLOWED) <= ALLOWED[package], path


def test_every_experiment_and_choice_composes() -> None:
    experiments = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
    assert "quickstart" in experiments
    for name in experiments:
        assert settings(f"+experiment={name}").name == name
    choices = 0
    for group in ("method", "model", "train", "eval", "analysis", "data", "synth"):
        for path in (PROJECT / "conf" / group).glob("*.yaml"):
            choices += 1
            settings(f"{group}={path.stem}")
    assert choices >= 5


GENERATORS = {
    "batch": ("batch", None), "gpt35": ("openai", "gpt-3.5-turbo-0125"),
    "llama31_70b": ("vllm", "meta-llama/Llama-3.1-70B-Instruct"),
    "llama31_8b": ("vllm", "meta-llama/Llama-3.1-8B-Instruct"),
    "mistral_7b": ("vllm", "mistralai/Mistral-7B-Instruct-v0.3"), "openai": ("openai", None),
    "qwen25_7b": ("vllm", "Qwen/Qwen2.5-7B-Instruct"), "qwen3_8b": ("vllm", "Qwen/Qwen3-8B"),
    "recorded": ("recorded", "large-language-model"), "transformers": ("transformers", None), "vllm": ("vllm", None),
}  # fmt: skip


def test_every_generator_composes_with_its_backend_and_model() -> None:
    found = sorted(path.stem for path in (PROJECT / "conf" / "generator").glob("*.yaml"))
    assert found == sorted(GENERATORS)
    for name, (backend, model) in GENERATORS.items():
        chosen = settings(f"generator={name}", *([] if model else ["generator.model=m"])).generator
        assert (chosen.backend, chosen.model) == (backend, model or "m")
        if backend == "vllm":
            assert chosen.engine["max_model_len"] == 8192  # what vllm.yaml says stays, beside what the model changes
    assert settings("generator=llama31_70b").generator.engine["tensor_parallel_size"] == 4
    assert settings("generator=qwen3_8b").generator.chat_template_kwargs == {"enable_thinking": False}


def test_a_generator_on_the_command_line_takes_the_place_of_the_experiments() -> None:
    main = "+experiment=superglue_flant5"
    assert settings(main).generator.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert settings(main, "generator=qwen25_7b").generator.model == "Qwen/Qwen2.5-7B-Instruct"
