"""Merges the scores of cells that were scored one at a time (`cell=`) into scores.jsonl: `python -m eval.scores run.dir=...`."""

from typing import Any

from eval.scoring.scores import join_scores
from targen.config.run_directory import open_run
from targen.runtime.cli import main
from targen.runtime.lock.run_lock import hold_lock


def phase(cfg: Any, overrides: list[str]) -> int:
    """Joins the scores of cells that were evaluated in separate jobs."""
    settings = open_run(cfg, write=False)
    with hold_lock(settings.paths.root, "scores", wait=True):
        join_scores(settings.paths)
    return 0


if __name__ == "__main__":
    main("eval.scores", "merges the scores of all cells into scores.jsonl", phase)
