"""What would go wrong on a SLURM cluster and can be known before anything is submitted."""

import math
import re

from targen.config.groups.cluster import JOBS
from targen.config.settings import Settings


def problems(settings: Settings) -> list[str]:
    """What would go wrong on the cluster and can be known beforehand, a line each."""
    cluster, found = settings.cluster, []
    for job in JOBS:
        if cluster.of(job).seconds <= cluster.warn:
            found.append(
                f"cluster.{job}.time: got {cluster.of(job).time}, expected more than the {cluster.warn} s of cluster.warn, "
                "in which a job saves before its limit. Ask for more time."
            )
    found += _of_checkpoints(settings)
    if settings.generator.backend == "vllm" and "generate" in settings.phases:
        engine = settings.generator.engine
        needed = math.prod(int(engine.get(f"{kind}_parallel_size") or 1) for kind in ("tensor", "pipeline", "data"))
        if needed > cluster.generate.gpus:
            found.append(
                f"cluster.generate.gpus: got {cluster.generate.gpus}, expected {needed}, over which generator.engine spreads "
                f"the model. Set cluster.generate.gpus={needed}."
            )
    if (
        (cluster.train.gpus > 1 or cluster.train.processes)
        and settings.train.launch is None
        and "train" in settings.phases
    ):
        which = "gpus" if cluster.train.gpus > 1 else "processes"
        found.append(
            f"cluster.train.{which}: got {getattr(cluster.train, which)} without train.launch, which is one process on one GPU. "
            "Set train.launch=ddp (or fsdp ...)."
        )
    if cluster.train.nodes > 1 and settings.train.launch is None:
        found.append(
            f"cluster.train.nodes: got {cluster.train.nodes} without train.launch, expected 1. Set train.launch=ddp (or fsdp ...)."
        )
    for job in JOBS:
        if job != "train" and cluster.of(job).nodes > 1:
            found.append(f"cluster.{job}.nodes: got {cluster.of(job).nodes}, expected 1: only training spans nodes.")
    if settings.shard.index:
        found.append("shard.index: got one with a whole grid, whose shards are made by cluster.shards. Leave it out.")
    if settings.cell is not None:
        found.append(f"cell: got {settings.cell} with a whole grid. Leave it out.")
    return found


def _of_checkpoints(settings: Settings) -> list[str]:
    """A job that ends before its first checkpoint would begin anew for ever."""
    every, limit = settings.train.save_every, settings.cluster.train.seconds
    minutes = re.fullmatch(r"(\d+)m", str(every))
    if "train" not in settings.phases or minutes is None or limit - settings.cluster.warn > 60 * int(minutes[1]):
        return []
    return [
        f"cluster.train.time: got {settings.cluster.train.time}, expected more than one checkpoint interval "
        f"(train.save_every={every}) and the {settings.cluster.warn} s of cluster.warn. Ask for more time, or save more often."
    ]
