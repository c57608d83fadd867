"""The merge phase: `python -m targen.merge run.dir=...`, after all shards of a generation."""

from dataclasses import replace

from targen.config.groups.generation import ShardOf
from targen.config.settings import Settings
from targen.generate import generate, phase_of
from targen.runtime.cli import main
from targen.synthesis.slots.shards import check_complete


def merge(settings: Settings) -> None:
    """Makes `synthetic/` from the calls of all shards, byte for byte as one process would have made it.

    Selection needs the whole set: it finds duplicates across shards, and labels that corrections left short. The few calls
    that this takes go to the run's generator. Raises: UserError that names the shards that are not finished.
    """
    sizes = {task.name: settings.synth.size_of(task) for task in settings.tasks.values()}
    check_complete(settings.paths, settings.shard.count, sizes)
    generate(replace(settings, shard=ShardOf(0, 1)))


if __name__ == "__main__":
    main("targen.merge", "joins the shards of a generation", phase_of(merge))
