"""Studies what makes synthetic data good: `python -m eval.study data.source=local data.dir=...`.

Small students are taught synthetic sets of several methods, sizes, mixtures and qualities, beside original rows. The default
experiment is text_classification.
"""

import logging
import sys
from typing import Any

import yaml

from targen.config.loading import as_values, settings_from
from targen.runtime.cli import REQUEUE, main
from targen.runtime.jsonl import write_text
from targen.runtime.lock.run_lock import hold_lock
from targen.runtime.signals import Stopped, StopRequest

log = logging.getLogger(__name__)
EXPERIMENT = "text_classification"


def phase(cfg: Any, overrides: list[str]) -> int:
    """Runs the study; the exit code."""
    settings = settings_from(cfg)
    from eval.study.run import study

    text = yaml.safe_dump(as_values(cfg), sort_keys=False, allow_unicode=True, width=120)
    with StopRequest(), hold_lock(settings.paths.root):
        try:
            study(settings, overrides)
            write_text(settings.paths.config, text)
        except Stopped:
            log.warning("study: told to stop. Progress is saved; rerun the command to resume.")
            return REQUEUE
    log.info("study: %s", settings.paths.root / "study" / "study.md")
    return 0


def command(arguments: list[str]) -> None:
    """Runs the command line, and exits."""
    if not any(argument.lstrip("+").startswith("experiment=") for argument in arguments):
        arguments = [f"+experiment={EXPERIMENT}", *arguments]
    sys.argv[1:] = arguments
    main("eval.study", "studies what makes synthetic data good", phase)


if __name__ == "__main__":
    command(sys.argv[1:])
