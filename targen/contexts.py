"""The contexts that all shards of a generation share: `python -m targen.contexts shard.count=4 run.dir=...`, before the shards.

Without it, the first shard makes them while the others wait.
"""

from targen.generate import generate_contexts, phase_of
from targen.runtime.cli import main

if __name__ == "__main__":
    main("targen.contexts", "writes the contexts that all shards share", phase_of(generate_contexts))
