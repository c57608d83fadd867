"""What the page says of an analysis: parts under their titles, and small tables of details."""

from typing import Any

from eval.page.findings import findings
from targen.runtime.jsonl import Json


def measure_of(part: str) -> Json:
    interval = {"value": 0.5, "low": 0.4, "high": 0.6}
    return {
        "part": part, "name": part, "title": f"a share of {part}", "unit": "share", "a": interval, "b": interval,
        "difference": {"value": 0.0, "low": -0.1, "high": 0.1}, "size": {"a": 24, "b": 24}, "note": "", "theirs": False,
    }  # fmt: skip


def analysis(measures: list[Json], **details: Any) -> Json:
    """analysis/cb.json with these measures and details."""
    data_set = {"origin": "rows.jsonl", "rows": 24}
    return {
        "title": "CB",
        "sets": {"a": data_set | {"name": "original"}, "b": data_set | {"name": "synthetic"}},
        "size": 24,
        "level": 0.95,
        "measures": measures,
        "details": details,
    }


def test_measures_stand_under_the_title_of_their_part() -> None:
    result = findings(analysis([measure_of("lexical"), measure_of("bias"), measure_of("a_part_of_a_newer_version")]))
    assert list(result.parts) == ["Lexical diversity", "Bias", "a_part_of_a_newer_version"]


def test_the_most_frequent_entities_of_both_sets_stand_side_by_side() -> None:
    def distribution(*counts: tuple[str, int]) -> Json:
        return {"distinct": len(counts), "top": [{"name": name, "count": count} for name, count in counts]}

    places = {"a": distribution(("Peru", 3), ("Chad", 1)), "b": distribution(("Oslo", 2))}
    entities = {"model": "en_core_web_sm", "GPE": places, "EVENT": {"a": distribution(), "b": distribution()}}
    (listing,) = findings(analysis([measure_of("bias")], entities=entities)).listings
    assert listing.title == "Entities: GPE"
    assert listing.header == ("original", "synthetic")
    assert listing.lines == (("3 × Peru", "2 × Oslo"), ("1 × Chad", ""))
