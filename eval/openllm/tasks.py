"""Tasks of lm-evaluation-harness, ready to be run: the installed ones, on the Hub's data or on local files."""

import hashlib
import json
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from targen.config.openllm import Piece, local_openllm_file
from targen.data.hub_requirements import HubRequirement
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl

TASKS = Path(lm_eval.tasks.__file__).parent
SEED = 1234  # the harness's own; GPQA's answers are shuffled when its task is made
SPLIT_KEYS = ("training_split", "validation_split", "test_split", "fewshot_split")
NO_PART_OF_A_TASK = ("tag", "group", "task_list")  # the harness's own loader leaves them out as well


class ReadOnce(ConfigurableTask):  # type: ignore[misc]
    """A task whose documents are made once: the harness makes them again for the requests and for the scores."""

    @cached_property
    def eval_docs(self) -> Any:
        """The documents, loaded at the first access and kept."""
        return super().eval_docs


@dataclass(frozen=True)
class Ready:
    """A task with its documents."""

    piece: Piece
    task: Any
    origin: str
    documents: int  # of the whole split
    evaluated: str  # 16 hex digits, equal for equal documents
    shown: str  # the same of the documents that examples are taken from

    @property
    def version(self) -> str:
        """Version of the task in lm-evaluation-harness."""
        return str(self.task.VERSION)


def ready(pieces: Sequence[Piece], data_dir: str | None, limit: int | None) -> list[Ready]:
    """All tasks with their documents. Raises: UserError for the first that cannot be had."""
    datasets.disable_progress_bars()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns once per document
    return [_ready(piece, data_dir, limit) for piece in pieces]


def data_sets(pieces: Sequence[Piece]) -> list[HubRequirement]:
    """What the harness loads from the Hub for these tasks, each once."""
    data_sets_by_name: dict[tuple[str, str], HubRequirement] = {}
    for piece in pieces:
        config = load_yaml(TASKS / piece.file, resolve_func=False)
        key = (config["dataset_path"], config.get("dataset_name") or "")
        data_sets_by_name.setdefault(key, HubRequirement("dataset", key[0], piece.name, config=key[1]))
    return list(data_sets_by_name.values())


def _ready(piece: Piece, data_dir: str | None, limit: int | None) -> Ready:
    try:
        config = load_yaml(TASKS / piece.file, resolve_func=True)
    except ImportError as err:
        raise UserError(
            f"eval.openllm.suite: {piece.name} needs a package that is not installed ({err}). Run pip install "
            "'lm-eval[ifeval,math]', or leave it out of eval.openllm.tasks."
        ) from None
    config = {key: value for key, value in config.items() if key not in NO_PART_OF_A_TASK}
    config["num_fewshot"] = piece.shots
    where = f"{config['dataset_path']} {config.get('dataset_name') or ''}".strip()
    if data_dir is not None:
        splits, where = _local(piece, Path(data_dir))
        config["custom_dataset"] = _given(splits)
        config |= {key: None for key in SPLIT_KEYS if config.get(key) not in splits}
    random.seed(SEED)
    try:
        task = ReadOnce(config=config)
        docs, pool = task.eval_docs, list(task.fewshot_docs()) if piece.shots else []
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise UserError(
            f"eval.openllm: the documents of {piece.name} cannot be had from {where} ({' '.join(str(err).split())[:300]}). Fetch "
            "them first, or name a folder: eval.openllm.data_dir=..."
        ) from None
    # the harness draws one more where it takes the examples' split for the one that is scored, as in HellaSwag
    if piece.shots and len(pool) < piece.shots + (task.fewshot_cfg.split == task.config.test_split):
        raise UserError(
            f"eval.openllm.num_fewshot: {piece.name} shows {piece.shots} examples, but there are {len(pool)} to choose from ({where}). "
            "Give the whole split, or set a smaller number."
        )
    counted = docs if limit is None else docs.select(range(min(limit, len(docs))))
    return Ready(piece, task, f"{piece.split}, {where}", len(docs), hashed(counted), hashed(pool))


