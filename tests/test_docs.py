"""Every command in README.md and docs/ is run, in the form that the comment above its block names.

    <!-- commands: run KEY=VALUE ... -->      run, with these overrides, in the slow tests; planned in the quick ones
    <!-- commands: plan KEY=VALUE ... -->     planned: composed, checked, and the calls of generation counted
    <!-- commands: compose KEY=VALUE ... -->  composed and checked; what it then does takes a GPU, SLURM or minutes
    <!-- commands: read WHY -->               only read: the syntax, and the modules, verbs and files that it names

A block without such a comment fails. CONTRIBUTING.md's additions are run by tests/test_additions.py.
"""

import ast
import importlib.util
import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from targen.__main__ import VERBS
from targen.config.loading import settings_from
from targen.cost.report import plan_text
from targen.synthesis.recipes import recipes
from tests.support.commands import PROJECT, command
from tests.support.composed import composed
from tests.support.fake_model import FakeModel

DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- commands: (\w+)(?: ([^\n]*?))? -->\n)?^( *)```bash\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^`([\w/.]+)`[^\n]*:\n\n```(?:yaml|csv|json)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = {"run", "plan", "compose", "read"}
PYTHON = {"python", "python3", ".venv/bin/python"}
SCRIPTS = {"scripts/fetch.py": "eval.fetch", "slurm/submit.sh": "slurm.submit", "scripts/quickstart.sh": "targen.run"}
PLAIN = {"pip", ".venv/bin/pip", ".venv/bin/hf", "git", "cd", "mkdir", "export", "source", "bash", "vllm", "targen"}
COMPOSED = {"targen.run", "targen.generate", "targen.merge", "train.run", "eval.run", "slurm.submit", "eval.fetch"}


@dataclass(frozen=True)
class Block:
    """The commands of a block of bash in a document, and the rule for them."""

    document: Path
    number: int
    kind: str | None
    words: str
    text: str
    start: int  # in the document

    def __str__(self) -> str:
        return f"{self.document.name}-{self.number}"

    @property
    def commands(self) -> list[list[str]]:
        """The commands that are ours, each as module and arguments; names in angle brackets stand for the cluster `large`."""
        text = re.sub(r"<name>", "large", re.sub(r"\\\n", " ", self.text))
        lines = (shlex.split(line, comments=True) for line in text.splitlines())
        return [words for line in lines for part in _split_commands(line) if (words := _own_command(part))]

    @property
    def overrides(self) -> list[str]:
        return shlex.split(self.words)


def _split_commands(words: list[str]) -> list[list[str]]:
    """The commands of a line, between `&&`, `|` and `;`."""
    parts: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "||", "|", ";"):
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def _own_command(words: list[str]) -> list[str]:
    """Module and arguments of a command of this project; empty for another program's."""
    match words:
        case ["targen", verb, *rest]:
            assert verb in VERBS, f"targen has no verb {verb}"
            return [VERBS[verb][0], *rest, *(["plan=true"] if verb == "plan" else [])]
        case [python, "-m", module, *rest] if python in PYTHON:
            return [module, *rest]
        case ["bash", script, *rest] | [str(script), *rest] if script in SCRIPTS:
            return [SCRIPTS[script], *rest]
        case [python, script, *rest] if python in PYTHON and script in SCRIPTS:
            return [SCRIPTS[script], *rest]
    return []


def blocks() -> list[Block]:
    bash_blocks = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for number, match in enumerate(BLOCK.finditer(text), start=1):
            kind, words, _, block = match.groups()
            bash_blocks.append(Block(document, number, kind, words or "", block, match.start()))
    return bash_blocks


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in blocks() if block.kind in kinds]


