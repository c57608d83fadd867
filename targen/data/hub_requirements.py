"""The models and data sets that the phases of an experiment load from the Hub.

The data sets of the OpenLLM tasks are listed elsewhere, in the harness's own files: `eval.openllm.tasks.data_sets`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from targen.config.group_files import model_from_file
from targen.config.groups.training import Model
from targen.config.original_data import needs_original, original_train_task, shows_original
from targen.config.settings import Settings
from targen.runtime.paths import CONF
from targen.tasks.task import Task

WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
PICKLES = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
CONFIGURATION = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken")
# folders and other formats hold the same weights for other programs
IGNORED_FILES = ("*/*", "flax_model*", "tf_model*", "rust_model*")


@dataclass(frozen=True)
class HubRequirement:
    """One repository on the Hub.

    `needed_for` names the setting or split behind it. A model has `files`, as glob patterns; a data set has a `config`, and
    may be a `program` (a loading script).
    """

    repo_type: Literal["model", "dataset"]
    name: str
    needed_for: str
    config: str = ""
    files: tuple[str, ...] = ()
    program: bool = False


def hub_requirements(settings: Settings) -> list[HubRequirement]:
    """All repositories that the phases of the run load, each exactly once, in the order of first use."""
    requirements = [*_models(settings), *_originals(settings), *_instructions(settings)]
    return list(
        {
            (requirement.repo_type, requirement.name, requirement.config, requirement.files): requirement
            for requirement in reversed(requirements)
        }.values()
    )[::-1]


def _models(settings: Settings) -> list[HubRequirement]:
    requirements, phases, generator = [], set(settings.phases), settings.generator
    in_process = generator.backend in ("vllm", "transformers")
    if in_process and phases & {"generate", "merge"} and not _is_local(generator.path or generator.model):
        name = generator.path or generator.model
        requirements.append(HubRequirement("model", name, "generator", files=(*WEIGHTS, *CONFIGURATION)))
    if phases & {"train", "evaluate"}:
        requirements += _requirements_of_model(settings.model, "model")
    if "train" in phases and settings.train.checkers and settings.train.checker_model is not None:
        requirements += _requirements_of_model(model_from_file(settings.train.checker_model), "train.checker_model")
    return [*requirements, *(_requirements_of_analysis(settings) if "analyze" in phases else ())]


def _requirements_of_analysis(settings: Settings) -> list[HubRequirement]:
    """The embedder, and the encoder that is trained to measure difficulty."""
    analysis, requirements = settings.analysis, []
    if "semantic" in analysis.parts and not _is_local(analysis.embedder):
        if (CONF / "model" / f"{analysis.embedder}.yaml").is_file():
            requirements += _requirements_of_model(model_from_file(analysis.embedder), "analysis.embedder")
        else:
            files = (*WEIGHTS, *CONFIGURATION)
            requirements.append(HubRequirement("model", analysis.embedder, "analysis.embedder", files=files))
    if "difficulty" in analysis.parts:
        model = model_from_file(analysis.model) if analysis.model is not None else settings.model
        requirements += _requirements_of_model(model, "analysis.model")
    return requirements


def _requirements_of_model(model: Model, needed_for: str) -> list[HubRequirement]:
    requirements = []
    if model.path is not None and not _is_local(model.path):
        weights = (*WEIGHTS, *(PICKLES if model.pickle else ()), *(("*.py",) if model.remote_code else ()))
        requirements.append(HubRequirement("model", model.path, needed_for, files=(*weights, *CONFIGURATION)))
    if model.tokenizer is not None and model.tokenizer != "bytes" and not _is_local(model.tokenizer):
        requirements.append(HubRequirement("model", model.tokenizer, f"{needed_for}.tokenizer", files=CONFIGURATION))
    return requirements


def _is_local(name: str) -> bool:
    """Whether the name is a path on this machine or an installed package."""
    return name.startswith("package:") or Path(name).exists()


def _instructions(settings: Settings) -> list[HubRequirement]:
    name = settings.data.self_instruct
    if name is None or _is_local(name) or "self_instruct" not in settings.arms or "train" not in settings.phases:
        return []
    return [HubRequirement("dataset", name, "data.self_instruct", config="self_instruct", program=True)]


def _originals(settings: Settings) -> list[HubRequirement]:
    requirements, phases, train = [], set(settings.phases), settings.train
    scores = "evaluate" in phases and (settings.eval.superglue or settings.eval.submission)
    validates = "train" in phases and train.validate_every is not None and train.validate_on == "evaluation"

    def add(task: Task, needed_for: str) -> None:
        name = settings.data.hub_of(task)
        if settings.data.source_of(task) == "hub" and name is not None and not _is_local(name):
            requirements.append(HubRequirement("dataset", name, needed_for, config=task.name))

    for task in settings.tasks.values():
        compares = phases & {"generate", "merge"} and settings.synth.contamination in ("measure", "filter")
        analyses = "analyze" in phases  # each data set of the mirror comes with all its splits
        if scores or validates or compares or analyses:
            add(task, f"{task.eval_split} split")
        shows = settings.method.demonstrations is not None and phases & {"generate", "merge"}
        trains = "train" in phases and needs_original(settings)
        if shows or trains or (scores and shows_original(settings)):
            add(original_train_task(settings, task), "train split")
    return requirements
