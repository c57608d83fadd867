"""The arms of a comparison: what a model was finetuned on before it is scored.

To add an arm, add it to ARMS: tables, figures and the page list arms in this order, in these colours. Where its rows are
not simply those of the original and the synthetic train split, train/grid/arms.py says how they are put together.
"""

from dataclasses import dataclass
from typing import Annotated

from targen.config.validation import name_in


@dataclass(frozen=True)
class Arm:
    """One arm: its name in configurations and files, its title for readers, and its rows."""

    name: str
    title: str
    colour: str  # Okabe and Ito's palette, distinguishable by colour-blind readers. Source: jfly.uni-koeln.de/color
    uses_original: bool = False  # trains on rows of a task's original train split
    uses_synthetic: bool = False  # trains on synthetic rows
    trained: bool = True  # False: the model as it is, not finetuned

    @property
    def uses_task_rows(self) -> bool:
        """Whether its training rows belong to the tasks; else they are none, or instruction data."""
        return self.uses_original or self.uses_synthetic

    @property
    def mixes(self) -> bool:
        """Whether original rows are added to synthetic ones, as many as train.mixed_original says."""
        return self.uses_original and self.uses_synthetic


ARMS = {
    arm.name: arm
    for arm in (
        Arm("none", "not finetuned", "#000000", trained=False),
        Arm("original", "original", "#0072B2", uses_original=True),
        Arm("synthetic", "synthetic", "#D55E00", uses_synthetic=True),
        Arm("mixed", "original and synthetic", "#009E73", uses_original=True, uses_synthetic=True),
        Arm("self_instruct", "Self-Instruct", "#CC79A7"),
    )
}

ArmName = Annotated[str, name_in(ARMS)]