def test_every_block_of_commands_has_a_rule() -> None:
    assert len(blocks()) >= 20
    assert [str(block) for block in blocks() if block.kind not in KINDS] == []
    assert [str(block) for block in of_kind("read") if not block.words] == [], "read: say why"
    assert [str(block) for block in of_kind("run", "plan", "compose") if not block.commands] == [], "no command of ours"


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_what_a_block_names_is_there(block: Block) -> None:
    text = re.sub(r"<([\w. ]+)>", "NAME", block.text)
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for module, *_ in block.commands:
        assert importlib.util.find_spec(module) is not None, module
    for path in re.findall(
        r"(?<![\w./-])(?:scripts|slurm|tests|conf)/[\w/]+(?:\.\w+)?", f"{block.words}\n{block.text}"
    ):
        assert (PROJECT / path).exists(), path


def overrides_of(arguments: list[str], more: list[str], folder: Path) -> list[str]:
    """The overrides of a command with those of its rule, which take the place of equal keys. Flags, such as --dry-run, are left out."""
    overrides = [word for word in arguments if "=" in word and not word.startswith("--")]
    keys = {word.lstrip("+").partition("=")[0] for word in more}
    own_overrides = [word for word in overrides if word.lstrip("+").partition("=")[0] not in keys]
    has_tasks = any("+experiment=" in word or word.startswith("task") for word in overrides)
    experiment = [] if has_tasks else ["+experiment=quickstart"]
    run_dir = [] if any(word.startswith("run.dir=") for word in (*more, *own_overrides)) else [f"run.dir={folder}"]
    return [*experiment, *own_overrides, *more, *run_dir]


@pytest.mark.parametrize("block", of_kind("run", "plan", "compose"), ids=str)
def test_what_a_command_asks_for_can_be_composed_and_planned(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(block, tmp_path)
    monkeypatch.chdir(tmp_path)
    more = [word for word in block.overrides if "URL" not in word]
    for module, *arguments in block.commands:
        if module not in COMPOSED:
            continue
        settings = settings_from(composed(overrides_of(arguments, ["plan=true", *more], tmp_path / "run")))
        if block.kind != "compose" and "generate" in settings.phases:
            assert "plan of the generate phase" in plan_text(settings, recipes(settings))


def write_files(block: Block, folder: Path) -> None:
    """The files that the document shows above the block, each above its text as `name`:."""
    for match in FILE.finditer(block.document.read_text(encoding="utf-8"), 0, block.start):
        path = folder / match[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(match[2], encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_commands_of_a_document_run_one_after_the_other(document: Path, tmp_path: Path, serve) -> None:
    url = serve(FakeModel()).url
    document_blocks = [block for block in of_kind("run") if block.document == document]
    if not document_blocks:
        pytest.skip("nothing in it is run")
    for block in document_blocks:
        write_files(block, tmp_path)  # what the reader edits, over what a command wrote
        for module, *arguments in block.commands:
            more = [word.replace("URL", url) for word in block.overrides]
            keys = {word.partition("=")[0] for word in more}
            own_arguments = [word for word in arguments if word.partition("=")[0] not in keys]
            done = command(module, *own_arguments, *(more if module in COMPOSED else []), cwd=tmp_path)
            assert done.returncode == 0, f"{module} {arguments}\n{done.stderr}"


QUOTED = re.compile(r"^\| (.*?) \| ", re.MULTILINE)


def test_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    """Their fixed parts, between dots, are in texts of the code. Messages of other programs stand with the program's name."""
    page = (PROJECT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    cells = [cell for cell in QUOTED.findall(page) if re.fullmatch(r"`[^`]+`", cell)]
    assert len(cells) >= 24
    texts = code_texts()
    unknown = [
        f"{part!r} of {cell}"
        for cell in cells
        for part in re.split(r"\.\.\.", cell.strip("`"))
        if len(part.strip()) > 3 and not any(part.strip() in text for text in texts)
    ]
    assert unknown == []


def code_texts() -> list[str]:
    """The texts in the code, without the values of f-strings; scripts as they are."""
    texts = [path.read_text(encoding="utf-8") for path in (PROJECT / "scripts").glob("*.sh")]
    for path in (
        path for package in ("targen", "train", "eval", "slurm") for path in (PROJECT / package).rglob("*.py")
    ):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts
