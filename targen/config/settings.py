"""The resolved configuration as frozen, checked values; beyond this module no Hydra or OmegaConf object is seen."""

from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, TypeAdapter, ValidationError, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.cluster import Cluster
from targen.config.rules import contradictions
from targen.config.training import Model, Train
from targen.llm.messages import Sampling, Step
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.jsonl import Json
from targen.runtime.paths import CONF, RunPaths
from targen.synthesis.prompts import Method
from targen.tasks.registry import with_format
from targen.tasks.task import STRICT, Count, Task

Phase = Literal["generate", "merge", "train", "evaluate", "analyze", "report"]
Arm = Literal["none", "original", "synthetic", "mixed", "self_instruct"]  # none: the model as it is, not finetuned


@checked_dataclass(frozen=True, config=STRICT)
class Generator:
    """A backend and its settings; only `model` is part of a call's identity."""

    backend: Literal["recorded", "batch", "openai", "vllm", "transformers"]
    model: Annotated[str, Field(min_length=1)]
    path: str | None = None
    base_url: str | Annotated[list[str], Field(min_length=1)] = ""
    api_key_env: str = ""
    concurrency: Count = 64
    max_retries: Annotated[int, Field(ge=0)] = 8
    retry_pause: Annotated[float, Field(gt=0)] = 0.5
    timeout: Annotated[float, Field(gt=0)] = 300
    max_lines: Count = 50_000
    max_bytes: Count = 200_000_000
    chat_template: str | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    batch_size: Count = 8
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    engine: dict[str, Any] = field(default_factory=dict)

    @property
    def base_urls(self) -> list[str]:
        """The servers that answer, one or several."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url


@checked_dataclass(frozen=True, config=STRICT)
class Synth:
    """The knobs of the four steps."""

    size: Count | Literal["original"]
    max_size: Count
    contexts: Count
    seeds_per_context: Count
    seed_source: Literal["llm", "file"]
    seed_dir: str | None
    self_correct: Literal["off", "paper", "drop", "vote"]
    votes: Count
    vote_temperature: Annotated[float, Field(gt=0)]
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None
    contamination: Literal["off", "auto", "measure", "filter"]
    max_attempts: Count
    max_slots: Count
    spare: Annotated[float, Field(ge=0)]
    sampling: dict[Step, Sampling]

    @field_validator("self_correct", mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        return {True: "paper", False: "off"}.get(value, value) if isinstance(value, bool) else value

    def size_of(self, task: Task) -> int:
        """Rows to make: whole instances, so AX-g's odd one is left out."""
        if self.size != "original":
            return self.size
        original = task.sizes["train"] or task.sizes[task.eval_split]
        return min(original, self.max_size) // task.rows_per_slot * task.rows_per_slot


@checked_dataclass(frozen=True, config=STRICT)
class OpenLLM:
    """The tasks of the OpenLLM leaderboard, through lm-evaluation-harness."""

    suite: Literal["openllm_4", "openllm_6", "openllm_v2"] | None
    backend: Literal["hf", "vllm"]
    batch_size: Count | Literal["auto"]
    max_length: Count | None
    data_dir: str | None
    limit: Count | None
    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    num_fewshot: Annotated[int, Field(ge=0)] | None = None


@checked_dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How models are scored."""

    batch_size: Count
    max_rows: Count | None
    superglue: bool
    scoring: Literal["rank", "rank_normalised", "generate"]
    shots: Annotated[int, Field(ge=0)]
    max_new_tokens: Count
    submission: bool
    openllm: OpenLLM


@checked_dataclass(frozen=True, config=STRICT)
class Analysis:
    """What is looked at in the data, and at how many rows."""

    parts: list[Literal["lexical", "semantic", "bias", "correctness", "contamination", "difficulty"]]
    size: Count | None
    replicates: Annotated[int, Field(ge=20)]
    self_bleu_rows: Annotated[int, Field(ge=2)]
    embedder: Annotated[str, Field(min_length=1)]
    embed_rows: Annotated[int, Field(ge=2)]
    model: str | None
    folds: Annotated[int, Field(ge=2)]
    difficulty_rows: Annotated[int, Field(ge=2)]
    spacy_model: Annotated[str, Field(min_length=1)]
    entity_rows: Count
    sheet_rows: Annotated[int, Field(ge=0)]
    top: Count


@checked_dataclass(frozen=True, config=STRICT)
class Data:
    """Where the original data come from."""

    source: Literal["hub", "local", "fixture"]
    dir: str | None
    hub: str
    fallback: Literal["fixture"] | None
    self_instruct: str | None = None


@checked_dataclass(frozen=True, config=STRICT)
class Report:
    """What the report phase writes; `dir` is <run.dir>/report unless it is set. Of more rows the page has a sample."""

    title: str
    note: str | None
    dir: str | None
    rows_megabytes: Annotated[float, Field(gt=0)]


@checked_dataclass(frozen=True, config=STRICT)
class Wandb:
    mode: Literal["disabled", "offline", "online"]
    project: str


@checked_dataclass(frozen=True, config=STRICT)
class ShardOf:
    """The share of generation that this process makes."""

    index: Annotated[int, Field(ge=0)]
    count: Count


@checked_dataclass(frozen=True, config=STRICT)
class Price:
    """What generation costs, per million tokens, and how fast tokens are written; null: not shown."""

    prompt: Annotated[float, Field(ge=0)] | None
    completion: Annotated[float, Field(ge=0)] | None
    currency: Annotated[str, Field(min_length=1)]
    tokens_per_second: Annotated[float, Field(gt=0)] | None


@checked_dataclass(frozen=True, config=STRICT)
class RunDir:
    dir: str


@checked_dataclass(frozen=True, config=STRICT)
class Settings:
    """A whole run."""

    name: str
    phases: Annotated[list[Phase], Field(min_length=1)]
    run: RunDir
    seed: int
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    shard: ShardOf
    arms: Annotated[list[Arm], Field(min_length=1)]
    cell: str | None
    method: Method
    generator: Generator
    synth: Synth
    tasks: Annotated[dict[str, Task], Field(min_length=1)]
    model: Model
    train: Train
    eval: Evaluation
    analysis: Analysis
    data: Data
    report: Report
    wandb: Wandb
    cluster: Cluster
    plan: bool
    price: Price

    @field_validator("tasks")
    @classmethod
    def _with_formats(cls, tasks: dict[str, Task]) -> dict[str, Task]:
        return {name: with_format(task) for name, task in tasks.items()}

    @property
    def paths(self) -> RunPaths:
        return RunPaths(Path(self.run.dir))

    @property
    def report_folder(self) -> Path:
        return Path(self.report.dir) if self.report.dir else self.paths.report


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
