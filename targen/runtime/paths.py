"""The paths of all files of a run, and of what comes with the program."""

from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]  # the folder of our packages: that of a checkout, or site-packages


def shipped_path(name: str) -> Path:
    """A file or folder that comes with the program beside its packages: there in a checkout, inside `targen` in a wheel."""
    in_wheel = PROJECT / "targen" / name
    return in_wheel if in_wheel.exists() else PROJECT / name


CONF = shipped_path("conf")
PAPER = shipped_path("results/paper.yaml")
CHECKOUT = PROJECT if CONF.parent == PROJECT else None  # None: installed from a wheel


@dataclass(frozen=True)
class RunPaths:
    """The files below one `run.dir`."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.root / "config.yaml"

    @property
    def record(self) -> Path:
        """Versions, host and times of the run."""
        return self.root / "run.json"

    @property
    def cost(self) -> Path:
        """Planned and actual calls and tokens."""
        return self.root / "cost.json"

    @property
    def card(self) -> Path:
        """The card of the synthetic data set."""
        return self.root / "synthetic" / "README.md"

    def requests(self, number: int = 1) -> Path:
        """One file of a batch round: `requests.jsonl`, `requests-2.jsonl`, ..."""
        return self.root / ("requests.jsonl" if number == 1 else f"requests-{number}.jsonl")

    @property
    def request_files(self) -> list[Path]:
        """The existing request files, in the order of their numbers."""
        names = _numbered(self.root, "requests")
        return [path for path in names if path.stem == "requests" or path.stem.partition("-")[2].isdecimal()]

    @property
    def response_files(self) -> list[Path]:
        """`responses.jsonl` and every `responses-*.jsonl` that exist, in the order of their numbers."""
        return _numbered(self.root, "responses")

    @property
    def scores(self) -> Path:
        """The scores, a row per cell and metric."""
        return self.root / "scores.jsonl"

    def cell_scores(self, cell: str) -> Path:
        """The scores of one cell, a file with one writer; `scores.jsonl` joins all."""
        return self.root / "scores" / f"{cell}.jsonl"

    @property
    def slurm(self) -> Path:
        """Submitted jobs and their state."""
        return self.root / "slurm"

    @property
    def report(self) -> Path:
        """The report: page, tables and figures."""
        return self.root / "report"

    @property
    def analysis(self) -> Path:
        """Results and figures of the analyses."""
        return self.root / "analysis"

    @property
    def embeddings(self) -> Path:
        """The cache of text embeddings."""
        return self.root / "embeddings"

    @property
    def calls(self) -> Path:
        """The answers of the language model."""
        return self.root / "calls"

    def synthetic(self, task: str) -> Path:
        """The synthetic data set of a task."""
        return self.root / "synthetic" / task

    def model(self, cell: str) -> Path:
        """The trained model of a cell."""
        return self.root / "models" / cell

    def start(self, name: str) -> Path:
        """The folder of a trained model: a cell of this run by its name, any other by its path."""
        return Path(name) if "/" in name else self.model(name)

    def predictions(self, cell: str) -> Path:
        """The predictions of a cell."""
        return self.root / "predictions" / f"{cell}.jsonl"

    def submission(self, name: str) -> Path:
        """An archive for the leaderboard."""
        return self.root / "submission" / f"{name}.zip"

    def submitted(self, part: str) -> Path:
        """The predictions of one cell and task from which archives are put together."""
        return self.root / "submission" / "predictions" / f"{part}.jsonl"


def visible_paths(folder: Path, pattern: str) -> list[Path]:
    """The sorted paths that match, without hidden ones: .ipynb_checkpoints of Jupyter, .DS_Store and ._copies of macOS."""
    relative = (path.relative_to(folder) for path in folder.glob(pattern))
    return sorted(folder / path for path in relative if not any(part.startswith(".") for part in path.parts))


def group_choices(group: str) -> list[str]:
    """The choices of a group of settings: its files in conf/, by name."""
    return [path.stem for path in visible_paths(CONF / group, "*.yaml")]


def _numbered(folder: Path, stem: str) -> list[Path]:
    numbered = [*folder.glob(f"{stem}.jsonl"), *folder.glob(f"{stem}-*.jsonl")]
    return sorted(numbered, key=lambda path: (len(path.name), path.name))
