"""The rows of a task on which models are scored."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from targen.config.settings import Settings
from targen.data.evaluation import evaluation_split
from targen.data.original import Split, evenly_spread
from targen.runtime.errors import UserError
from targen.tasks.task import Example, Row, Task


@dataclass(frozen=True)
class EvaluationRows:
    """The rows of a task that are scored, a `sample` of its `split`, as examples, and their hash."""

    split: Split
    sample: Split
    examples: Sequence[Example]
    hash: str


def evaluation_rows(settings: Settings, task: Task) -> EvaluationRows:
    """The rows on which a task is scored: eval.max_rows of them at most, spread evenly over the split.

    Raises: UserError if they are missing or two have the same idx.
    """
    split = evaluation_split(settings, task)
    sample = replace(split, rows=evenly_spread(split.rows, settings.eval.max_rows, task.rows_per_slot))
    return as_evaluation_rows(task, split, sample)


def as_evaluation_rows(task: Task, split: Split, sample: Split) -> EvaluationRows:
    """The rows of `sample` as examples. Raises: UserError if two have the same idx."""
    examples = [example for row in sample.rows for example in task.examples(row)]
    repeated = [idx for idx, count in Counter(example.id for example in examples).items() if count > 1]
    if repeated:
        raise UserError(
            f"{split.origin}: idx {repeated[0]} of {task.folder} occurs more than once, expected each idx once. Renumber the "
            "rows."
        )
    return EvaluationRows(split, sample, examples, rows_hash(sample.rows))


def rows_hash(rows: Sequence[Row]) -> str:
    """A hash of 16 hex digits, equal for equal rows."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]
