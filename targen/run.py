"""The whole run, phase after phase: `python -m targen.run +experiment=quickstart`."""

from typing import Any

from targen.runtime.cli import main


def phase(cfg: Any, overrides: list[str]) -> int:
    """Runs the phases, each as a subprocess; returns the exit code."""
    from targen.pipeline.phases import run  # imports pydantic and omegaconf, which would slow down --help

    return run(cfg, overrides)


if __name__ == "__main__":
    main("targen.run", "the whole run: generate, train, evaluate, report", phase)
