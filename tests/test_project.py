"""The shape of the project: imports go one way, folders and modules stay small, every configuration composes."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.commands import PROJECT, settings

PACKAGES = ("targen", "train", "eval", "slurm")  # each imports itself and those before it
COMMANDS = {
    "targen": {"run", "generate", "merge"},
    "train": {"run", "launch", "plan"},
    "eval": {"run", "analyze", "report", "plan", "scores", "superglue"},
}
CROWDED: set[str] = {"targen/synthesis"}  # folders that still hold more than MOST_MODULES modules
LONG: set[str] = {"eval/statistics/significance.py"}  # modules that still have more than MOST_LINES lines
MOST_MODULES = 12
MOST_LINES = 300

Imports = Mapping[str, frozenset[str]]  # of each module the modules that it imports, all by path: targen/config/arms.py


@cache
def imports() -> Imports:
    """The imports of every module between the packages, also those inside functions and under TYPE_CHECKING.

    A package whose __init__ holds a docstring alone is no module: importing it depends on no code.
    """
    files = {path.relative_to(PROJECT): path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")}
    trees = {path: ast.parse(file.read_text(encoding="utf-8")) for path, file in files.items()}
    trees = {path: tree for path, tree in trees.items() if len(tree.body) > 1 or path.name != "__init__.py"}
    modules = {_dotted(path): str(path) for path in trees}
    return {
        str(path): frozenset(modules[name] for name in _imported(tree) if name in modules) - {str(path)}
        for path, tree in trees.items()
    }


def _dotted(path: Path) -> str:
    return ".".join((path.parent if path.name == "__init__.py" else path.with_suffix("")).parts)


def _imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names that may be modules: `from a import b` names a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module lies"
            yield from (name for alias in node.names for name in (node.module or "", f"{node.module}.{alias.name}"))


def test_the_import_graph_has_every_module() -> None:
    graph = imports()
    assert len(graph) >= 195
    assert "targen/runtime/errors.py" in graph["targen/config/validation.py"]
    assert "targen/config/run_directory.py" in graph["targen/generate.py"]
    assert sum(map(len, graph.values())) >= 1000


def test_imports_between_packages_go_one_way() -> None:
    for module, imported in imports().items():
        allowed = PACKAGES[: PACKAGES.index(module.split("/")[0]) + 1]
        assert {name.split("/")[0] for name in imported} <= set(allowed), module


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as err:
        pytest.fail(f"circle: {' <- '.join(err.args[1])}")


def test_inside_each_folder_imports_go_one_way() -> None:
    """In every folder its modules and sub-folders, each sub-folder taken as a whole, have an order."""
    folders = {str(folder) for module in imports() for folder in Path(module).parents} - {"."}
    assert len(folders) >= 35
    for folder in folders:
        graph: dict[str, set[str]] = {}
        for module, imported in imports().items():
            if Path(module).is_relative_to(folder):
                inside = {_child(name, folder) for name in imported if Path(name).is_relative_to(folder)}
                child = _child(module, folder)
                graph.setdefault(child, set()).update(inside - {child})
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as err:
            pytest.fail(f"circle in {folder}: {' <- '.join(err.args[1])}")


def _child(module: str, folder: str) -> str:
    return Path(module).relative_to(folder).parts[0]


def test_the_top_level_of_a_package_holds_only_what_is_typed() -> None:
    for package, commands in COMMANDS.items():
        assert {path.stem for path in (PROJECT / package).glob("*.py")} - {"__init__"} == commands


def test_folders_and_modules_stay_small() -> None:
    modules = [path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")]
    by_folder: dict[str, int] = {}
    for path in modules:
        if path.name != "__init__.py":
            folder = str(path.parent.relative_to(PROJECT))
            by_folder[folder] = by_folder.get(folder, 0) + 1
    assert sum(by_folder.values()) >= 195
    assert {folder for folder, count in by_folder.items() if count > MOST_MODULES} <= CROWDED
    lengths = {str(path.relative_to(PROJECT)): len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    assert {name for name, length in lengths.items() if length > MOST_LINES} <= LONG


def test_every_experiment_composes() -> None:
    experiments = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
    assert "quickstart" in experiments
    for name in experiments:
        assert settings(f"+experiment={name}").name == name


def test_every_choice_of_every_group_composes() -> None:
    choices = [
        f"{group}={path.stem}"
        for group in ("method", "model", "train", "eval", "analysis", "data", "synth", "cluster")
        for path in (PROJECT / "conf" / group).glob("*.yaml")
    ]
    assert len(choices) >= 33
    for choice in choices:
        settings(choice, "task=cb")


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
        chosen = settings(f"generator={name}", "task=cb", *([] if model else ["generator.model=m"])).generator
        assert (chosen.backend, chosen.model) == (backend, model or "m")
        if backend == "vllm":
            assert chosen.engine["max_model_len"] == 8192  # what vllm.yaml says stays, beside what the model changes
    assert settings("generator=llama31_70b", "task=cb").generator.engine["tensor_parallel_size"] == 4
    assert settings("generator=qwen3_8b", "task=cb").generator.chat_template_kwargs == {"enable_thinking": False}


def test_a_generator_on_the_command_line_takes_the_place_of_the_experiments() -> None:
    main = "+experiment=superglue_flant5"
    assert settings(main, "task=cb").generator.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert settings(main, "task=cb", "generator=qwen25_7b").generator.model == "Qwen/Qwen2.5-7B-Instruct"
