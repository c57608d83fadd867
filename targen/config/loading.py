"""From the composed configuration to checked settings; beyond this module no Hydra or OmegaConf object is seen."""

from typing import Any, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import TypeAdapter, ValidationError

from targen.config.rules import contradictions
from targen.config.settings import Settings
from targen.config.training import Model
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json
from targen.runtime.paths import CONF
from targen.tasks.registry import with_format
from targen.tasks.task import Task

Checked = TypeVar("Checked")


_NO_TASK = "task: got an empty list, expected at least one task. Name tasks, as in 'task=[cb,copa]'."


def settings_from(cfg: DictConfig) -> Settings:
    """The checked settings. Raises: UserError with every problem, a line each, in the order of the file."""
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError("\n".join(f"{key}: got nothing, expected a value. Set it: {key}=..." for key in missing))
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    if not values.get("tasks"):
        raise UserError(_NO_TASK)
    settings = check(Settings, values)
    problems = contradictions(settings)
    if problems:
        raise UserError("\n".join(problems))
    return settings


def check(kind: type[Checked], values: Any, where: str = "") -> Checked:
    """`values` as `kind`. Raises: UserError naming every key that does not fit."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as err:
        lines: dict[str, str] = {}
        for problem in err.errors():
            key = ".".join([where] * bool(where) + [str(part) for part in problem["loc"] if _is_key(part, values)])
            lines.setdefault(key, f"{key}: got {problem['input']!r}, expected {_expected(problem)}")
        raise UserError("\n".join(lines.values())) from None


def _is_key(part: int | str, values: Any) -> bool:
    """Pydantic adds the names of a union's members to the place; they are no keys."""
    return isinstance(part, int) or (part.isidentifier() and part not in ("int", "str", "float", "constrained"))


def _expected(problem: Any) -> str:
    kind, context = problem["type"], problem.get("ctx") or {}
    if kind == "literal_error":
        got = problem["input"]
        options = [option.strip("' ") for option in str(context["expected"]).replace(" or ", ", ").split(",")]
        hint = " " + did_you_mean(got, options) if isinstance(got, str) and len(options) > 1 else ""
        return f"{context['expected']}.{hint}"
    if kind == "unexpected_keyword_argument":
        return "no such key. Remove it."
    text = str(problem["msg"]).removeprefix("Input should be ")
    return text[0].lower() + text[1:] + "."


def original_train_task(settings: Settings, task: Task) -> Task:
    """The task itself, or the one whose train split stands in for it (AX-g: RTE, with the same labels)."""
    if task.original_train is None:
        return task
    return settings.tasks.get(task.original_train) or task_from_file(task.original_train)


def task_from_file(name: str) -> Task:
    """A task that the run itself need not have, from its file in conf/task/."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "task" / f"{name}.yaml"))
    return with_format(check(Task, values, f"tasks.{name}"))


def model_from_file(name: str) -> Model:
    """A model that the run itself need not finetune, from its file in conf/model/."""
    values = OmegaConf.to_container(OmegaConf.load(CONF / "model" / f"{name}.yaml"))
    return check(Model, values, "model")


def as_values(cfg: DictConfig) -> Json:
    """The resolved configuration as plain values, as config.yaml has it; Hydra's own part is left out."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items() if key != "hydra"}
