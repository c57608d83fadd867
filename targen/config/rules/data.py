"""Rules for the settings of the original data, and of the synthetic rows that are held out where there are none."""

from targen.config.original_data import rows_to_hold_out
from targen.config.rules.rule import Rule
from targen.config.settings import Settings
from targen.tasks.task import Task


def _tasks_without_hub(settings: Settings) -> list[str]:
    return [name for name, task in settings.tasks.items() if settings.data.hub_of(task) is None]


def _tasks_with_hold_out(settings: Settings) -> list[Task]:
    return [task for task in settings.tasks.values() if rows_to_hold_out(settings, task)]


def _too_small_tasks(settings: Settings) -> list[Task]:
    """Tasks of which rows are held out, and that have not two rows of each label: one to train on, one to score."""
    return [task for task in _tasks_with_hold_out(settings) if settings.synth.size_of(task) < _least_size(task)]


def _least_size(task: Task) -> int:
    return 2 * max(1, len(task.labels)) * task.rows_per_slot


def _unscored_tasks(settings: Settings) -> list[str]:
    """Tasks that are to be scored, and have neither original nor held-out rows."""
    scores = "evaluate" in settings.phases and settings.eval.superglue and settings.synth.pilot is None
    return [
        name
        for name, task in settings.tasks.items()
        if scores and settings.data.source_of(task) == "none" and not rows_to_hold_out(settings, task)
    ]


HOLD_OUT = (
    Rule(
        "synth.holdout",
        lambda s: bool(_unscored_tasks(s)),
        got=lambda s: (
            f"{s.synth.holdout} with {', '.join(_unscored_tasks(s))}, which has no original data, so nothing would be scored"
        ),
        what_to_do="Name rows with data.dir=..., leave synth.holdout out, or leave out phases: phases=[generate,report].",
    ),
    Rule(
        "synth.size",
        lambda s: bool(_too_small_tasks(s)),
        got=lambda s: (
            f"{s.synth.size_of(_too_small_tasks(s)[0])} rows of {_too_small_tasks(s)[0].name}, of which some are held out for evaluation"
        ),
        expected="at least two rows of each label",
        what_to_do=lambda s: f"Set synth.size={_least_size(_too_small_tasks(s)[0])} or more.",
    ),
    Rule(
        "synth.holdout",
        lambda s: any(s.synth.size_of(task) <= rows_to_hold_out(s, task) for task in _tasks_with_hold_out(s)),
        got="{synth.holdout} of synth.size={synth.size}",
        expected="fewer, since the other rows are trained on",
        what_to_do="Set a share, as in synth.holdout=0.2.",
    ),
    Rule(
        "synth.contexts",
        lambda s: s.synth.contexts < 2 and s.method.instance_seed is not None and bool(_tasks_with_hold_out(s)),
        got="{synth.contexts}, with rows held out for evaluation",
        expected="at least two contexts, since no context is trained on and scored",
        what_to_do="Set synth.contexts=50.",
    ),
)

DATA = (
    Rule(
        "data.dir",
        lambda s: s.data.source == "local" and not s.data.dir,
        got="{data.dir}",
        expected="a folder with data.source=local",
        what_to_do="Set data.dir=...",
    ),
    Rule(
        "data.dir",
        lambda s: s.data.source not in ("auto", "local") and bool(s.data.dir),
        got="{data.dir!r} with data.source={data.source}",
        what_to_do="Set data.source=local, or leave data.dir out.",
    ),
    Rule(
        "data.hub",
        lambda s: bool(s.data.hub) and s.data.source_of(next(iter(s.tasks.values()))) != "hub",
        got=lambda s: f"{s.data.hub!r} with {'data.dir' if s.data.dir else f'data.source={s.data.source}'}",
        expected="one of them",
        what_to_do="Leave one out.",
    ),
    Rule(
        "data.hub",
        lambda s: s.data.source == "hub" and bool(_tasks_without_hub(s)),
        got=lambda s: f"null with data.source=hub, and {', '.join(_tasks_without_hub(s))} names no data set",
        expected="the id of one",
        what_to_do="Set data.hub=NAME, `hub: NAME` in the task, or data.source=none.",
    ),
    Rule(
        "eval.submission",
        lambda s: s.eval.submission and s.data.source in ("fixture", "none"),
        got="true with data.source={data.source}, which has no test split",
        what_to_do="Set data.source=hub, or local with data.dir=...",
    ),
)
