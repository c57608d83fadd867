"""Fills the Hub's cache ($HF_HOME) with what an experiment needs, on a machine with a network; jobs then read it offline.

`python -m eval.fetch +experiment=superglue_flant5 [overrides]`; with plan=true it only lists it.
"""

import logging
import os
from typing import Any

from targen.config.loading import settings_from
from targen.config.openllm import subtasks
from targen.config.settings import Settings
from targen.data.hub import records_of
from targen.data.hub_requirements import IGNORED_FILES, HubRequirement, hub_requirements
from targen.runtime.cli import main
from targen.runtime.errors import UserError, one_line

log = logging.getLogger(__name__)


def fetch(requirement: HubRequirement) -> None:
    """Downloads the repository into the cache. Raises: UserError if it cannot be loaded."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        if requirement.repo_type == "model":
            snapshot_download(
                requirement.name, allow_patterns=list(requirement.files), ignore_patterns=list(IGNORED_FILES)
            )
        elif requirement.program:
            records_of(requirement.name, requirement.config)
        else:
            from datasets import load_dataset

            load_dataset(requirement.name, requirement.config or None)
    except (OSError, ValueError, RuntimeError) as err:  # raised by huggingface_hub and datasets, also without a network
        if isinstance(err, GatedRepoError) or "is a gated dataset" in str(err):
            raise UserError(
                f"{requirement.needed_for}: {requirement.name} is gated. Accept its licence on the Hub, and log in: hf auth login."
            ) from None
        reason = one_line(err, 200)
        raise UserError(
            f"{requirement.needed_for}: {requirement.name} cannot be fetched ({reason}). Check the name and the network."
        ) from None


def openllm_requirements(settings: Settings) -> list[HubRequirement]:
    """The data sets of the OpenLLM tasks that are not read from local files."""
    openllm = settings.eval.openllm
    if "evaluate" not in settings.phases or openllm.suite is None or openllm.data_dir is not None:
        return []
    from eval.openllm.tasks import data_sets  # the harness takes a while to import

    return data_sets(subtasks(openllm))


def phase(cfg: Any, overrides: list[str]) -> int:
    """Fetches all requirements, or lists them with plan=true. Raises: UserError with all that could not be fetched."""
    settings, problems = settings_from(cfg), []
    requirements = [*hub_requirements(settings), *openllm_requirements(settings)]
    for requirement in requirements:
        log.info(
            "fetch: %s %s (%s)",
            requirement.repo_type,
            " ".join(filter(None, (requirement.name, requirement.config))),
            requirement.needed_for,
        )
        if not settings.plan:
            try:
                fetch(requirement)
            except UserError as err:
                problems.append(str(err))
    if problems:
        raise UserError("\n".join(problems))
    if settings.plan:
        log.info("fetch: %d to fetch", len(requirements))
    else:
        log.info("fetch: all %d are in %s", len(requirements), os.environ.get("HF_HOME") or "~/.cache/huggingface")
    return 0


if __name__ == "__main__":
    os.environ.pop("HF_HUB_OFFLINE", None)
    main("eval.fetch", "fetches what an experiment needs from the Hub", phase)
