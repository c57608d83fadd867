"""Fills the Hub's cache ($HF_HOME) with what an experiment needs, on a machine with a network; jobs then read it offline.

python scripts/fetch.py +experiment=superglue_flant5 [overrides]             # with plan=true it only says what
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from targen.config.loading import settings_from
from targen.config.openllm import pieces
from targen.config.settings import Settings
from targen.data.hub import records_of
from targen.data.hub_requirements import LEFT_OUT, Needed, needs
from targen.runtime.cli import main
from targen.runtime.errors import UserError

log = logging.getLogger("fetch")


def fetch(one: Needed) -> None:
    """Raises: UserError where it cannot be had."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        if one.kind == "model":
            snapshot_download(one.name, allow_patterns=list(one.files), ignore_patterns=list(LEFT_OUT))
        elif one.program:
            records_of(one.name, one.config)
        else:
            from datasets import load_dataset

            load_dataset(one.name, one.config or None)
    except (OSError, ValueError, RuntimeError) as err:  # what huggingface_hub and datasets raise, without a network too
        if isinstance(err, GatedRepoError) or "is a gated dataset" in str(err):
            raise UserError(
                f"{one.why}: {one.name} is gated. Accept its licence on the Hub, and log in: hf auth login."
            ) from None
        said = " ".join(str(err).split())[:200]
        raise UserError(f"{one.why}: {one.name} cannot be fetched ({said}). Check the name and the network.") from None


def openllm_needs(settings: Settings) -> list[Needed]:
    """The data sets of the OpenLLM tasks that are not read from local files."""
    own = settings.eval.openllm
    if "evaluate" not in settings.phases or own.suite is None or own.data_dir is not None:
        return []
    from eval.openllm.tasks import data_sets  # the harness takes a while to import

    return data_sets(pieces(own))


def phase(cfg: Any, overrides: list[str]) -> int:
    settings, problems = settings_from(cfg), []
    found = [*needs(settings), *openllm_needs(settings)]
    for one in found:
        log.info("fetch: %s %s (%s)", one.kind, " ".join(filter(None, (one.name, one.config))), one.why)
        if not settings.plan:
            try:
                fetch(one)
            except UserError as err:
                problems.append(str(err))
    if problems:
        raise UserError("\n".join(problems))
    cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    log.info(
        "fetch: %d to fetch" if settings.plan else "fetch: all %d are in %s",
        *([len(found)] + [cache] * (not settings.plan)),
    )
    return 0


if __name__ == "__main__":
    os.environ.pop("HF_HUB_OFFLINE", None)
    main("scripts.fetch", "fetches what an experiment needs from the Hub", phase)
