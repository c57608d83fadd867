"""Rules for a run on a SLURM cluster, checked before anything is submitted."""

import math
import re
from collections.abc import Callable

from targen.config.groups.cluster import JOBS, JobName
from targen.config.rules.rule import Rule
from targen.config.settings import Settings


def _gpus_of_engine(settings: Settings) -> int:
    """GPUs over which generator.engine spreads the model."""
    engine = settings.generator.engine
    return math.prod(int(engine.get(f"{kind}_parallel_size") or 1) for kind in ("tensor", "pipeline", "data"))


def _lacks_gpus(settings: Settings) -> bool:
    generates = settings.generator.backend == "vllm" and "generate" in settings.phases
    return generates and _gpus_of_engine(settings) > settings.cluster.generate.gpus


def _ends_before_a_checkpoint(settings: Settings) -> bool:
    """Such a job would start from scratch forever."""
    minutes = re.fullmatch(r"(\d+)m", str(settings.train.save_every))
    if "train" not in settings.phases or minutes is None:
        return False
    return settings.cluster.train.seconds - settings.cluster.warn <= 60 * int(minutes[1])


def _parallel_key(settings: Settings) -> str:
    return "gpus" if settings.cluster.train.gpus > 1 else "processes"


def _trains_in_parallel(settings: Settings) -> bool:
    train = settings.cluster.train
    return "train" in settings.phases and (train.gpus > 1 or bool(train.processes))


def _too_short(job: JobName) -> Callable[[Settings], bool]:
    return lambda s: s.cluster.of(job).seconds <= s.cluster.warn


def _spans_nodes(job: JobName) -> Callable[[Settings], bool]:
    return lambda s: s.cluster.of(job).nodes > 1


SUBMISSION_RULES = (
    *(
        Rule(
            f"cluster.{job}.time",
            _too_short(job),
            got=f"{{cluster.{job}.time}}",
            expected="more than the {cluster.warn} s of cluster.warn, in which a job saves before its limit",
            what_to_do="Ask for more time.",
        )
        for job in JOBS
    ),
    Rule(
        "cluster.train.time",
        _ends_before_a_checkpoint,
        got="{cluster.train.time}",
        expected=(
            "more than one checkpoint interval (train.save_every={train.save_every}) and the {cluster.warn} s of "
            "cluster.warn"
        ),
        what_to_do="Ask for more time, or save more often.",
    ),
    Rule(
        "cluster.generate.gpus",
        _lacks_gpus,
        got="{cluster.generate.gpus}",
        expected=lambda s: f"{_gpus_of_engine(s)}, over which generator.engine spreads the model",
        what_to_do=lambda s: f"Set cluster.generate.gpus={_gpus_of_engine(s)}.",
    ),
    Rule(
        lambda s: f"cluster.train.{_parallel_key(s)}",
        lambda s: _trains_in_parallel(s) and s.train.launch is None,
        got=lambda s: (
            f"{getattr(s.cluster.train, _parallel_key(s))} without train.launch, which is one process on one GPU"
        ),
        what_to_do="Set train.launch=ddp (or fsdp, ...).",
    ),
    Rule(
        "cluster.train.nodes",
        lambda s: s.cluster.train.nodes > 1 and s.train.launch is None,
        got="{cluster.train.nodes} without train.launch",
        expected="1",
        what_to_do="Set train.launch=ddp (or fsdp, ...).",
    ),
    *(
        Rule(
            f"cluster.{job}.nodes",
            _spans_nodes(job),
            got=f"{{cluster.{job}.nodes}}",
            expected="1, as only training spans nodes",
        )
        for job in JOBS
        if job != "train"
    ),
    Rule(
        "shard.index",
        lambda s: s.shard.index > 0,
        got="{shard.index} for a whole grid, whose shards are made by cluster.shards",
        what_to_do="Leave it out.",
    ),
    Rule("cell", lambda s: s.cell is not None, got="{cell} for a whole grid", what_to_do="Leave it out."),
)
