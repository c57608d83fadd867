"""Random numbers that depend on names alone, so they are unaffected by resume, shards and order."""

import hashlib
from random import Random


def rng(seed: int, *names: object) -> Random:
    """A random generator for one purpose, seeded by `seed` and the names; the same on every machine."""
    text = "/".join(map(str, (seed, *names)))
    return Random(int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big"))
