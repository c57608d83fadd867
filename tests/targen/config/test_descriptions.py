"""Every setting is described once; conf/ and the docs use these keys and texts."""

import re
from pathlib import Path

import pytest
import yaml

from targen.config.descriptions import COMMENTED, commented_files, descriptions, with_comments
from targen.runtime.paths import CONF
from tests.support.commands import PROJECT

FREE = (
    "generator.engine",
    "generator.chat_template_kwargs",
    "generator.extra_body",
    "synth.sampling",
    "model.config",
    "tasks",
    "method",
)


def keys(values: object, prefix: str) -> list[str]:
    """Dotted keys of YAML values, down to the settings whose keys are free."""
    if not isinstance(values, dict) or prefix.rstrip(".") in FREE:
        return []
    return [key for name, value in values.items() for key in (prefix + name, *keys(value, f"{prefix}{name}."))]


def test_every_key_has_a_description() -> None:
    texts = descriptions()
    assert len(texts) >= 230
    assert {key for key, text in texts.items() if not re.fullmatch(r"[^\n]{10,}[.]|.*[.][.][.]", text)} == set()


@pytest.mark.parametrize("name", COMMENTED)
def test_conf_names_only_described_keys(name: str) -> None:
    values = yaml.safe_load((CONF / name).read_text(encoding="utf-8"))
    prefix = COMMENTED[name] and f"{COMMENTED[name]}."
    values = {key: value for key, value in values.items() if key not in ("defaults", "hydra")}
    assert keys(values, prefix)
    assert set(keys(values, prefix)) <= set(descriptions())


def test_every_default_is_explained_in_conf() -> None:
    groups = {prefix.partition(".")[0] for prefix in COMMENTED.values()} - {""}
    assert groups == {"analysis", "cluster", "data", "eval", "generator", "model", "synth", "train"}


def test_comments_in_conf_are_the_descriptions() -> None:
    """Where this fails, change the text below the field, and run python -m targen.config.descriptions."""
    files = dict(commented_files())
    assert len(files) == 14
    for path, text in files.items():
        assert path.read_text(encoding="utf-8") == text, path


def test_another_comment_is_replaced() -> None:
    text = "epochs: 10  # wrong\n                         # and more\n\n# kept\nlora:\n  r: null\n"
    assert with_comments(text, "train") == (
        "epochs: 10               # Passes over the training rows.\n\n# kept\n"
        "lora:                    # Adapters instead of all weights: train.lora.r=16, or train.lora=default.\n"
        "  r: null                # Rank; null: no adapters.\n"
    )


def test_the_documentation_names_only_keys_that_exist() -> None:
    pages = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
    texts, count = descriptions(), 0
    groups = {key.partition(".")[0] for key in texts if "." in key}
    for page in pages:
        for key in set(re.findall(r"(?<![\w./-])([a-z]\w*(?:\.\w+)+)=", page.read_text(encoding="utf-8"))):
            if key.partition(".")[0] in groups - set(FREE) and not key.startswith(tuple(f"{free}." for free in FREE)):
                count += 1
                assert key in texts, f"{Path(page).name}: {key}="
    assert count >= 60
