"""The functions of the analysis parts.

To add a part, write a module in measures/ (in llm_measures/ if it asks the generator: see generator_calls.py), add its function here, and its name and title to ANALYSIS_PARTS in
targen/config/groups/analysis.py. The help text, the page and the check of `analysis.parts` take them from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from eval.analysis.llm_measures.clusters import clusters
from eval.analysis.llm_measures.subjectivity import subjectivity
from eval.analysis.measures.bias import bias
from eval.analysis.measures.contamination import contamination
from eval.analysis.measures.correctness import correctness
from eval.analysis.measures.difficulty import difficulty
from eval.analysis.measures.fidelity import fidelity
from eval.analysis.measures.lexical import lexical
from eval.analysis.measures.semantic import semantic
from eval.analysis.results import AnalysisResult
from eval.analysis.sets import SetPair
from targen.config.settings import Settings
from targen.runtime.signals import StopRequest


@dataclass(frozen=True)
class PartInput:
    """What a part may look at. `in_run`: the synthetic rows are those of the run, which may have trained models.

    `found` is what came of the questions of the parts that ask the generator, by part.
    """

    settings: Settings
    pair: SetPair
    stop: StopRequest
    in_run: bool
    found: Mapping[str, Any] = field(default_factory=dict)


PARTS: dict[str, Callable[[PartInput], AnalysisResult]] = {
    "lexical": lambda given: lexical(given.pair, given.settings.analysis),
    "semantic": lambda given: semantic(given.pair, given.settings.analysis),
    "clusters": lambda given: clusters(given.pair, given.found["clusters"]),
    "bias": lambda given: bias(given.pair, given.settings.analysis),
    "correctness": lambda given: correctness(given.settings, given.pair, given.in_run),
    "contamination": lambda given: contamination(given.pair, given.settings.analysis),
    "difficulty": lambda given: difficulty(given.settings, given.pair, given.stop),
    "fidelity": lambda given: fidelity(given.settings, given.pair),
    "subjectivity": lambda given: subjectivity(given.pair, given.settings.analysis, given.found["subjectivity"]),
}
