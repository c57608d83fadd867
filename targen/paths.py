"""Where a run's files lie, said once."""

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
CONF = PROJECT / "conf"


@dataclass(frozen=True)
class RunPaths:
    """The files below one `run.dir`."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.yaml"

    @property
    def record(self) -> Path:
        return self.root / "run.json"

    @property
    def requests(self) -> Path:
        return self.root / "requests.jsonl"

    @property
    def responses(self) -> Path:
        return self.root / "responses.jsonl"

    @property
    def scores(self) -> Path:
        return self.root / "scores.jsonl"

    @property
    def report(self) -> Path:
        return self.root / "report"

    def calls(self, task: str) -> Path:
        return self.root / "calls" / f"{task}.jsonl"

    def synthetic(self, task: str) -> Path:
        return self.root / "synthetic" / task

    def model(self, cell: str) -> Path:
        return self.root / "models" / cell

    def predictions(self, cell: str) -> Path:
        return self.root / "predictions" / f"{cell}.jsonl"
