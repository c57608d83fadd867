"""The synthetic sets of a study: one for each method, replayed or made by the generate phase into `<run.dir>/sets/<method>/`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.analysis.results import Missing
from eval.study.rows.cost import Cost, cost_of, metered_backend, prompt_file
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.data.original import read_rows
from targen.generate import generate
from targen.interface.composing import compose_in_program, hydra_text
from targen.llm.call_log import call_files
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.runtime.signals import raise_if_stopped
from targen.synthesis.recipes import recipes
from targen.tasks.task import Row, Task

log = logging.getLogger(__name__)
REFERENCE = "targen"  # the method whose rows are cut, mixed, broken and selected
METHODS = (REFERENCE, "zero_shot", "zero_shot_topic", "few_shot", "one_shot", "attrprompt")
LARGEST = 400  # rows of the reference, where a recording has as many
OF_THE_STUDY = ("task", "run.dir", "method", "phases", "arms", "plan", "cell", "synth.learnability_rows", "synth.size")


@dataclass(frozen=True)
class SyntheticSet:
    """The synthetic rows of one method for one task, with the provenance of each."""

    method: str
    folder: Path
    rows: tuple[Row, ...]
    stories: tuple[Json, ...]
    cost: Cost | None  # of the whole set; None: not known

    @property
    def flips(self) -> int:
        """The number of rows whose label self-correction changed."""
        return sum(story["label_before"] != story["label_after"] for story in self.stories)

    @property
    def real_rows_shown(self) -> int:
        """The number of distinct original rows in the prompts of the rows."""
        return len({idx for story in self.stories for idx in (story.get("demonstrations") or {}).get("idx", ())})


def synthetic_sets(
    settings: Settings, overrides: Sequence[str]
) -> tuple[dict[str, dict[str, SyntheticSet]], list[Missing]]:
    """The sets by task and method, and those that could not be made. `overrides` are what the study was started with."""
    sets: dict[str, dict[str, SyntheticSet]] = {task: {} for task in settings.tasks}
    missing = []
    for method in METHODS:
        paths = RunPaths(settings.paths.root / "sets" / method)
        for task in settings.tasks.values():
            raise_if_stopped()
            try:
                if not (paths.synthetic(task.name) / "train.jsonl").is_file():
                    _make(settings, overrides, method, task, paths)
            except UserError as err:
                missing.append(Missing("sets", f"{method}, {task.name}: {str(err).splitlines()[0]}"))
                continue
            sets[task.name][method] = read_set(paths, method, task)
    return sets, missing


def read_set(paths: RunPaths, method: str, task: Task) -> SyntheticSet:
    """A finished set."""
    folder = paths.synthetic(task.name)
    stories = tuple(story for _, story in read_jsonl(folder / "provenance.jsonl"))
    return SyntheticSet(
        method, folder, read_rows(folder / "train.jsonl", task, labelled=True), stories, cost_of(paths, task.name)
    )


def _make(settings: Settings, overrides: Sequence[str], method: str, task: Task, paths: RunPaths) -> None:
    """Makes a set: of the reference the largest that is recorded, of any other as many rows as the study's settings say.

    Raises: UserError with the reason if that is impossible.
    """
    size = settings.synth.size_of(task)
    recorded = settings.generator.backend == "recorded"
    for rows in (LARGEST, size) if recorded and method == REFERENCE and size < LARGEST else (size,):
        try:
            _generate(overrides, method, task, paths.root, rows)
        except UserError:
            if rows == size:
                raise
            for path in (*call_files(paths.calls, task.name), prompt_file(paths, task.name)):
                path.unlink(missing_ok=True)  # a smaller set has other costs
        else:
            return


def _generate(overrides: Sequence[str], method: str, task: Task, folder: Path, rows: int) -> None:
    common = [override for override in overrides if override.lstrip("+~").partition("=")[0] not in OF_THE_STUDY]
    added = [
        f"task=[{hydra_text(task.name)}]",
        f"method={method}",
        f"run.dir={hydra_text(folder)}",
        f"synth.size={rows}",
    ]
    fixed = ["phases=[generate]", "arms=[synthetic]", "synth.learnability_rows=0"]
    settings = open_run(compose_in_program([*common, *added, *fixed]), recipes)
    log.info("study: %s, %s: %d rows", method, task.name, rows)
    generate(settings, metered_backend(settings))
