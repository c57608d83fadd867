"""Which shards of a run are done, from the markers that they leave beside their calls."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from targen.runtime.errors import UserError
from targen.runtime.jsonl import read_json, write_text
from targen.runtime.paths import RunPaths
from targen.synthesis.slots.assignment import Shard

NAMES_SHOWN = 20


def shard_name(shard: Shard) -> str:
    """As in calls/<task>.shard-00003-of-00064.jsonl."""
    return f"shard-{shard.index:05d}-of-{shard.count:05d}"


def done_marker(paths: RunPaths, name: str) -> Path:
    """The file which says that a shard, or the `contexts` that all share, has all its calls."""
    return paths.calls / f"{name}.json"


def write_done(paths: RunPaths, name: str, sizes: Mapping[str, int]) -> None:
    """Marks that a shard, or the `contexts`, has all its calls for `sizes`, the rows of each task."""
    path = done_marker(paths, name)
    rows = read_json(path)["rows"] if path.exists() else {}
    write_text(path, json.dumps({"rows": {**rows, **sizes}}, indent=2) + "\n")


def check_complete(paths: RunPaths, count: int, sizes: Mapping[str, int]) -> None:
    """Raises: UserError that names the shards which are missing, or not done for these tasks and sizes.

    `count` 1: the number of shards is taken from the markers.
    """
    counts = {int(match[1]) for path in paths.calls.glob("shard-*.json") if (match := _COUNT.fullmatch(path.name))}
    if count == 1:
        if len(counts) != 1:
            markers = f"markers of {sorted(counts)}" if counts else "no marker of a shard"
            raise UserError(
                f"shard.count: got 1 and {markers} in {paths.calls}. Say how many shards there are: shard.count=N."
            )
        (count,) = counts
    missing = [index for index in range(count) if not _is_done(paths, Shard(index, count), sizes)]
    if missing:
        numbers = ", ".join(map(str, missing[:NAMES_SHOWN])) + (", ..." if len(missing) > NAMES_SHOWN else "")
        raise UserError(
            f"shard.count: got {count} shards of {paths.root}, of which {len(missing)} are missing or not done: {numbers}. Run "
            f"each: phases=[generate] shard.index={missing[0]} shard.count={count}"
        )


_COUNT = re.compile(r"shard-\d+-of-(\d+)\.json")


def _is_done(paths: RunPaths, shard: Shard, sizes: Mapping[str, int]) -> bool:
    path = done_marker(paths, shard_name(shard))
    if not path.exists():
        return False
    rows = read_json(path).get("rows", {})
    return all(rows.get(task, -1) >= size for task, size in sizes.items())
