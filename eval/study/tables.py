"""The tables of a study, and the document that joins them."""

from collections.abc import Iterator, Mapping, Sequence

from eval.analysis.results import Missing
from eval.statistics.comparisons import Comparison, Estimate
from eval.study.rows.amounts import BUDGET_ROWS
from eval.study.rows.contents import LEFT_OUT_SHARE
from eval.study.rows.levels import (
    DIVERSITY,
    METHODS,
    MIXING,
    NATURAL,
    PARTS,
    QUALITY,
    QUANTITY,
    SELECTION,
    SHARES,
    TOKENS,
)
from eval.study.rows.material import Material
from eval.study.rows.selection import CHECKER_ROWS
from eval.study.rows.sets import REFERENCE
from eval.study.rows.shares import MOST_ROWS
from eval.study.statistics import MAIN, LevelResult
from eval.tables.formats import Table, Value, markdown, plain_text
from eval.tables.sentences import NOT_RUN, difference_text, p_text, percent, score_text

Record = dict[str, Value]
SCORES = "Percent: mean ± standard deviation over seeds (95 % interval over evaluation rows and seeds), evaluation rows × seeds."
DIFFERENCES = (
    "Differences of accuracy in points (95 % interval over evaluation rows and seeds); p of a paired permutation test over "
    "evaluation rows, after Holm's correction over all comparisons of single tasks in this table, and over those of averages. Better or worse is "
    "said where p is below 0.05 and the interval excludes 0. A set that is used whole is the same for every seed, and every set was made once: "
    "intervals do not say how another set of the same method would do."
)
SHARES_NOTE = (
    "Balanced: all labels equally frequent. Natural: in the published shares of the task's train split, or in those of the split at hand. All "
    f"levels of a task have the same number of rows, the largest up to {MOST_ROWS} that every source has in both shares. A task whose original "
    "labels are equally frequent is left out."
)
NOTES = {
    METHODS: ("Every set and the original rows at the same number of rows.",),
    TOKENS: (
        f"Every set is cut to the rows that the cost of {BUDGET_ROWS} rows of {REFERENCE} buys, at the mean cost of a row of the set: rejected "
        "attempts and lists of contexts are paid for.",
    ),
    QUANTITY: ("A smaller draw of a seed is a part of a larger one.",),
    MIXING: (f"Original rows alone, and beside the rows of {REFERENCE}.",),
    QUALITY: (
        f"Rows of {REFERENCE}. A checker leaves out the {LEFT_OUT_SHARE:.0%} of the rows whose label is least likely: cross-validated on the "
        f"set itself, which needs no original row, or taught {CHECKER_ROWS} original rows. The checker is of the same kind as the student.",
    ),
    SELECTION: (
        f"Rows of {REFERENCE}. The rows with the highest values are kept: chance; the cross-validated probability of the row's own label; "
        "pointwise V-usable information (PVI, arXiv 2110.08420), which is how many bits this probability is above the share of the label among "
        f"the other rows; the probability to a checker taught {CHECKER_ROWS} original rows. The first three need no original row. Where all labels are "
        "equally frequent, PVI can order rows otherwise than their own probability only where folds differ in their shares.",
    ),
    DIVERSITY: (
        f"Rows of {REFERENCE}. From few or many contexts: as many rows of each label as the fewest contexts have of the rarest.",
    ),
    SHARES: (SHARES_NOTE, "Synthetic rows are compared with original rows of the same shares."),
    NATURAL: (SHARES_NOTE, "The same rows; natural shares are compared with balanced ones of the same source."),
}


def part_table(part: str, results: Sequence[LevelResult], materials: Sequence[Material]) -> Table:
    """The levels of a part, by task and student, the averages last."""
    members = [result for result in results if result.part == part]
    shown_rows = {
        (material.task.name, method): pool.synthetic_set.real_rows_shown
        for material in materials
        for method, pool in material.sets.items()
        if pool.synthetic_set is not None
    }
    titles = titles_of(materials)
    lines = [
        (
            titles.get(result.task, result.task),
            result.student,
            result.level,
            _training_text(result, shown_rows),
            score_text(result.estimates[MAIN], None),
            score_text(result.estimates["f1_macro"], None),
            NOT_RUN if result.comparison is None else result.comparison.reference,
            NOT_RUN if result.comparison is None else difference_text(result.comparison),
        )
        for result in members
    ]
    header = ("task", "student", "level", "taught", "accuracy", "macro-F1", "compared with", "difference")
    notes = (*NOTES[part], SCORES, DIFFERENCES)
    records = tuple(record for result in members for record in _records(result))
    return Table(
        part,
        PARTS[part],
        notes,
        header,
        tuple(lines),
        records,
        frozenset({4, 5, 7}),
        tuple(_sentences(members, titles)),
    )


