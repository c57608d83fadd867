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
    """The LLM backend: a module or folder in targen/llm/backends/."""
    model: Name
    """Model name, as the backend knows it; part of the identity of each call."""
    path: PathText | None = None
    """vllm, transformers: local folder of the model, null: from the Hub by `model`. recorded: folder with <task>.jsonl files,
    null: the recordings that come with this project."""
    function: str | None = None
    """python: FILE.py:NAME of the function that answers. It takes the body of a chat completion and returns the text."""
    base_url: str | Annotated[list[str], Field(min_length=1)] = ""
    """Address of the server, or of several that serve the same model: [http://a:8000/v1,http://b:8000/v1]."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key, if the server needs one."""
    concurrency: Count = 64
    """Maximum concurrent calls per server, reduced while the server is overloaded. python: concurrent calls of the function."""
    max_retries: CountOrZero = 8
    """Retries per call; the defaults survive a one-minute outage."""
    retry_pause: Positive = 0.5
    """Seconds before the first retry; doubles with each retry up to a minute, with random jitter."""
    timeout: Positive = 300
    """Seconds per call; a call fails after three timeouts."""
    max_lines: Count = 50_000
    """Maximum lines per request file (OpenAI's limit); further requests go to requests-2.jsonl, ..."""
    max_bytes: Count = 200_000_000
    """Maximum bytes per request file (OpenAI's limit). Answers are read from responses.jsonl and responses-*.jsonl."""
    few_rounds: bool = False
    """Default of synth.few_rounds."""
    chat_template: PathText | None = None
    """File with a Jinja chat template, for tokenizers without one; null: the tokenizer's own."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, such as {enable_thinking: false} for Qwen 3; sent to servers in the request body."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Extra fields of the request body: {reasoning_effort: low}. Like drop, rename and system, not part of a call's identity."""
    drop: list[BodyField] = field(default_factory=list)
    """Request fields to leave out because the provider rejects them: [seed]. Most are detected automatically."""
    rename: dict[BodyField, Name] = field(default_factory=dict)
    """Request fields to rename: {max_tokens: max_completion_tokens, seed: random_seed}."""
    system: Literal["keep", "merge"] = "keep"
    """merge: prepend the system message to the user message; keep: send it as a separate message."""
    requests_per_minute: Count | None = None
    """Requests per minute from this process to all servers together, including retries; null: no limit."""
    tokens_per_minute: Count | None = None
    """Prompt and completion tokens per minute, counted in the same way; null: no limit."""
    batch_size: Count = 8
    """Requests per batch; answers do not depend on the other requests in the batch."""
    device: str = "auto"
    """auto: cuda if there is a GPU, else cpu."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """float32, bfloat16, float16, or auto: as the weights are stored."""
    engine: dict[str, Any] = field(default_factory=dict)
    """vLLM's EngineArgs; add ones not listed here with a plus: +generator.engine.enforce_eager=true."""

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
    """Rows per task; original: the size of the original train split, up to max_size; or per task: {cb: 250}."""
    label_share: Literal["balanced", "original"] | dict[str, Positive]
    """Label proportions. balanced: equal; original: the published proportions of the original train split; or by label name:
    {entailment: 2, contradiction: 2, neutral: 1}."""
    max_size: Count
    """Upper limit of size=original."""
    contexts: Count
    """Contexts per task; for method=self_instruct, instructions."""
    seeds_per_context: Count
    """Instance seeds per call."""
    seed_source: Literal["llm", "file"]
    """llm: written by the generator; file: read from <seed_dir>/<task>.jsonl, one object with the seed's fields per line."""
    seed_dir: PathText | None
    """Folder for seed_source=file."""
    self_correct: Literal["off", "paper", "drop", "vote"]
    """off; paper: the corrected label is final; drop: replace rows whose label changed; vote: majority of several
    corrections."""
    correct_blind: bool
    """true: hide the given label from self-correction."""
    correct_refuses: bool
    """true: self-correction may refuse a garbled or undecidable instance, which is then replaced."""
    votes: Count
    """Corrections per instance for self_correct=vote."""
    vote_temperature: Positive
    """Sampling temperature of these corrections."""
    near_duplicates: Annotated[float, Field(gt=0, le=1)] | None
    """Replace a row if the Jaccard similarity of its character trigrams to an earlier row reaches this value, or that of its
    instance seed to an earlier seed (at most twice per slot); null: replace only identical rows."""
    contamination: Literal["off", "auto", "measure", "filter"]
    """Rows that share an 8-gram of words with the evaluation split, or are near-duplicates of its rows. off; auto: count them
    in stats.json if data.dir is set; measure: always count them; filter: replace them."""
    max_attempts: Count
    """Attempts per slot (instance to be generated) before another slot replaces it."""
    max_slots: Count
    """Maximum slots per row and label cell, including flipped and exhausted ones. Beyond it, or if the first eight slots
    give no row, the task ends with the reasons."""
    spare: NotNegative
    """Over-generation: 0.5 opens 50 % more slots from the start and holds back surplus rows. Saves rounds with
    generator=batch, at the cost of extra calls."""
    few_rounds: bool
    """true: request lists such as contexts in one round, and retry a rejected instance once with the same context and instance
    seed. Reduces the rounds of batch files; the default for generator=batch."""
    learnability_rows: CountOrZero
    """Maximum rows per task for measuring learnability at the end of generation; 0: do not measure."""
    pilot: Count | None
    """Generate this many rows per task, show learnability and the hardest rows, and stop. Rerun without this key to
    continue."""
    sampling: dict[Step, Sampling]
    """Sampling settings of each step."""
    holdout: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    """Synthetic rows held out from training, as an approximate number or fraction of size; whole contexts are held out. Without
    original data, models are scored on them. null: 0.2 without original data, else 0."""

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
            got = f"no label {unknown[0]}" if unknown else f"shares of {', '.join(sorted(shares))}"
            got = got if shares else f"no tasks.{task.name}.label_counts"
            raise UserError(
                f"synth.label_share: got {got}, expected one for each label of {task.name}: {', '.join(names)}. "
                "Set synth.label_share=balanced, or name them all and no others."
            )
        return {name: float(shares[name]) for name in names}

    def size_of(self, task: Task) -> int:
        """Rows to make for a task. `original` and `pilot` are rounded down to whole instances (AX-g has two rows per instance)."""
        size = self.whole_size_of(task)
        if self.pilot is None:
            return size
        return min(size, max(1, self.pilot // task.rows_per_slot) * task.rows_per_slot)

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
    """Completion tokens per second over all calls; null: times are not shown."""
    gpu: Literal["a100", "h100", "h200", "b200", "l4", "l40s", "a10g", "rtx4090"] | None = None
    """GPU for planning memory and GPU-hours: a100, h100, h200, b200, l4, l40s, a10g or rtx4090; null: this
    machine."""
