"""The settings of evaluation."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count, CountOrZero, PathText


@checked_dataclass(frozen=True, config=STRICT)
class OpenLLM:
    """The tasks of the Open LLM Leaderboard, scored with lm-evaluation-harness."""

    suite: Literal["openllm_4", "openllm_6", "openllm_v2"] | None
    """openllm_4 (the leaderboard until November 2023), openllm_6 or openllm_v2; null: none."""
    backend: Literal["hf", "vllm"]
    """What computes the log-likelihoods: hf (transformers) or vllm."""
    batch_size: Count | Literal["auto"]
    """Sequences per batch; auto: as many as fit into memory."""
    max_length: Count | None
    """Tokens; null: the model's own limit, 2048 for encoder-decoders."""
    data_dir: PathText | None
    """A folder with local data files, see docs/evaluation.md; null: data from the Hub."""
    limit: Count | None
    """Documents per task at most, to try things out; null: all."""
    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    """Some tasks of the suite, [arc_challenge, ...], without an average; null: all."""
    num_fewshot: CountOrZero | None = None
    """Examples before each question; null: as many as the suite says. Only then is there an average."""


@checked_dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How models are scored."""

    batch_size: Count | None
    """Sequences per batch; null: on a GPU 256, or half as many until they fit, else 64."""
    max_rows: Count | None
    """Evaluation rows per task at most, spread evenly over the split; null: all."""
    superglue: bool
    """Whether to score the tasks of the run; false: only eval.openllm."""
    scoring: Literal["rank", "rank_normalised", "generate"]
    """How models that answer in words choose. rank: the answer with the highest log-likelihood, summed over its tokens;
    rank_normalised: averaged over its tokens; generate: the text that the model writes, read strictly."""
    shots: CountOrZero
    """Arm none: solved examples from the original train split before each question."""
    max_new_tokens: Count
    """Tokens per answer at most with eval.scoring=generate."""
    submission: bool
    """true: write submission/<cell>.zip for the official leaderboard, which reads the test splits."""
    launch: Literal["ddp"] | None
    """ddp: the rows are shared out over all GPUs, each with a copy of the model; null: one process."""
    openllm: OpenLLM
    """Tasks of the Open LLM Leaderboard, scored with lm-evaluation-harness."""
