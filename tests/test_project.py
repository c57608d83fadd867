"""The shape of the project: imports go one way, folders and modules stay small, every configuration composes."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from targen.config.loading import settings_from
from targen.llm.registry import backend_names
from targen.runtime.cli import compose
from tests.support.commands import PROJECT, settings
from tests.support.composed import composed

PACKAGES = ("targen", "train", "eval", "slurm")  # each imports itself and those before it
COMMANDS = {
    "targen": {"__main__", "run", "generate", "contexts", "merge", "new_task", "publish"},
    "train": {"run", "launch", "plan"},
    "eval": {"run", "analyze", "fetch", "report", "plan", "scores", "superglue"},
}
CROWDED: set[str] = set()  # folders that still hold more than MOST_MODULES modules
LONG: set[str] = {"eval/statistics/significance.py"}  # modules that still have more than MOST_LINES lines
MOST_MODULES = 12
MOST_LINES = 300

Imports = Mapping[str, frozenset[str]]  # of each module the modules that it imports, all by path: targen/config/arms.py


@cache
def imports() -> Imports:
    """The imports of every module between the packages, also those inside functions and under TYPE_CHECKING.

    A package whose __init__ holds a docstring alone is no module: importing it depends on no code.
    """
    paths = {path.relative_to(PROJECT): path for package in PACKAGES for path in (PROJECT / package).rglob("*.py")}
    trees = {path: ast.parse(file.read_text(encoding="utf-8")) for path, file in paths.items()}
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


def test_tests_compose_as_a_command_does() -> None:
    overrides = ["+experiment=quickstart", "task=[rte,axg]", "model=tiny_encoder", "synth.size=4", "run.dir=a"]
    assert settings_from(composed(overrides)) == settings_from(compose(overrides))
    assert list(settings_from(composed(overrides)).tasks) == ["rte", "axg"]


def test_every_experiment_composes() -> None:
    experiments = sorted(path.stem for path in (PROJECT / "conf" / "experiment").glob("*.yaml"))
    assert "quickstart" in experiments
    for name in experiments:
        assert settings(f"+experiment={name}").name == name


@pytest.mark.parametrize(("study", "count"), [("superglue_recorded", 27), ("text_classification", 21)])
def test_every_part_of_a_study_composes(study: str, count: int) -> None:
    script = (PROJECT / "scripts" / "study.sh").read_text(encoding="utf-8")
    function = re.search(rf"^{study}\(\) \{{.*?^\}}\n", script, re.MULTILINE | re.DOTALL)
    assert function is not None
    output = subprocess.run(["bash", "-c", f"{function[0]}{study}"], capture_output=True, text=True, check=True).stdout
    parts = [line.split() for line in output.splitlines()]
    assert len({name for name, *_ in parts}) == len(parts) == count
    for _, *overrides in parts:
        settings(f"+experiment={study}", *overrides)


def test_a_study_compares_sets_of_equal_size() -> None:
    script = (PROJECT / "scripts" / "study.sh").read_text(encoding="utf-8")
    lines = re.findall(r"arms=\[original,synthetic[^\]]*\].*", script)
    assert len(lines) == 5
    assert all("train.equal_size=true" in line or "train.max_rows=" in line for line in lines)


def test_every_choice_of_every_group_composes() -> None:
    """Choices of the other groups need more settings, and are composed in the tests of those."""
    elsewhere = {"generator", "method", "model", "task"}
    defaults = yaml.safe_load((PROJECT / "conf" / "config.yaml").read_text(encoding="utf-8"))["defaults"]
    groups = {group for entry in defaults if isinstance(entry, dict) for group in entry}
    assert len(groups) >= 10 and elsewhere <= groups
    for group in groups - elsewhere:
        for choice in (PROJECT / "conf" / group).glob("*.yaml"):
            settings(f"{group}={choice.stem}", "task=cb")


def test_every_generator_composes_with_what_its_file_says() -> None:
    folder = PROJECT / "conf" / "generator"
    names = {path.stem for path in folder.glob("*.yaml")}
    assert len(names) >= 11 and set(backend_names()) <= names
    for name in names:
        file = generator_file(folder, name)
        model = "m" if file["model"] == "???" else file["model"]
        generator = settings(f"generator={name}", "task=cb", f"generator.model={model}").generator
        assert (generator.backend, generator.model) == (file["backend"], model)
        assert generator.engine == file.get("engine", {})  # what the base says stays, beside what the file changes
        assert generator.chat_template_kwargs == (file.get("chat_template_kwargs") or {})
    assert settings("generator=llama31_8b", "task=cb").generator.backend == "vllm"
    assert settings("generator=llama31_70b", "task=cb").generator.engine["max_model_len"] == 8192
    assert settings("generator=llama31_70b", "task=cb").generator.engine["tensor_parallel_size"] == 4
    assert settings("generator=qwen3_8b", "task=cb").generator.chat_template_kwargs == {"enable_thinking": False}


def generator_file(folder: Path, name: str) -> dict[str, Any]:
    """The values of a file over those of the file that it builds on."""
    values: dict[str, Any] = yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8"))
    base, *_ = values.pop("defaults", ["_self_"])
    if base != "_self_":
        earlier = generator_file(folder, base)
        values = earlier | values | {"engine": earlier.get("engine", {}) | values.get("engine", {})}
    return values


def test_a_generator_on_the_command_line_takes_the_place_of_the_experiments() -> None:
    main = "+experiment=superglue_flant5"
    assert settings(main, "task=cb").generator.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert settings(main, "task=cb", "generator=qwen25_7b").generator.model == "Qwen/Qwen2.5-7B-Instruct"
