"""The settings of generation: the backend, the knobs of the four steps, shards, prices."""

import math
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count, CountOrZero, Name, NotNegative, PathText, Positive
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks.task import Task

Step = Literal["contexts", "instance_seed", "generation", "self_correction"]


BodyField = Literal["model", "temperature", "top_p", "max_tokens", "seed", "response_format"]
STEPS: tuple[Step, ...] = ("contexts", "instance_seed", "generation", "self_correction")
QuestionStep = Literal["criteria", "clusters", "cluster_check", "subjectivity"]  # what analyses ask of the generator
COPIES = "data_parallel_size"  # of generator.engine
UNUSABLE = "unusable"  # what self-correction answers for an instance that it refuses


@checked_dataclass(frozen=True, config=STRICT)
class Sampling:
    """How one step samples its completions."""

    temperature: NotNegative
    """Sampling temperature; 0: greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)]
    """Probability mass that tokens are sampled from."""
    max_tokens: Count
    """Tokens per completion at most."""

    @property
    def body(self) -> Json:
        """These settings as fields of a chat completion request."""
        return {"temperature": self.temperature, "top_p": self.top_p, "max_tokens": self.max_tokens}


def sampling_key(step: Step | QuestionStep) -> str:
    """The setting that says how a step samples its completions."""
    return f"synth.sampling.{step}" if step in STEPS else "analysis.sampling"


@checked_dataclass(frozen=True, config=STRICT)
class Generator:
    """A backend and its settings; only `model` is part of a call's identity."""

    backend: str
    """What answers: a module or folder of targen/llm/backends/."""
    model: Name
    """Name of the model, as the backend knows it; part of the identity of each call."""
    path: PathText | None = None
    """vllm, transformers: local folder of the model, null: from the Hub by `model`. recorded: folder with <task>.jsonl files,
    null: the recording that comes with this project."""
    function: str | None = None
    """python: the function that answers, FILE.py:NAME. It gets the body of a chat completion and returns the text."""
    base_url: str | Annotated[list[str], Field(min_length=1)] = ""
    """Address of the server, or of several that serve the same model: [http://a:8000/v1,http://b:8000/v1]."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key, if the server needs one."""
    concurrency: Count = 64
    """Calls in flight per server at most; fewer while the server is overloaded. python: calls of the function at once."""
    max_retries: CountOrZero = 8
    """Retries per call; with the default pauses they survive a one-minute outage."""
    retry_pause: Positive = 0.5
    """Seconds before the first retry. Each further pause doubles, up to a minute, and is drawn from its upper half."""
    timeout: Positive = 300
    """Seconds per call; a call is given up after three timeouts."""
    max_lines: Count = 50_000
    """Lines per request file, OpenAI's limit; further requests go to requests-2.jsonl and so on."""
    max_bytes: Count = 200_000_000
    """Bytes per request file, OpenAI's limit. Answers are read from responses.jsonl and every responses-*.jsonl."""
    few_rounds: bool = False
    """Default of synth.few_rounds."""
    chat_template: PathText | None = None
    """File with a Jinja template, for a tokenizer that has none; null: the tokenizer's own."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, such as {enable_thinking: false} for Qwen 3; to a server they go in each body."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each body, as the provider names them: {reasoning_effort: low}; like drop, rename and system not part
    of a call's identity."""
    drop: list[BodyField] = field(default_factory=list)
    """Fields of the body that the provider does not take: [seed]. What it says that it does not take is found anyway."""
    rename: dict[BodyField, Name] = field(default_factory=dict)
    """Fields of the body under other names: {max_tokens: max_completion_tokens, seed: random_seed}."""
    system: Literal["keep", "merge"] = "keep"
    """merge: the system message is put before the user's text; keep: it is a message of its own."""
    requests_per_minute: Count | None = None
    """Requests per minute of this process to all servers together, retries included; null: no limit."""
    tokens_per_minute: Count | None = None
    """Tokens per minute, of prompts and completions, likewise; null: no limit."""
    batch_size: Count = 8
    """Requests answered at once; an answer does not depend on the others in its batch."""
    device: str = "auto"
    """auto: cuda if there is a GPU, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: as the weights are stored; float32, bfloat16, float16."""
    engine: dict[str, Any] = field(default_factory=dict)
    """Any of vLLM's EngineArgs; add others with a plus: +generator.engine.enforce_eager=true."""

    @field_validator("chat_template_kwargs", "extra_body", "rename", mode="before")
    @classmethod
    def _from_null(cls, value: object) -> object:
        """null in conf/, because Hydra adds keys to null without a plus: generator.rename={seed: random_seed}."""
        return {} if value is None else value

    @property
    def copies(self) -> int:
        """Engines that generate side by side, each with its own copy of the model."""
        return int(self.engine.get(COPIES) or 1) if self.backend == "vllm" else 1

    @property
    def gpus(self) -> int:
        """GPUs over which one engine spreads the model."""
        return math.prod(int(self.engine.get(f"{kind}_parallel_size") or 1) for kind in ("tensor", "pipeline"))

    @property
    def base_urls(self) -> list[str]:
        """The addresses of the servers, one or several."""
        return [self.base_url] if isinstance(self.base_url, str) else self.base_url