def hashed(rows: Any) -> str:
    """Equal for equal documents."""
    return hashlib.sha256(json.dumps(list(rows), default=str).encode()).hexdigest()[:16]


def _given(splits: datasets.DatasetDict) -> Callable[..., datasets.DatasetDict]:
    return lambda **_: splits  # the harness passes the task's metadata


def _local(piece: Piece, folder: Path) -> tuple[datasets.DatasetDict, str]:
    """The splits from local files, and what is said of them."""
    splits = {}
    converted = False
    for split in piece.splits:
        path = local_openllm_file(folder, piece, split)
        assert path is not None  # checked before
        rows, changed = rows_of(path, piece)
        converted |= changed
        try:
            splits[split] = datasets.Dataset.from_list(rows)
        except (ValueError, TypeError) as err:  # pyarrow's own are both
            raise UserError(
                f"{path}: a field has values of several kinds ({' '.join(str(err).split())[:200]}). Expected rows as on the Hub."
            ) from None
    return datasets.DatasetDict(splits), "local files" + (" (converted)" if converted else "")


def rows_of(path: Path, piece: Piece) -> tuple[list[Json], bool]:
    """The rows of a local file in the Hub's fields, and whether they were converted. Raises: UserError with file and line."""
    convert = SHAPES.get(piece.task)
    rows, changed = [], False
    for number, row in _read(path):
        try:
            converted = convert(row) if convert is not None else row
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
            raise UserError(
                f"{path}:{number}: is no row of {piece.name} ({err!r}). Expected fields as on the Hub."
            ) from None
        lacking = [name for name in piece.spec.fields if name not in converted]
        if lacking:
            raise UserError(
                f"{path}:{number}: lacks {', '.join(lacking)}. Expected a row of {piece.name} with the fields as on the Hub."
            )
        changed |= converted is not row
        rows.append(converted)
    if not rows:
        raise UserError(f"{path}: got no row, expected rows of {piece.name}.")
    return rows, changed


def _read(path: Path) -> list[tuple[int, Json]]:
    """(number, row) of a JSONL file, or of a file with one JSON list."""
    if path.suffix == ".jsonl":
        return list(read_jsonl(path))
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair or replace it.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: got no list of objects, expected one. Replace it.")
    return list(enumerate(rows, start=1))


def _arc(row: Json) -> Json:
    """{query: "Question: ...", choices: [...], gold}, as llm-foundry ships it."""
    if "query" not in row:
        return row
    letters = "ABCDEFGH"[: len(row["choices"])]
    choices = {"text": row["choices"], "label": list(letters)}
    return {
        "question": row["query"].removeprefix("Question: "),
        "choices": choices,
        "answerKey": letters[row["gold"]],
    }


def _hellaswag(row: Json) -> Json:
    """{query: "activity: context", choices: [...], gold}: the harness's own text but for the capital of the last words."""
    if "query" not in row:
        return row
    activity, _, context = row["query"].partition(": ")
    return {
        "activity_label": activity,
        "ctx_a": context,
        "ctx_b": "",
        "endings": row["choices"],
        "label": str(row["gold"]),
    }


def _truthfulqa(row: Json) -> Json:
    """{question, mc2_targets: {answer: 1 or 0}}, as in the authors' mc_task.json."""
    targets = {name: row[name] for name in ("mc1_targets", "mc2_targets") if name in row}
    if all("choices" in choices and "labels" in choices for choices in targets.values()):
        return row
    listed: Json = {
        name: {"choices": list(choices), "labels": list(choices.values())} for name, choices in targets.items()
    }
    return {"question": row["question"], **listed}


SHAPES: dict[str, Callable[[Json], Json]] = {
    "arc_challenge": _arc,
    "hellaswag": _hellaswag,
    "truthfulqa_mc2": _truthfulqa,
}
