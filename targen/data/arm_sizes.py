"""How many training examples an arm has, from the settings alone: synthetic rows need not be generated yet."""

from typing import NamedTuple

from targen.config.arms import ARMS, ArmName
from targen.config.groups.training import Train
from targen.config.original_data import original_train_task, rows_to_hold_out
from targen.config.settings import Settings
from targen.tasks.task import Task


class Amount(NamedTuple):
    """A number of examples; `about` marks an estimate, where it depends on what the model will write (MultiRC's answers)."""

    number: int
    about: bool = False

    def __str__(self) -> str:
        return f"{'about ' * self.about}{self.number:,}"


def arms_of_tasks(settings: Settings) -> list[ArmName]:
    """The arms of the run whose rows are those of a task."""
    return [arm for arm in settings.arms if ARMS[arm].uses_task_rows]


def mixed_count(requested: int | str, synthetic: int) -> int:
    """Original rows of the mixed arm, at least one: train.mixed_original as a number, or in percent of the synthetic rows."""
    if isinstance(requested, int):
        return requested
    return max(1, round(synthetic * int(requested.removesuffix("%")) / 100))


def selected_count(train: Train, synthetic: int) -> int:
    """How many of the synthetic rows train.select_rows keeps."""
    return synthetic if train.select_rows is None else synthetic - round((1 - train.select_share) * synthetic)


def source_examples(settings: Settings, arm: ArmName, task: Task) -> Amount | None:
    """Examples before train.max_rows limits them: of the synthetic rows if the arm uses any, else of the original rows as
    published. None: unknown."""
    if ARMS[arm].uses_synthetic:
        rows = settings.synth.size_of(task) - rows_to_hold_out(settings, task)
        return Amount(round(rows * task.examples_per_row), about=task.examples_per_row != 1)
    owner = original_train_task(settings, task)
    published = owner.example_sizes.get("train") or owner.sizes.get("train")
    return Amount(published) if published else None


def arm_examples(settings: Settings, arm: ArmName, task: Task) -> Amount | None:
    """Examples that an arm has of a task, with train.max_rows, train.select_rows and train.equal_size. None: unknown."""
    arms = arms_of_tasks(settings) if settings.train.equal_size else [arm]
    return min(filter(None, (_amount_of(settings, name, task) for name in arms)), default=None)


def _amount_of(settings: Settings, arm: ArmName, task: Task) -> Amount | None:
    if not ARMS[arm].uses_task_rows or (amount := source_examples(settings, arm, task)) is None:
        return None
    most = settings.train.max_rows
    amount = amount if most is None or amount.number <= most else Amount(most)
    if ARMS[arm].uses_synthetic:
        amount = amount._replace(number=selected_count(settings.train, amount.number))
    original = mixed_count(settings.train.mixed_original, amount.number) if ARMS[arm].mixes else 0
    return amount._replace(number=amount.number + original)
