"""Fixtures of the tests of servers."""

import json

import pytest

from targen.generate import generate
from tests.support.commands import files, lines, settings
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import SIZE


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a good server with the fake model gives."""
    from targen.llm.messages import AwaitingAnswers

    folder = tmp_path_factory.mktemp("good")
    values = ("generator=batch", "generator.model=fake", f"run.dir={folder}", "task=rte", "synth.few_rounds=false")
    while True:
        try:
            generate(
                settings(
                    *values,
                    "synth.contexts=4",
                    "synth.seeds_per_context=2",
                    f"synth.size={SIZE}",
                    "synth.learnability_rows=0",
                )
            )
            return files(folder / "synthetic")
        except AwaitingAnswers:
            requests = [line for path in folder.glob("requests*.jsonl") for line in lines(path)]
            answers = [
                {"custom_id": r["custom_id"], "response": {"status_code": 200, "body": FakeModel().complete(r["body"])}}
                for r in requests
            ]
            (folder / "responses.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
