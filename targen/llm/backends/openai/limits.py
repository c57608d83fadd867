"""How long the client waits, and how much it reads."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits that no setting changes."""

    probe_wait: float = 5.0  # seconds that the other calls wait for the probe at most
    reply_bytes: int = 16 * 2**20  # of a reply
    drain: float = 30.0  # seconds left to calls under way if the run cannot continue


LIMITS = Limits()
