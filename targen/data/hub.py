"""Data sets on the Hugging Face Hub, such as the mirror of SuperGLUE, in the row format of their task. Labels are converted by name."""

import logging
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from targen.data.columns import LABEL, column_of, has_plain_rows, rows_of
from targen.runtime.errors import Unreachable, UserError, one_line
from targen.runtime.jsonl import Json
from targen.runtime.paths import visible_paths
from targen.tasks.task import Row, Task

log = logging.getLogger(__name__)
HUB_TIMEOUT = 5.0  # seconds
SPLITS = {"train": "train", "val": "validation", "test": "test"}


class HubUnreachable(Exception):
    """The data set is neither on a reachable Hub nor in the cache."""


def hub_rows(name: str, task: Task, split: str, labelled: bool = True) -> Iterator[tuple[int, Row]]:
    """(number, row) of a split (train, val, test), in the format of the task.

    Raises: HubUnreachable; UserError if the data set does not have the expected form.
    """
    _prepare(name)
    try:
        records = _load_split(name, task, SPLITS[split])
    except Exception as err:  # without network and cache, or whatever a script or a torn file leads to
        reason = one_line(err, 200)
        text = f"got {name}, whose {task.name} cannot be loaded ({reason}). Correct it, or set data.source=local data.dir=..."
        if Path(name).exists() or _hub_answers():
            raise UserError(f"data.hub: {text}") from None
        raise HubUnreachable(text) from None
    column = column_of(task, LABEL, records.features)
    feature = records.features.get(column)
    names = getattr(feature, "names", None)
    if has_plain_rows(task):
        numbered = enumerate(_with_label_name(task, record, column, names) for record in records)
        return rows_of(task, numbered, f"{name} {split}", labelled)
    if feature is not None and names is None:
        raise UserError(
            f"data.hub: {name} has labels without names, expected the names of {task.folder}. Use data.hub=aps/super_glue."
        )
    try:
        return enumerate(list(official_rows(task, records, names)))
    except (KeyError, TypeError, AttributeError, IndexError) as err:
        raise UserError(
            f"data.hub: got {name}, whose {task.name} has other columns than SuperGLUE's ({type(err).__name__}: {err}). Set "
            "data.hub=aps/super_glue, or data.source=local data.dir=..."
        ) from None


def _prepare(name: str) -> None:
    """Before a data set is loaded: no waiting for a Hub that does not answer, and no bars."""
    if not Path(name).exists():
        stay_offline_without_network()
    from datasets.utils import disable_progress_bars

    disable_progress_bars()


def _load_split(name: str, task: Task, split: str) -> Any:
    """The split of the configuration that has the task's name, or else of the only one, a `datasets.Dataset`."""
    from datasets import load_dataset

    try:
        return load_dataset(name, task.name, split=split)
    except ValueError:
        if not has_plain_rows(task):
            raise
        return load_dataset(name, split=split)


def _with_label_name(task: Task, record: Json, column: str, names: list[str] | None) -> Json:
    """The record with the name of its label instead of a number, unless the task maps the number; hidden (-1): without."""
    label = record.get(column)
    if names is None or type(label) is not int or label in task.label_names:
        return record
    return {**record, column: names[label] if label >= 0 else None}


def records_of(name: str, config: str) -> Any:
    """The train split of another data set, a `datasets.Dataset`. Raises: UserError if it cannot be loaded."""
    _prepare(name)
    try:
        return _train_split(name, config)
    except Exception as err:
        reason = one_line(err, 200)
        raise Unreachable(
            f"data.self_instruct: got {name}, which cannot be loaded ({reason}). Download its file and set "
            "data.self_instruct=/path/to/file.jsonl."
        ) from None


def _train_split(name: str, config: str) -> Any:
    """Loads a data set without running a loading script: for those the Hub keeps Parquet copies, one folder per configuration."""
    from datasets import Dataset, load_dataset
    from huggingface_hub import snapshot_download

    try:
        return load_dataset(name, config, split="train")
    except Exception as err:  # offline, a loading script looks like a missing data set
        tables, revision = f"{config}/train/*.parquet", "refs/convert/parquet"
        try:
            folder = snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=tables)
            return Dataset.from_parquet([str(path) for path in visible_paths(Path(folder), tables)])
        except Exception:
            raise err from None


def stay_offline_without_network() -> None:
    """Makes the Hub's clients use only their cache if the Hub does not answer; else each would wait for half a minute."""
    if not _hub_answers():
        _go_offline()


def _go_offline() -> None:
    """Makes the Hub's clients use cached copies from now on, without waiting, even if they are already imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in ("huggingface_hub.constants", "datasets.config"):
        if name in sys.modules:
            vars(sys.modules[name])["HF_HUB_OFFLINE"] = True


@lru_cache(maxsize=1)
def _hub_answers() -> bool:
    """Whether the Hub answers. Asked once, with a short timeout: its own clients retry for half a minute per data set."""
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


def official_rows(task: Task, records: Iterable[Json], label_names: list[str] | None) -> Iterator[Row]:
    """Records of the mirror as official rows; `label_names` are the mirror's names, indexed by the label of a record."""
    for row in task.from_hub(_with_official_label(task, record, label_names) for record in records):
        label = {"label": row["label"]} if "label" in row else {}
        yield {key: value for key, value in row.items() if key != "label"} | label  # the label always comes last


def _with_official_label(task: Task, record: Json, label_names: list[str] | None) -> Json:
    """The record with the official value of its label; without a label if it is hidden (-1)."""
    row = {key: value for key, value in record.items() if key != "label"}
    if label_names is not None and record["label"] >= 0:
        row["label"] = _official_value(task, label_names[record["label"]])
    return row


def _official_value(task: Task, label_name: str) -> str | bool | int:
    """The official value of a label that the mirror calls `label_name` (BoolQ's true is its "True")."""
    official = task.label_names.get(label_name, label_name)
    for label in task.classes:
        if official in (label.name, str(label.value)):
            return label.value
    raise UserError(
        f"data.hub: got the label {label_name!r} for {task.name}, expected one of {[label.name for label in task.classes]}. "
        "Set data.hub to a mirror of SuperGLUE, such as aps/super_glue."
    )
