"""The report phase: `python -m eval.report +experiment=quickstart`; one HTML page, tables and figures.

`python -m eval.report run.dir=a run.dir=b` writes tables and figures that cover several runs.
"""

import logging
import time
from typing import Any

from eval.reporting.run_dirs import named_runs
from targen.config.run_directory import open_run
from targen.config.settings import Settings
from targen.runtime.cli import main

log = logging.getLogger(__name__)


def phase(cfg: Any, overrides: list[str]) -> int:
    """The report phase: tables, figures, the page and, if wandb.mode asks for it, a W&B run."""
    return _report(open_run(cfg, write=False))


def direct(arguments: list[str]) -> int | None:
    """Reports several runs, or one by its own config.yaml; None if the configuration is to be composed."""
    selection = named_runs(arguments)
    if selection is None:
        return None
    if selection.several:
        from eval.reporting.report import report_runs

        report_runs(selection.runs, selection.folder)
        return 0
    from eval.reporting.run_settings import settings_of_run

    return _report(settings_of_run(selection.runs[0], selection.report))


def _report(settings: Settings) -> int:
    from eval.reporting.report import write_report  # takes a second to import, too long for --help

    started = time.monotonic()
    log.info("%s\nTime: %.0f s for the report", write_report(settings).ending, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    main(
        "eval.report",
        "writes the tables, the figures and the page of a run, or of several: run.dir=a run.dir=b",
        phase,
        direct,
    )
