"""The Hub's mirror brought back to the official format: through `datasets`, from a local copy of the mirror's form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Value

from targen.config.groups.data import Data
from targen.config.required_files import local_file
from targen.data.hub import official_rows
from targen.data.original import FIXTURE, eval_split, read_rows
from targen.runtime.errors import UserError
from targen.tasks.formats.axb import TESTED
from tests.support.commands import ALL_TASKS, command, settings

SPECS = settings(f"task=[{','.join(ALL_TASKS)}]").tasks
NAMES = {  # the mirror's label names, in its order
    "axb": ["entailment", "not_entailment"],
    "axg": ["entailment", "not_entailment"],
    "boolq": ["False", "True"],
    "cb": ["entailment", "contradiction", "neutral"],
    "copa": ["choice1", "choice2"],
    "multirc": ["False", "True"],
    "rte": ["entailment", "not_entailment"],
    "wic": ["False", "True"],
    "wsc": ["False", "True"],
}


def mirrored(name: str) -> Dataset:
    """Fixture rows as the mirror has them: numbered labels, flat WSC targets, one ReCoRD record a query."""
    task = SPECS[name]
    rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
    if name == "record":
        return Dataset.from_list([record for row in rows for record in record_queries(row)])
    if name == "multirc":
        return Dataset.from_list([record for row in rows for record in answers_of(row)])
    records = []
    for row in rows:
        record = {
            key: value for key, value in row.items() if key not in ("target", "version", "pair_id", "label", *TESTED)
        }
        record |= row.get("target", {})
        label = NAMES[name].index(row["label"]) if isinstance(row["label"], str) else int(row["label"])
        records.append(record | {"label": label})
    kinds = {key: Value("string" if isinstance(value, str) else "int32") for key, value in records[0].items()}
    return Dataset.from_list(records, features=Features(kinds | {"label": ClassLabel(names=NAMES[name])}))


def answers_of(row: dict) -> list[dict]:
    return [
        {
            "paragraph": row["passage"]["text"],
            "question": question["question"],
            "answer": answer["text"],
            "idx": {"paragraph": row["idx"], "question": question["idx"], "answer": answer["idx"]},
            "label": answer["label"],
        }
        for question in row["passage"]["questions"]
        for answer in question["answers"]
    ]


def record_queries(row: dict) -> list[dict]:
    text, entities = row["passage"]["text"], row["passage"]["entities"]
    spans = {
        "text": [text[entity["start"] : entity["end"] + 1] for entity in entities],
        "start": [entity["start"] for entity in entities],
        "end": [entity["end"] + 1 for entity in entities],
    }
    return [
        {
            "passage": text,
            "query": query["query"],
            "entities": sorted(set(spans["text"])),
            "entity_spans": spans,
            "answers": sorted({answer["text"] for answer in query["answers"]}),
            "idx": {"passage": row["idx"], "query": query["idx"]},
        }
        for query in row["qas"]
    ]


@pytest.mark.parametrize("name", ALL_TASKS)
def test_mirror_records_become_the_official_rows(name: str) -> None:
    task = SPECS[name]
    hub_rows = list(official_rows(task, mirrored(name), NAMES.get(name)))
    official = [dict(row) for row in read_rows(local_file(FIXTURE, task, task.eval_split), task)]
    for row in official:
        if name == "axg":
            row["pair_id"] = row["idx"]  # the mirror has none
        if name == "record":
            row["source"] = ""
        for key in TESTED:
            row.pop(key, None)  # of AX-b: nor has it these
    assert hub_rows == official


def test_hidden_labels_stay_hidden() -> None:
    (row,) = official_rows(SPECS["rte"], [{"premise": "P.", "hypothesis": "H.", "label": -1, "idx": 0}], NAMES["rte"])
    assert "label" not in row
    records = [{**record, "label": -1} for record in mirrored("multirc")]
    for row in official_rows(SPECS["multirc"], records, NAMES["multirc"]):
        assert all(example.gold == () for example in SPECS["multirc"].examples(row))


def write_mirror(folder: Path) -> None:
    (folder / "rte").mkdir(parents=True)
    mirrored("rte").to_parquet(folder / "rte" / "validation-00000-of-00001.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: rte\n  data_files:\n  - split: validation\n    path: rte/validation-*\n---\n"
    )


def test_a_local_copy_of_the_mirror_is_loaded_by_datasets(tmp_path: Path) -> None:
    write_mirror(tmp_path)
    split = eval_split(Data("hub", None, str(tmp_path), None), SPECS["rte"])
    assert (split.origin, split.is_fixture, len(split.rows)) == (f"{tmp_path} val", False, 10)
    assert split.rows == read_rows(FIXTURE / "RTE" / "val.jsonl", SPECS["rte"])


def script(folder: Path) -> None:
    (folder / f"{folder.name}.py").write_text("import datasets\n")


def torn_table(folder: Path) -> None:
    path = folder / "rte" / "validation-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:200])


def other_columns(folder: Path) -> None:
    table = mirrored("rte").rename_column("premise", "sentence1")
    table.to_parquet(folder / "rte" / "validation-00000-of-00001.parquet")


def no_label(folder: Path) -> None:
    table = mirrored("rte").remove_columns("label")
    table.to_parquet(folder / "rte" / "validation-00000-of-00001.parquet")


@pytest.mark.parametrize("damage", [script, torn_table, other_columns, no_label])
@pytest.mark.parametrize("fallback", [None, "fixture"])
def test_a_copy_that_cannot_be_read_is_one_line(tmp_path: Path, damage: Callable[[Path], None], fallback: Any) -> None:
    """Also with data.fallback=fixture, which is for a Hub out of reach."""
    folder = tmp_path / "mirror"
    write_mirror(folder)
    damage(folder)
    with pytest.raises(UserError) as error:
        eval_split(Data("hub", None, str(folder), fallback), SPECS["rte"])
    assert str(error.value).startswith(("data.hub: got ", f"{folder} rte val"))
    assert "\n" not in str(error.value)


def test_without_the_hub_there_is_the_fixture_or_a_clear_end(tmp_path: Path) -> None:
    """In processes of their own, as in a run: `datasets` reads its offline switch when it is imported."""
    train = ["task=rte", f"run.dir={tmp_path}", "arms=[original]"]
    done = command("train.run", *train)
    assert (
        done.returncode,
        "8 cells" in done.stderr,
        "1 cells that need them are skipped" in done.stderr,
    ) == (0, False, True)
    done = command("train.run", *train, "data.fallback=null")
    assert done.returncode == 2
    assert "data.hub: got aps/super_glue, whose rte cannot be loaded" in done.stderr
    assert "data.source=local" in done.stderr


@pytest.mark.slow
def test_nothing_is_waited_for_where_the_hubs_clients_were_imported_first(tmp_path: Path) -> None:
    """As in a plan of training, or in several processes."""
    variables = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "cache")}
    arguments = ["task=cb", "model=tiny_decoder", f"run.dir={tmp_path / 'run'}", "plan=true"]
    done = command("train.run", *arguments, **variables)
    assert done.returncode == 0, done.stderr
    assert "the Hub cannot be reached" in done.stderr and "Retry" not in done.stderr
