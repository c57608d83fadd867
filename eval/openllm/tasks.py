"""Tasks of lm-evaluation-harness, ready to be run: the installed ones, on the Hub's data or on local files."""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from eval.openllm.harness_output import warnings_once
from targen.config.openllm import Subtask, local_openllm_file
from targen.data.hub_requirements import HubRequirement
from targen.data.openllm_files import rows_of
from targen.runtime.errors import UserError, one_line

TASKS = Path(lm_eval.tasks.__file__).parent
SEED = 1234  # the harness's own; GPQA's answers are shuffled when its task is made
SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")
GROUP_KEYS = ("tag", "group", "task_list")  # of a group of tasks; the harness's own loader leaves them out as well


class ReadOnce(ConfigurableTask):  # type: ignore[misc]
    """A task that builds its documents once: the harness builds them again for the requests and for the scores."""

    @cached_property
    def eval_docs(self) -> Any:
        """The documents, loaded at the first access and kept."""
        return super().eval_docs


@dataclass(frozen=True)
class HarnessTask:
    """A subtask as the harness runs it, with its documents."""

    subtask: Subtask
    task: Any  # a ConfigurableTask of the harness, which has no types
    origin: str
    documents: int  # of the whole split
    evaluated: str  # hash of the documents that are scored
    example_pool: str  # hash of the documents that examples are taken from

    @property
    def version(self) -> str:
        """Version of the task in lm-evaluation-harness."""
        return str(self.task.VERSION)


def harness_tasks(subtasks: Sequence[Subtask], data_dir: str | None, limit: int | None) -> list[HarnessTask]:
    """All tasks with their documents. Raises: UserError for the first whose documents are not available."""
    datasets.disable_progress_bars()
    with warnings_once("documents"):
        return [_harness_task(subtask, data_dir, limit) for subtask in subtasks]


def data_sets(subtasks: Sequence[Subtask]) -> list[HubRequirement]:
    """The data sets that the harness loads from the Hub for these subtasks, each once."""
    data_sets_by_name: dict[tuple[str, str], HubRequirement] = {}
    for subtask in subtasks:
        config = load_yaml(TASKS / subtask.file, resolve_func=False)
        key = (config["dataset_path"], config.get("dataset_name") or "")
        data_sets_by_name.setdefault(key, HubRequirement("dataset", key[0], subtask.name, config=key[1]))
    return list(data_sets_by_name.values())


def _harness_task(subtask: Subtask, data_dir: str | None, limit: int | None) -> HarnessTask:
    try:
        config = load_yaml(TASKS / subtask.file, resolve_func=True)
    except ImportError as err:
        raise UserError(
            f"eval.openllm.suite: {subtask.name} needs a package that is not installed ({err}). Run pip install "
            "'lm-eval[ifeval,math]', or leave it out of eval.openllm.tasks."
        ) from None
    config = {key: value for key, value in config.items() if key not in GROUP_KEYS}
    config["num_fewshot"] = subtask.shots
    where = f"{config['dataset_path']} {config.get('dataset_name') or ''}".strip()
    if data_dir is not None:
        splits, where = _local(subtask, Path(data_dir))
        config["custom_dataset"] = lambda **_: splits  # the harness passes the task's metadata
        config |= {key: None for key in SPLIT_KEYS if config.get(key) not in splits}
    random.seed(SEED)
    try:
        task = ReadOnce(config=config)
        docs, pool = task.eval_docs, list(task.fewshot_docs()) if subtask.shots else []
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise UserError(
            f"eval.openllm: the documents of {subtask.name} are not available from {where} ({one_line(err, 300)}). "
            "Fetch them first, or name a folder: eval.openllm.data_dir=..."
        ) from None
    # the harness draws one more if it takes the examples' split for the scored one, as in HellaSwag
    if subtask.shots and len(pool) < subtask.shots + (task.fewshot_cfg.split == task.config.test_split):
        raise UserError(
            f"eval.openllm.num_fewshot: {subtask.name} shows {subtask.shots} examples, but there are {len(pool)} to choose from ({where}). "
            "Give the whole split, or set a smaller number."
        )
    scored_docs = docs if limit is None else docs.select(range(min(limit, len(docs))))
    return HarnessTask(
        subtask, task, f"{subtask.split}, {where}", len(docs), documents_hash(scored_docs), documents_hash(pool)
    )


def documents_hash(rows: Any) -> str:
    """16 hex digits, equal for equal documents."""
    return hashlib.sha256(json.dumps(list(rows), default=str).encode()).hexdigest()[:16]


def _local(subtask: Subtask, folder: Path) -> tuple[datasets.DatasetDict, str]:
    """(the splits from local files, a description of their origin)."""
    splits = {}
    any_converted = False
    for split in subtask.splits:
        path = local_openllm_file(folder, subtask, split)
        assert path is not None  # checked before
        rows, is_converted = rows_of(path, subtask, split)
        any_converted |= is_converted
        try:
            splits[split] = datasets.Dataset.from_list(rows)
        except (ValueError, TypeError) as err:  # pyarrow's own are both
            raise UserError(
                f"{path}: got a field with values of several types ({one_line(err, 200)}), expected rows as on the "
                "Hub. Repair it."
            ) from None
    return datasets.DatasetDict(splits), "local files" + (" (converted)" if any_converted else "")
