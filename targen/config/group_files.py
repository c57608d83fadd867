"""Tasks and models that the run itself need not have, from their files in conf/."""

from omegaconf import OmegaConf

from targen.config.groups.training import Model
from targen.config.validation import check
from targen.runtime.paths import CONF
from targen.tasks.registry import with_format
from targen.tasks.task import Task


def task_from_file(name: str) -> Task:
    """A task that the run itself need not have, from its file in conf/task/."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "task" / f"{name}.yaml"))
    return with_format(check(Task, values, f"tasks.{name}"))


def model_from_file(name: str) -> Model:
    """A model that the run itself need not finetune, from its file in conf/model/."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return check(Model, values, "model")
