"""The shape of the project: imports go one way, every configuration composes."""

import ast
from pathlib import Path

from conftest import PROJECT, settings

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
    for group in ("generator", "method", "model", "train", "eval", "data", "synth"):
        for path in (PROJECT / "conf" / group).glob("*.yaml"):
            choices += 1
            settings(f"{group}={path.stem}", *(["generator.model=m"] if group == "generator" else []))
    assert choices >= 9
