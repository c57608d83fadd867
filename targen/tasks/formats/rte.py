"""RTE: `{"premise": "Dana Reeve ... has died ...", "hypothesis": "...", "label": "not_entailment", "idx": 0}`."""

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task
from targen.text.normalise import words

NEGATIONS = frozenset({"not", "cannot", "no", "never", "none", "nobody", "nothing"})


def _without_negation(tokens: list[str]) -> list[str]:
    return [token.replace("n't", "").replace("n’t", "") for token in tokens if token not in NEGATIONS]


class RTE(Task):
    """Whether a premise entails a hypothesis."""

    def check_quality(self, row: Row, seed: Json) -> None:
        premise, hypothesis = words(row["premise"]), words(row["hypothesis"])
        if premise == hypothesis:
            raise RowError("hypothesis is the premise")
        if _without_negation(premise) == _without_negation(hypothesis):
            raise RowError("hypothesis differs from the premise by a negation only")