def titles_of(materials: Sequence[Material]) -> dict[str, str]:
    return {material.task.name: material.task.folder for material in materials}


def _training_text(result: LevelResult, shown_rows: Mapping[tuple[str, str], int]) -> str:
    texts = []
    for source, count in result.sources.items():
        real = shown_rows.get((result.task, source), 0)
        texts.append(f"{count:g} {source}" + (f" (prompts showed {real} original rows)" if real else ""))
    return ", ".join(texts)


def _records(result: LevelResult) -> Iterator[Record]:
    sources = ", ".join(f"{source} {count:g}" for source, count in result.sources.items())
    start: Record = {
        "part": result.part, "task": result.task, "student": result.student, "level": result.level, "taught": sources,
    }  # fmt: skip
    for score, estimate in result.estimates.items():
        yield {**start, "kind": "score", "score": score, "reference": None, **_numbers(estimate), "p": None}
    if (comparison := result.comparison) is not None:
        about: Record = {"kind": "difference", "score": comparison.metric, "reference": comparison.reference}
        difference = Estimate(comparison.difference, None, comparison.bounds, comparison.seeds, comparison.n)
        yield {**start, **about, **_numbers(difference), "p": comparison.corrected}


def _numbers(estimate: Estimate) -> Record:
    low, high = estimate.bounds or (None, None)
    return {
        "value": estimate.value, "low": low, "high": high, "spread": estimate.spread, "seeds": estimate.seeds, "n": estimate.n,
    }  # fmt: skip


def _sentences(members: Sequence[LevelResult], titles: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each comparison of an average, and for each of a level that only one task has."""
    for result in members:
        same_level = [other for other in members if (other.student, other.level) == (result.student, result.level)]
        comparisons = [other.comparison for other in same_level if other.tasks == 1 and other.comparison is not None]
        comparison = result.comparison
        if comparison is None or (result.tasks == 1 and len(comparisons) > 1):
            continue
        low, high = comparison.bounds or (0.0, 0.0)
        first, second = (percent(value) for value in comparison.values)
        text = f"{result.student}, {titles.get(result.task, result.task)}: {result.level} {first}, {comparison.reference} {second}: "
        text += f"{100 * comparison.difference:+.1f} points (95 % interval {percent(low)} to {percent(high)}"
        text += f", p {p_text(comparison.corrected)})" if comparison.corrected is not None else ")"
        better, worse = (sum(_differs(other, sign) for other in comparisons) for sign in (1, -1))
        unclear = len(comparisons) - better - worse
        if result.tasks == 1:
            verdict = "better" if better else "worse" if worse else "not distinguishable"
        else:
            verdict = (
                f"better on {better}, worse on {worse}, not distinguishable on {unclear} of {len(comparisons)} tasks"
            )
        yield f"{text}; {verdict}."


def _differs(comparison: Comparison, sign: int) -> bool:
    """Whether p and the interval both say that the level is better (1) or worse (-1)."""
    return sign * comparison.difference > 0 and comparison.is_significant and not comparison.disagrees


def document(title: str, tables: Sequence[Table], figures: Sequence[str], missing: Sequence[Missing]) -> str:
    """All tables, the figures and what is missing."""
    parts = [f"# {plain_text(title)}\n", *(f"![{name}]({name}.png)\n" for name in figures)]
    parts += [f"#{markdown(table)}" for table in tables if table.lines]
    if missing:
        lines = "\n".join(f"- {item.part}: {plain_text(item.why)}" for item in missing)
        parts.append(f"## Missing\n\n{lines}\n")
    return "\n".join(parts)
