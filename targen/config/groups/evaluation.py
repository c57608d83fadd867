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
    """Inference backend: hf (transformers) or vllm."""
    batch_size: Count | Literal["auto"]
    """Sequences per batch; auto: as many as fit into memory."""
    max_length: Count | None
    """Maximum tokens; null: the model's own limit, or 2048 for encoder-decoders."""
    data_dir: PathText | None
    """Folder with local data files (docs/evaluation.md); null: data from the Hub."""
    limit: Count | None
    """Maximum documents per task, for trials; null: all."""
    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    """Subset of the suite's tasks, [arc_challenge, ...]; no average is reported then; null: all."""
    num_fewshot: CountOrZero | None = None
    """Few-shot examples; null: the suite's own number. The average is reported only with null."""


@checked_dataclass(frozen=True, config=STRICT)
class Evaluation:
    """How models are scored."""

    batch_size: Count | None
    """Sequences per batch; null: 256 on a GPU, halved until they fit, else 64."""
    max_rows: Count | None
    """Maximum evaluation rows per task, spread evenly over the split; null: all."""
    superglue: bool
    """Whether to score the tasks of the run; false: only eval.openllm."""
    scoring: Literal["rank", "rank_normalised", "generate"]
    """How encoder-decoders and decoders predict. rank: the answer with the highest log-likelihood, summed over its tokens;
    rank_normalised: averaged over its tokens; generate: the generated text, parsed strictly."""
    shots: CountOrZero
    """Arm none: number of few-shot examples, from the original train split."""
    max_new_tokens: Count
    """Maximum tokens per answer with eval.scoring=generate."""
    submission: bool
    """true: predict the test splits and write submission/<cell>.zip for the official leaderboard."""
    launch: Literal["ddp"] | None
    """ddp: split the rows over all GPUs, with a copy of the model on each; null: one process."""
    openllm: OpenLLM
    """Tasks of the Open LLM Leaderboard, scored with lm-evaluation-harness."""
