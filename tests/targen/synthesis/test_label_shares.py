"""The rows of each label: shares are relative to one another, and each label gets a row."""

import pytest

from targen.runtime.errors import UserError
from targen.synthesis.recipes import recipes
from tests.support.commands import settings

SERVER = ("task=cb", "generator=openai", "generator.model=m")


def rows(*overrides: str) -> dict[str | None, int]:
    run = settings(*SERVER, *overrides)
    (recipe,) = recipes(run)
    counts = recipe.quotas(run.synth.size_of(recipe.task))
    return {cell.label: count for cell, count in zip(recipe.task.label_cells, counts, strict=True)}


@pytest.mark.parametrize("shares", ["{entailment: 2, contradiction: 1, neutral: 1}", "{entailment: 0.2, contradiction: 0.1, neutral: 0.1}"])  # fmt: skip
def test_shares_need_not_add_up_to_one(shares: str) -> None:
    assert rows("synth.size=40", f"synth.label_share={shares}") == {
        "entailment": 20,
        "contradiction": 10,
        "neutral": 10,
    }


REFUSED = [
    (["synth.label_share={entailment: 1, neutral: 1}"], "synth.label_share: got shares of entailment, neutral, expected one for each label of cb"),
    (["synth.label_share={entailment: 1, contradiction: 1, neutral: 1, maybe: 1}"], "synth.label_share: got no label maybe, expected one for each label of cb"),
    (["synth.label_share={entailment: 98, contradiction: 98, neutral: 1}"], "synth.label_share: got 40 rows of cb, which leaves none for neutral, expected a row of each"),
    (["synth.size=2"], "synth.size: got 2 rows of cb, which leaves none for neutral"),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_shares_that_are_no_shares_of_the_labels_are_one_line(overrides: list[str], words: str) -> None:
    size = [] if any("size" in override for override in overrides) else ["synth.size=40"]
    with pytest.raises(UserError) as err:
        rows(*size, *overrides)
    assert str(err.value).startswith(words) and "\n" not in str(err.value)


def test_published_shares_and_pilots_may_leave_a_label_out() -> None:
    assert rows("synth.size=4", "synth.label_share=original")["neutral"] == 0
    assert sum(rows("synth.size=40", "synth.pilot=2").values()) == 2
