"""Evaluation: predictions, official metrics, tables and the report.

For notebooks and scripts, docs/python.md: `eval.Run` reads a run, `eval.score` scores predictions.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.interface.run import Run
    from eval.interface.scores import score
    from eval.scoring.metric_kinds import Prediction
    from eval.scoring.scores import Score

__all__ = ["Prediction", "Run", "Score", "score"]
_MODULES = {
    "Prediction": "eval.scoring.metric_kinds",
    "Run": "eval.interface.run",
    "Score": "eval.scoring.scores",
    "score": "eval.interface.scores",
}


def __getattr__(name: str) -> object:
    """Imports a name at its first use, as targen does."""
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'eval' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
