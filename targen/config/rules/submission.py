"""Rules for a run on a SLURM cluster, checked before anything is submitted."""

import re
from collections.abc import Callable
from typing import Literal

from targen.config.groups.cluster import OWN_RESOURCES, JobName
from targen.config.groups.generation import COPIES
from targen.config.rules.rule import Rule
from targen.config.settings import Settings


def shard_count(settings: Settings) -> int:
    """Number of shards into which generation on the cluster is split."""
    if settings.method.rounds is not None:
        return 1  # rounds need all rows
    return settings.cluster.shards if settings.shard.count == 1 else settings.shard.count


def _gpus_of_engine(settings: Settings, job: JobName = "generate") -> int:
    """GPUs that vLLM takes in a job: the merge runs one copy of the model."""
    return settings.generator.gpus * (settings.generator.copies if job == "generate" else 1)


def _lacks_gpus(job: Literal["generate", "merge"]) -> Callable[[Settings], bool]:
    """Whether a job that runs vLLM has fewer GPUs than it. The merge asks for replacements of rows that repeat."""

    def broken(settings: Settings) -> bool:
        runs = job in settings.phases or (job == "merge" and "generate" in settings.phases)
        if settings.generator.backend != "vllm" or not runs or (job == "merge" and shard_count(settings) == 1):
            return False
        return _gpus_of_engine(settings, job) > settings.cluster.of(job).gpus

    return broken


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


def _lacks_cpus(job: JobName) -> Callable[[Settings], bool]:
    return lambda s: s.cluster.of(job).cpus is None


def _exceeds_node(job: JobName) -> Callable[[Settings], bool]:
    return lambda s: s.cluster.node is not None and s.cluster.of(job).gpus > s.cluster.node.gpus


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
        for job in OWN_RESOURCES
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
        _lacks_gpus("generate"),
        got="{cluster.generate.gpus}",
        expected=lambda s: f"{_gpus_of_engine(s)}, over which generator.engine spreads the model",
        what_to_do=lambda s: f"Set cluster.generate.gpus={_gpus_of_engine(s)}.",
    ),
    Rule(
        "cluster.merge.gpus",
        _lacks_gpus("merge"),
        got="{cluster.merge.gpus}",
        expected=lambda s: (
            f"{_gpus_of_engine(s, 'merge')}, since the merge asks the generator for replacements of rows that repeat"
        ),
        what_to_do=lambda s: f"Set cluster.merge.gpus={_gpus_of_engine(s, 'merge')}.",
    ),
    *(
        Rule(
            f"cluster.{job}.cpus",
            _lacks_cpus(job),
            got="null",
            expected="a number, as cluster.node or cluster.per_gpu gives it no share",
            what_to_do="Set it.",
        )
        for job in OWN_RESOURCES
    ),
    *(
        Rule(
            f"cluster.{job}.gpus",
            _exceeds_node(job),
            got=f"{{cluster.{job}.gpus}}",
            expected="at most {cluster.node.gpus}, which a node has (cluster.node.gpus)",
            what_to_do="Ask for fewer, or correct cluster.node.",
        )
        for job in OWN_RESOURCES
    ),
    Rule(
        "cluster.per_node",
        lambda s: s.cluster.node is not None and s.cluster.per_node > s.cluster.node.gpus,
        got="{cluster.per_node}",
        expected="at most {cluster.node.gpus}, the GPUs of a node (cluster.node.gpus)",
        what_to_do="Lower it.",
    ),
    Rule(
        "cluster.per_node",
        lambda s: s.cluster.train.nodes > 1 and s.cluster.side_by_side("train") > 1,
        got="{cluster.per_node} with cluster.train.nodes={cluster.train.nodes}",
        expected="1, as a cell that spans nodes has them for itself",
        what_to_do="Set one of them to 1.",
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
        "cluster.evaluate.gpus",
        lambda s: s.cluster.evaluate.gpus > 1 and s.eval.launch is None and s.eval.openllm.backend != "vllm",
        got="{cluster.evaluate.gpus} without eval.launch, which is one process on one GPU",
        what_to_do="Set eval.launch=ddp.",
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
        for job in OWN_RESOURCES
        if job != "train"
    ),
    Rule(
        f"generator.engine.{COPIES}",
        lambda s: "generate" in s.phases and s.generator.copies > 1 and shard_count(s) > 1,
        got=lambda s: f"{s.generator.copies} with cluster.shards={shard_count(s)}",
        expected="one of them, as each copy makes a shard",
        what_to_do="Leave it at 1, and set cluster.per_node to fill a node with shards.",
    ),
    Rule(
        "shard.index",
        lambda s: s.shard.index > 0,
        got="{shard.index} for a whole grid, whose shards are made by cluster.shards",
        what_to_do="Leave it out.",
    ),
    Rule("cell", lambda s: s.cell is not None, got="{cell} for a whole grid", what_to_do="Leave it out."),
)
