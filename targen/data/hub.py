"""The Hugging Face mirror of SuperGLUE, brought back to the official row format. Labels are converted by name."""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task

log = logging.getLogger(__name__)
HUB_TIMEOUT = 5.0  # seconds
SPLITS = {"train": "train", "val": "validation", "test": "test"}


class HubUnreachable(Exception):
    """Neither the Hub nor a cached copy has the data set."""


def hub_rows(name: str, task: Task, split: str) -> Iterator[Row]:
    """The rows of a split. Raises: HubUnreachable; UserError where the mirror has another form."""
    if not Path(name).exists() and not _hub_answers():
        _go_offline()
    from datasets import load_dataset
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    try:
        records = load_dataset(name, task.name, split=SPLITS[split])
    except (OSError, ValueError) as err:  # what datasets and huggingface_hub raise without network and cache
        said = " ".join(str(err).split())[:200]
        text = f"got {name}, whose {task.name} cannot be loaded ({said}). Correct it, or set data.source=local data.dir=..."
        if Path(name).exists() or _hub_answers():
            raise UserError(f"data.hub: {text}") from None
        raise HubUnreachable(text) from None
    feature = records.features.get("label")
    names = getattr(feature, "names", None)
    if feature is not None and names is None:
        raise UserError(
            f"data.hub: {name} has labels without names, expected the names of {task.folder}. Take aps/super_glue."
        )
    return official_rows(task, records, names)


def records_of(name: str, config: str) -> Any:
    """The train split of another data set. Raises: UserError where it cannot be had."""
    if not Path(name).exists() and not _hub_answers():
        _go_offline()
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    try:
        return _train_split(name, config)
    except (OSError, ValueError, RuntimeError) as err:
        said = " ".join(str(err).split())[:200]
        raise UserError(
            f"data.self_instruct: got {name}, which cannot be loaded ({said}). Fetch its file and name that: "
            "data.self_instruct=/path/to/file.jsonl."
        ) from None


def _train_split(name: str, config: str) -> Any:
    """A data set that is a program is not run: the Hub keeps a copy as plain tables, a folder for each configuration."""
    from datasets import Dataset, load_dataset
    from huggingface_hub import snapshot_download

    try:
        return load_dataset(name, config, split="train")
    except (OSError, ValueError, RuntimeError) as err:  # offline a program looks like any data set that is not there
        tables, revision = f"{config}/train/*.parquet", "refs/convert/parquet"
        try:
            folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=tables)
            return Dataset.from_parquet([str(path) for path in sorted(Path(folder).glob(tables))])
        except (OSError, ValueError):
            raise err from None


def _go_offline() -> None:
    """From now on a cached copy is used, and nothing is waited for, also where the Hub's clients are imported already."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            vars(sys.modules[name])["HF_HUB_OFFLINE"] = True


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether the Hub is there, asked once and briefly: its own clients try for half a minute per data set."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    request = urllib.request.Request(os.environ.get("HF_ENDPOINT", "https://huggingface.co"), method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        log.warning("data: the Hub cannot be reached; only what is cached on this machine can be loaded")
        return False
    return True


def official_rows(task: Task, records: Any, names: list[str] | None) -> Iterator[Row]:
    """Mirror records as official rows. ReCoRD's mirror has one record a query: consecutive ones share a passage."""
    if task.name == "record":
        yield from _record_rows(records)
        return
    for record in records:
        yield _row(task, record, names)


def _row(task: Task, record: Json, names: list[str] | None) -> Row:
    row: Row = {key: value for key, value in record.items() if key != "label"}
    if task.name == "wsc":
        keys = ("span2_index", "span1_index", "span1_text", "span2_text")
        row = {"text": record["text"], "target": {key: record[key] for key in keys}, "idx": record["idx"]}
    elif task.name == "wic":
        row["version"] = 1.1
    elif task.name == "axg":
        row["pair_id"] = record["idx"]
    if names is not None and record["label"] >= 0:  # -1: hidden
        row["label"] = _value(task, names[record["label"]])
    return row


def _value(task: Task, name: str) -> str | bool | int:
    """The official value of a label that the mirror calls `name` (BoolQ's true is its "True")."""
    for label in task.labels:
        if name in (label.name, str(label.value)):
            return label.value
    raise UserError(
        f"data.hub: got the label {name!r} for {task.name}, expected one of {[label.name for label in task.labels]}."
    )


def _record_rows(records: Any) -> Iterator[Row]:
    row: Row | None = None
    for record in records:
        place: Mapping[str, int] = record["idx"]
        if row is None or row["idx"] != place["passage"]:
            if row is not None:
                yield row
            spans = record["entity_spans"]
            pairs = sorted(
                (start, start + len(text) - 1) for start, text in zip(spans["start"], spans["text"], strict=True)
            )
            entities = [{"start": start, "end": end} for start, end in pairs]
            row = {
                "source": "",
                "passage": {"text": record["passage"], "entities": entities},
                "qas": [],
                "idx": place["passage"],
            }
        text = row["passage"]["text"]
        query: Json = {"query": record["query"], "idx": place["query"]}
        if record["answers"]:
            query["answers"] = [
                {**entity, "text": text[entity["start"] : entity["end"] + 1]}
                for entity in row["passage"]["entities"]
                if text[entity["start"] : entity["end"] + 1] in record["answers"]
            ]
        row["qas"].append(query)
    if row is not None:
        yield row
