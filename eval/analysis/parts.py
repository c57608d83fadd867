"""The functions of the analysis parts.

To add a part, write a module in measures/ (in llm_measures/ if it asks the generator: see generator_calls.py), add its function
here, and its name and title to ANALYSIS_PARTS in targen/config/groups/analysis.py. The help text, the page and the check of
`analysis.parts` take them from there.
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

    `llm_results`: the results of the parts that ask the generator, by part.
    """

    settings: Settings
    pair: SetPair
    stop: StopRequest
    in_run: bool
    llm_results: Mapping[str, Any] = field(default_factory=dict)


PARTS: dict[str, Callable[[PartInput], AnalysisResult]] = {
    "lexical": lambda part: lexical(part.pair, part.settings.analysis),
    "semantic": lambda part: semantic(part.pair, part.settings.analysis),
    "clusters": lambda part: clusters(part.pair, part.llm_results["clusters"]),
    "bias": lambda part: bias(part.pair, part.settings.analysis),
    "correctness": lambda part: correctness(part.settings, part.pair, part.in_run),
    "contamination": lambda part: contamination(part.pair, part.settings.analysis),
    "difficulty": lambda part: difficulty(part.settings, part.pair, part.stop),
    "fidelity": lambda part: fidelity(part.settings, part.pair),
    "subjectivity": lambda part: subjectivity(part.pair, part.settings.analysis, part.llm_results["subjectivity"]),
}
