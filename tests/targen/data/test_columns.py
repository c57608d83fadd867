"""A user's own rows: JSONL, CSV or TSV, or a data set of the Hub's form, with columns and labels that their task maps."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset

from targen.config.groups.data import Data
from targen.config.validation import check
from targen.data.original import Split, eval_split
from targen.runtime.errors import UserError
from targen.tasks.own_task import complete_specification
from targen.tasks.registry import with_format
from targen.tasks.task import Task
from tests.support.small_data import SPECS

SPECIFICATION = {
    "description": "Decide which team a ticket goes to",
    "fields": {"text": "a ticket"},
    "labels": {"billing": "charges", "outage": "no connection"},
    "columns": {"text": "Ticket body", "label": "Queue"},
    "label_names": {"Billing & payments": "billing", 3: "outage"},
}
TICKETS = with_format(check(Task, complete_specification("tickets", SPECIFICATION, "tickets.yaml")))
ROWS = [
    {"text": "Charged twice.", "label": "billing", "idx": 0},
    {"text": 'She wrote: "no\nline"', "label": "outage", "idx": 1},
    {"text": "Refund, please; soon.", "label": "billing", "idx": 2},
    {"text": "Böse Störung", "label": "outage", "idx": 3},
]
TABLE = '''\
id,Ticket body,Queue
7,Charged twice.,Billing & payments
8,"She wrote: ""no
line""",3
9,"Refund, please; soon.",BILLING
10,Böse Störung, outage
'''


def read_split(path: Path, task: Task = TICKETS) -> Split:
    return eval_split(Data("auto", str(path), None, None), task)


def write_table(folder: Path, text: str, name: str = "rows.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("rows.csv", lambda text: text),
        ("rows.CSV", lambda text: "\ufeff" + text.replace("\n", "\r\n").replace("no\r\nline", "no\nline")),
        ("rows.csv", lambda text: text.replace(";", "\0").replace(",", ";").replace("\0", ",").replace('"Refund; please, soon."', '"Refund, please; soon."')),
        ("rows.tsv", lambda text: "id\tTicket body\tQueue\n" + "".join(f"7\t{row}\n" for row in ("Charged twice.\tbilling", '"She wrote: ""no\nline"""\t3', "Refund, please; soon.\tbilling", "Böse Störung\toutage"))),
    ],
)  # fmt: skip
def test_a_table_is_read_as_spreadsheets_write_it(tmp_path: Path, name: str, change: Callable[[str], str]) -> None:
    split = read_split(write_table(tmp_path, change(TABLE), name))
    assert list(split.rows) == ROWS
    assert (split.source, split.origin, split.location, split.name) == ("file", name, str(tmp_path / name), "val")


def test_json_lines_may_have_other_columns_and_numbers_as_labels(tmp_path: Path) -> None:
    lines = [
        {"Ticket body": "A b.", "Queue": label, "channel": "mail"} for label in ("billing", 3, "Billing & payments", 3)
    ]
    split = read_split(write_table(tmp_path, "".join(json.dumps(line) + "\n" for line in lines), "rows.jsonl"))
    assert [row["label"] for row in split.rows] == ["billing", "outage", "billing", "outage"]
    assert set(split.rows[0]) == {"text", "label", "idx"}


@pytest.mark.parametrize("name", ["tickets/val.csv", "val.csv"])
def test_in_a_folder_the_file_has_the_name_of_its_split(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    assert read_split(write_table(tmp_path, TABLE, name).parents[name.count("/")]).origin == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TABLE.replace("Queue", "Team"), "got the columns 'id', 'Ticket body', 'Team', expected also 'Queue' for tickets. Rename them, or name them in the task: `columns: {label: ...}`."),
        (TABLE.replace("BILLING", "Sales").replace(",3", ",Moving"), "rows.csv:4: label: got 'Moving' (1 rows), 'Sales' (1 rows), expected one of 'billing', 'outage'."),
        (TABLE.replace(" outage", ""), "rows.csv:6: the label is hidden, expected a labelled row."),
        (TABLE.replace("Charged twice.", " "), "rows.csv:2: text: got ' ', expected a text."),
        (TABLE.replace('"Refund, please; soon."', "Refund, please; soon."), "rows.csv:5: got 4 fields, expected 3 as in its first line."),
        (TABLE.replace(",BILLING", ""), "rows.csv:5: got 2 fields, expected 3 as in its first line."),
        (TABLE.replace(", outage", ',"outage'), "rows.csv:6: unexpected end of data."),
        ("".join(TABLE.splitlines(keepends=True)[:4]), "got 1 of 'billing', 1 of 'outage' in 2 rows, expected at least two rows of each label of tickets."),
        ("id,Ticket body,Queue\n", "rows.csv: got no row, expected rows of tickets."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError) as err:
        read_split(write_table(tmp_path, text))
    assert words in str(err.value) and "\n" not in str(err.value)


def test_another_encoding_or_kind_of_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows.csv: not UTF-8 .* Save the file as UTF-8."):
        read_split(write_table(tmp_path, TABLE, encoding="latin-1"))
    with pytest.raises(UserError, match=r"rows.xlsx, expected a .jsonl, .csv or .tsv file"):
        read_split(write_table(tmp_path, TABLE, "rows.xlsx"))


def test_official_rows_may_come_as_a_table(tmp_path: Path) -> None:
    split = read_split(write_table(tmp_path, "hypothesis,premise,label\nB.,A.,neutral\n"), SPECS["cb"])
    assert split.rows == ({"premise": "A.", "hypothesis": "B.", "label": "neutral", "idx": 0},)
    assert split.source == "file"


def test_a_data_set_of_the_hubs_form_is_mapped_too(tmp_path: Path) -> None:
    """Its only configuration has another name than the task; labels are numbers with names."""
    table = Dataset.from_dict({"sentence": ["A b.", "C d.", "E f.", "G h."], "y": [1, 0, 0, 1]})
    table.cast_column("y", ClassLabel(names=["off", "Billing & payments"])).to_parquet(tmp_path / "test.parquet")
    task = replace(
        TICKETS,
        columns={"text": "sentence", "label": "y"},
        label_names={"Billing & payments": "billing", 0: "outage"},
        eval_split="test",
    )
    split = eval_split(Data("auto", None, str(tmp_path), None), task)
    assert [row["label"] for row in split.rows] == ["billing", "outage", "outage", "billing"]
    assert (split.source, split.name) == ("hub", "test")
