"""CB: `{"premise": "... I do not think the language was peeled down.", "hypothesis": "the language was peeled down", "label": "entailment", "idx": 0}`.

The hypothesis is the instance seed's clause, so the label is a fact about the premise's author alone.
"""

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task
from targen.text.normalise import lemmas, normalised, words


class CB(Task):
    """Whether an author is committed to a clause."""

    def check_instance_seed(self, seed: Json) -> None:
        clause = seed["hypothesis"].strip()
        if clause.endswith("?") or len(words(clause)) < 3:
            raise RowError("clause is not a declarative clause of three words or more")

    def check_quality(self, row: Row, seed: Json) -> None:
        if normalised(row["premise"]) == normalised(row["hypothesis"]):
            raise RowError("hypothesis is the whole premise")
        content = {word for word in words(row["hypothesis"]) if len(word) > 3}
        premise = set(words(row["premise"]))
        if content and content.isdisjoint(premise) and _forms(content).isdisjoint(_forms(premise)):
            raise RowError("premise has none of the clause's content words")


def _forms(tokens: set[str]) -> frozenset[str]:
    """All dictionary forms of the words."""
    return frozenset().union(*map(lemmas, tokens))
