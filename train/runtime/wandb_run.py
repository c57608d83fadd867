"""A Weights & Biases run around work that may take several starts."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from targen.config.settings import Settings
from targen.runtime.jsonl import write_text

if TYPE_CHECKING:
    from wandb import Run

WANDB = "wandb_id.txt"  # file of a folder with the id of its Weights & Biases run


@contextmanager
def wandb_run(settings: Settings, folder: Path, name: str, job_type: str | None = None) -> "Iterator[Run | None]":
    """A Weights & Biases run with the whole configuration; None if it is disabled.

    Its id is kept in a file of the folder, so that the next start resumes the same run.
    """
    if settings.wandb.mode == "disabled":
        yield None
        return
    import wandb

    id_file = folder / WANDB
    id = id_file.read_text(encoding="ascii").strip() if id_file.is_file() else secrets.token_hex(4)
    write_text(id_file, id + "\n")
    run = wandb.init(
        id=id,
        resume="allow" if settings.wandb.mode == "online" else None,  # offline, syncing joins equal ids
        project=settings.wandb.project,
        mode=settings.wandb.mode,
        name=name,
        job_type=job_type,
        dir=settings.run.dir,
        config=asdict(settings),
        settings=wandb.Settings(silent=True),
    )
    try:
        yield run
    finally:
        run.finish()
