"""Tasks and models from their files in conf/, also those that are not part of the run."""

from omegaconf import OmegaConf

from targen.config.groups.training import Model
from targen.config.validation import check
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import CONF, group_choices
from targen.tasks.own_task import complete_specification
from targen.tasks.registry import with_format
from targen.tasks.task import Task


def task_from_file(name: str) -> Task:
    """The task in conf/task/<name>.yaml; it need not be a task of the run. Raises: UserError if there is no such file."""
    path = CONF / "task" / f"{name}.yaml"
    if not path.is_file():
        closest = did_you_mean(name, group_choices("task"))
        raise UserError(f"task: got {name!r}, expected a task of this run or of conf/task. {closest}")
    values = complete_specification(name, OmegaConf.to_container(OmegaConf.load(path)), f"tasks.{name}")
    return with_format(check(Task, values, f"tasks.{name}"))


def model_from_file(name: str) -> Model:
    """The model in conf/model/<name>.yaml; it need not be the model of the run."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return check(Model, values, "model")
