"""Tasks by name and from files."""

from dataclasses import replace
from pathlib import Path

import pytest

from targen import Task, UserError, generate_rows, load_task
from tests.support.commands import settings
from tests.targen.interface.test_generate_rows import FEW, answer

TICKETS = """
description: A message to the support of a shop.
labels:
  billing: about money
  shipping: about a parcel
fields:
  message: the message
"""


def test_a_task_of_ours_by_name() -> None:
    assert load_task("copa") == settings().tasks["copa"]
    assert isinstance(load_task("copa"), Task)
    with pytest.raises(UserError, match=r"^task: got 'cpoa', expected a task .* Did you mean 'copa'\?$"):
        load_task("cpoa")


def test_a_task_of_the_users_own_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text(TICKETS)
    task = load_task(tmp_path / "tickets.yaml")
    assert [label.name for label in task.labels] == ["billing", "shipping"]
    assert task == load_task(str(tmp_path / "tickets.yaml"))
    renamed = replace(task, title="Tickets of 5 ${shop}")
    rows = generate_rows(
        renamed, answer, size=2, run_dir=tmp_path / "run", settings=FEW | {"synth.self_correct": "off"}
    )
    assert {row.label for row in rows} == {"billing", "shipping"}
    assert "Tickets of 5 ${shop}" in (tmp_path / "run" / "config.yaml").read_text()


def test_what_is_wrong_in_a_file_is_one_line_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "tickets.yaml").write_text(TICKETS + "colour: red\n")
    with pytest.raises(UserError, match=r"^.*/tickets.yaml: colour: no such key\.") as error:
        load_task(tmp_path / "tickets.yaml")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"^task: got 'ticket', expected a file of .*Did you mean 'tickets'\?"):
        load_task(tmp_path / "ticket.yaml")
    with pytest.raises(UserError, match=r"^task_dir: got .*none, which is no folder"):
        load_task(tmp_path / "none" / "ticket.yaml")
