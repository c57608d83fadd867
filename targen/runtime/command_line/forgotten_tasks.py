"""A command without experiment and tasks is the quickstart, which nobody means in the folder of another run."""

from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError


def refuse_forgotten_tasks(cfg: Any, default: str) -> None:
    """Raises: UserError if run.dir of the composed default experiment holds a run with another name."""
    import yaml

    folder = cfg.get("run", {}).get("dir")
    path = Path(folder or "", "config.yaml")
    if not folder or not path.is_file():
        return
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # the phase reads it too, and reports what is wrong
    name = config.get("name", default) if isinstance(config, dict) else default
    if name != default:
        tasks = ",".join(map(str, config.get("tasks") or {}))
        raise UserError(
            f"run.dir: got {folder}, which is the run {name} of {tasks}, for a command that names neither its experiment nor "
            f"its tasks, which is the {default}. Name them, with the run's other settings: 'task=[{tasks}]'."
        )
