"""The whole run, phase after phase: `python -m targen.run +experiment=quickstart`."""

from typing import Any

from targen.runtime.cli import main


def phase(cfg: Any, overrides: list[str]) -> int:
    """Runs the phases, each as a child process."""
    from targen.pipeline.phases import run  # and with it pydantic and omegaconf, which --help does not wait for

    return run(cfg, overrides)


if __name__ == "__main__":
    main("targen.run", "the whole run: generate, train, evaluate, report", phase)
