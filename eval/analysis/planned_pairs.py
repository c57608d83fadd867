"""Stand-ins for the sets of a run before its rows are generated, for a plan: as large as the sets will be."""

from collections.abc import Sequence
from itertools import cycle, islice

from eval.analysis.sets import DataSet, SetPair, original_rows, run_pair
from targen.config.original_data import rows_to_hold_out
from targen.config.settings import Settings
from targen.cost.expected_answers import DEFAULT_WORDS
from targen.data.original import fixture_rows
from targen.tasks.task import Row, Task


def planned_pair(settings: Settings, task: Task) -> SetPair:
    """The sets of a task; where there are no synthetic rows yet, rows of the fixture, or texts of a usual length, stand in."""
    if (settings.paths.synthetic(task.name) / "train.jsonl").is_file():
        pair = run_pair(settings, task)
        assert pair is not None
        return pair
    stand_ins = fixture_rows(task) or ({name: "word " * DEFAULT_WORDS for name in task.row},)
    synthetic_count = settings.synth.size_of(task) - rows_to_hold_out(settings, task)
    original_count = _original_count(settings, task)
    original = DataSet("original", "", _repeated(stand_ins, original_count)) if original_count else None
    synthetic = DataSet("synthetic", "", _repeated(stand_ins, synthetic_count))
    return SetPair(task, original, synthetic, settings.seed, settings.analysis.size)


def _original_count(settings: Settings, task: Task) -> int:
    """The original rows that will be compared; those of the Hub as published."""
    source = settings.data.source_of(task)
    if source == "local":
        split = original_rows(settings, task)
        return 0 if split is None else len(split.rows)
    return task.sizes.get(task.eval_split if task.original_train else "train", 0) if source == "hub" else 0


def _repeated(rows: Sequence[Row], count: int) -> tuple[Row, ...]:
    return tuple(islice(cycle(rows), count))
