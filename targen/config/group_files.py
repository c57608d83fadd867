"""Tasks and models from their files in conf/, also those that are not part of the run."""

from omegaconf import OmegaConf

from targen.config.groups.training import Model
from targen.config.validation import check
from targen.runtime.paths import CONF
from targen.tasks.registry import with_format
from targen.tasks.task import Task


def task_from_file(name: str) -> Task:
    """The task in conf/task/<name>.yaml; it need not be a task of the run."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "task" / f"{name}.yaml"))
    return with_format(check(Task, values, f"tasks.{name}"))


def model_from_file(name: str) -> Model:
    """The model in conf/model/<name>.yaml; it need not be the model of the run."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return check(Model, values, "model")
