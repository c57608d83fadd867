"""All parts of students, in their order."""

from eval.analysis.results import Missing
from eval.study.rows.amounts import methods, mixing, quantity, tokens
from eval.study.rows.contents import diversity, quality
from eval.study.rows.levels import Level
from eval.study.rows.material import Material
from eval.study.rows.shares import shares


def levels(material: Material) -> tuple[list[Level], list[Missing]]:
    """The levels of all parts for one task, and what is missing."""
    result, missing = list[Level](), list[Missing]()
    for part in (methods, tokens, quantity, mixing, quality, diversity, shares):
        for item in part(material):
            if isinstance(item, Missing):
                missing.append(item)
            else:
                result.append(item)
    return result, missing
