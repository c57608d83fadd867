"""docs/python.md is right: its examples run, in order, with a fake server in place of a real one."""

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eval import Run
from targen.quality import available
from targen.quality.encoder import NoEncoder
from tests.support.commands import PROJECT, lines
from tests.support.fake_model import FakeModel

DOC = PROJECT / "docs" / "python.md"


def without_encoder(*_: object) -> None:
    raise NoEncoder("left out")


class Client:
    """Has the interface of OpenAI's client."""

    def __init__(self) -> None:
        self.chat = SimpleNamespace(completions=self)

    def create(self, **body: Any) -> Any:
        return json.loads(json.dumps(FakeModel().complete(body)), object_hook=lambda fields: SimpleNamespace(**fields))


def test_the_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], serve
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(available, "embed_in_subprocess", without_encoder)
    monkeypatch.setattr("logging.basicConfig", lambda **_: None)
    server = serve(FakeModel())
    text = DOC.read_text(encoding="utf-8").replace("http://localhost:8000/v1", server.url)
    ((name, content),) = re.findall(r"^`([\w/]+\.yaml)`:\n\n```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / name).parent.mkdir()
    (tmp_path / name).write_text(content)
    names: dict[str, Any] = {"client": Client()}
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(compile(block, str(DOC), "exec"), names)
    assert len(server.bodies) > 10
    run = Run("outputs/tickets")
    assert list(run.rows()) == list(names["rows"]) and len(run.rows()) + len(run.held_out()) == 8
    assert lines(tmp_path / "outputs" / "tickets" / "calls" / "tickets.jsonl")[0]["model"] == "NAME"
    printed = capsys.readouterr().out
    for line in re.findall(r"^This prints `(.*?)`", text, re.MULTILINE):
        assert f"{line}\n" in printed
    assert "{'accuracy': 1.0" in printed and "'billing': " in printed


def test_the_table_names_all_that_a_run_gives() -> None:
    row = next(line for line in DOC.read_text(encoding="utf-8").splitlines() if line.startswith("| `eval.Run("))
    public = {name for name in vars(Run) if not name.startswith("_")}
    assert public == set(re.findall(r"`(\w+)`", row))
