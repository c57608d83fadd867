"""The last lines of the report command: the answer, where the page is, and what to do next."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from eval.page.contents import Contents
from eval.scoring.runs import RunScore
from targen.config.settings import Settings
from targen.runtime.cli import program


def ending(
    settings: Settings, summary: Sequence[str], run_scores: Sequence[RunScore], contents: Contents, page: Path
) -> str:
    """The lines as one text; `summary` is the answer of the run in sentences."""
    steps = next_steps(settings, run_scores, contents)
    return "\n".join(["", *summary, f"The page: {page.resolve()}", *(f"Next: {step}" for step in steps)])


def next_steps(settings: Settings, run_scores: Sequence[RunScore], contents: Contents) -> list[str]:
    """What helps most after this run, three things at most."""
    folder = shlex.quote(f"run.dir={settings.run.dir}")
    steps = []
    if any(funnel.stats.get("learnability", {}).get("above_chance") is False for funnel in contents.funnels):
        steps.append("the rows hardly teach their labels: read the hardest ones on the page, and docs/task_design.md")
    if not run_scores:
        steps.append(
            f"train on the rows and score the models: the same command with {folder} and phases=[train,evaluate,report]"
        )
    elif any(run_score.score.source == "held_out" for run_score in run_scores):
        steps.append("score it on real rows: a few of them in a file, and the same command with data.dir=FILE")
    if run_scores:
        steps.append("see on the page, below Answers, which rows the models get wrong")
    if settings.generator.backend == "recorded":  # has no more rows, and they are public
        return [
            *steps[:2],
            f"rows for a task of your own: {program('python -m targen.new_task', 'new-task')} NAME, then docs/own_task.md",
        ]
    if isinstance(settings.synth.size, int):
        steps.append(
            f"more rows: synth.size={4 * settings.synth.size} in the same run.dir keeps these and adds to them"
        )
    return [*steps[:2], f"publish the rows: python scripts/publish.py {shlex.quote(settings.run.dir)} --repo USER/NAME"]
