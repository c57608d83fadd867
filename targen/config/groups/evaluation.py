"""The settings of evaluation, analyses and the report."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.tasks.task import STRICT, Count


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