@checked_dataclass(frozen=True, config=STRICT)
class Synth:
    """The knobs of the four steps."""

    size: Count | Literal["original"] | dict[str, Count]
    """Rows per task; original: as many as the original train split has, up to max_size; or by name of the task: {cb: 250}."""
    label_share: Literal["balanced", "original"] | dict[str, Positive]
    """Rows of each label. balanced: as many of each; original: in the proportions of the original train split, as published;
    or the shares by label name: {entailment: 2, contradiction: 2, neutral: 1}."""
    max_size: Count
    """Upper limit of size=original."""
    contexts: Count
    """Contexts per task; with method=self_instruct: instructions."""
    seeds_per_context: Count
    """Instance seeds asked for in one call."""
    seed_source: Literal["llm", "file"]
    """llm, or file: instance seeds from <seed_dir>/<task>.jsonl, one object with the seed's fields per line."""
    seed_dir: PathText | None
    """Folder of seed_source=file."""
    self_correct: Literal["off", "paper", "drop", "vote"]
    """off; paper: the corrected label is final; drop: rows whose label changed are dropped; vote: the majority of several
    corrections is final."""
    correct_blind: bool
    """Self-correction does not see the label that the instance was given."""
    correct_refuses: bool
    """Self-correction may refuse an instance that is garbled or cannot be decided; another attempt takes its place."""
    votes: Count
    """Corrections per instance with self_correct=vote."""
    vote_temperature: Positive
    """Sampling temperature of these corrections."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None
    """A row is replaced if it shares this fraction of its character trigrams with an earlier row, or its instance seed
    does with an earlier seed (at most twice per slot); null: only identical rows are replaced."""
    contamination: Literal["off", "auto", "measure", "filter"]
    """Rows that share a run of 8 words with the evaluation split, or nearly repeat a row of it. off; auto: counted in
    stats.json with data.dir; measure: always counted; filter: replaced."""
    max_attempts: Count
    """Attempts per slot, one after the other, before another slot is opened in its place."""
    max_slots: Count
    """Slots per row and label cell, including flipped and exhausted ones. Beyond it, or if the first eight give no row at
    all, the task ends and says why."""
    spare: NotNegative
    """Over-generation: 0.5 opens half as many slots again from the start and holds back what is not needed. It saves
    rounds with generator=batch, and costs calls."""
    few_rounds: bool
    """Lists such as contexts are asked for in one round, and a rejected instance is written once more from its context and
    instance seed. Batch files need fewer rounds with it, so that it is the default of generator=batch."""
    learnability_rows: CountOrZero
    """Rows per task at most on which learnability is measured at the end of generation; 0: not measured."""
    pilot: Count | None
    """Rows per task to make first: learnability and the hardest rows are shown, and the run stops. The same command
    without this key goes on from there."""
    sampling: dict[Step, Sampling]
    """Sampling per step."""
    holdout: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    """Rows held out for evaluation, about: a number or a share of size, from whole contexts. They are no training rows;
    without original data models are scored on them. null: 0.2 without original data, else 0."""

    @field_validator("self_correct", mode="before")
    @classmethod
    def _from_bool(cls, value: object) -> object:
        return {True: "paper", False: "off"}.get(value, value) if isinstance(value, bool) else value

    @field_validator("label_share", mode="before")
    @classmethod
    def _names_as_texts(cls, value: object) -> object:
        """Labels that are numbers: {1: 2, 5: 1}."""
        return {str(name): share for name, share in value.items()} if isinstance(value, dict) else value

    def label_shares(self, task: Task) -> dict[str, float] | None:
        """The share of each label, up to a factor; None: balanced. Raises: UserError for labels that the task does not have."""
        if self.label_share == "balanced" or not task.labels:
            return None
        shares = dict(task.label_counts) if self.label_share == "original" else dict(self.label_share)
        names = [label.name for label in task.labels]
        if set(shares) != set(names):
            unknown = sorted(set(shares) - set(names))
            found = f"no label {unknown[0]}" if unknown else f"shares of {', '.join(sorted(shares))}"
            found = found if shares else f"no tasks.{task.name}.label_counts"
            raise UserError(
                f"synth.label_share: got {found}, expected one for each label of {task.name}: {', '.join(names)}. "
                "Set synth.label_share=balanced, or name them all and no others."
            )
        return {name: float(shares[name]) for name in names}

    def size_of(self, task: Task) -> int:
        """Rows to make for a task. `original` and `pilot` are rounded down to whole instances (AX-g has two rows per instance)."""
        whole = self.whole_size_of(task)
        return (
            whole if self.pilot is None else min(whole, max(1, self.pilot // task.rows_per_slot) * task.rows_per_slot)
        )

    def whole_size_of(self, task: Task) -> int:
        """Rows to make for a task, whether or not a pilot comes first."""
        if isinstance(self.size, dict):
            if task.name not in self.size:
                raise UserError(
                    f"synth.size: got sizes of {', '.join(sorted(self.size))}, expected one of {task.name} too. Name it, or leave "
                    "the task out."
                )
            return self.size[task.name]
        if self.size != "original":
            return self.size
        original = task.published_rows
        if not original:
            raise UserError(
                f"synth.size: got original, but tasks.{task.name}.sizes does not say how many rows the original train split has. Set "
                f"synth.size=..., or sizes: {{train: ...}} in the task."
            )
        return min(original, self.max_size) // task.rows_per_slot * task.rows_per_slot


@checked_dataclass(frozen=True, config=STRICT)
class ShardOf:
    """The share of generation that this process makes."""

    index: CountOrZero
    """Number of this shard, from 0."""
    count: Count
    """Number of shards."""


@checked_dataclass(frozen=True, config=STRICT)
class Price:
    """What generation costs and how fast it is, for the plan and the report."""

    prompt: NotNegative | None
    """Price of a million prompt tokens; null: costs are not shown."""
    completion: NotNegative | None
    """Price of a million completion tokens; null: costs are not shown."""
    currency: Name
    """Currency of the prices."""
    tokens_per_second: Positive | None
    """Completion tokens per second, all calls together; null: times are not shown."""
    gpu: Literal["a100", "h100", "h200", "b200", "l4", "l40s", "a10g", "rtx4090"] | None = None
    """The GPU that the plan is for, with GPU-hours by phase: a100, h100, h200, b200, l4, l40s, a10g or rtx4090; null: this
    machine."""
