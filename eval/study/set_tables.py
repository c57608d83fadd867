"""The tables of a study that are not of one part of students: the sets, their worth, their measures, the number of labels."""

from collections.abc import Sequence

from eval.study.measures import MEASURES, PART, Correlation, Measured
from eval.study.rows.amounts import cost_of_rows, is_in_tokens
from eval.study.rows.levels import METHODS
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.sets import REFERENCE
from eval.study.statistics import Scored
from eval.study.tables import Record, titles_of
from eval.study.worth import Worth
from eval.tables.formats import Table
from eval.tables.sentences import NOT_RUN, difference_text


def worth_table(worths: Sequence[Worth], materials: Sequence[Material]) -> Table:
    """How many original rows one row of the reference is worth."""
    titles = titles_of(materials)
    lines = [(titles.get(one.task, one.task), one.student, str(one.rows), _worth_text(one)) for one in worths]
    sentences = tuple(
        f"{titles.get(one.task, one.task)}, {one.student}: one of {one.rows} rows of {REFERENCE} is worth {_worth_text(one)} original rows."
        for one in worths
    )
    records: tuple[Record, ...] = tuple(
        {
            "part": "worth", "task": one.task, "student": one.student, "rows": one.rows, "value": _finite(one.value),
            "low": _finite(one.bounds[0]), "high": _finite(one.bounds[1]), "smallest": one.smallest, "largest": one.largest,
        }
        for one in worths
    )  # fmt: skip
    note = (
        "The number of original rows at which their curve, linear in the logarithm of the number, first reaches the accuracy of the synthetic "
        "rows, divided by the number of these (95 % interval over evaluation rows and seeds). Beyond: outside the measured sizes."
    )
    header = ("task", "student", "synthetic rows", "original rows per synthetic row")
    return Table(
        "worth", "What a synthetic row is worth", (note,), header, tuple(lines), records, frozenset({2, 3}), sentences
    )


def _finite(value: float) -> float | None:
    return value if 0 < value < float("inf") else None


def _worth_text(one: Worth) -> str:
    low, high = (_worth(value, one) for value in one.bounds)
    return f"{_worth(one.value, one)} ({low} to {high})"


def _worth(value: float, one: Worth) -> str:
    if value == 0:
        return f"beyond: at most {one.smallest / one.rows:.2f}"
    return f"beyond: more than {one.largest / one.rows:.2f}" if value == float("inf") else f"{value:.2f}"


def sets_table(materials: Sequence[Material]) -> Table:
    """The sets: rows, cost, contexts, corrected labels, original rows in their prompts, rows that equal an evaluation row."""
    lines, records = [], list[Record]()
    for given in materials:
        prices = cost_of_rows(given)
        unit = "tokens" if is_in_tokens(given) else "characters"
        original = given.original
        lines.append((given.task.folder, ORIGINAL, str(original.size), *[NOT_RUN] * 5, str(original.left_out)))
        for method, pool in given.sets.items():
            assert pool.made is not None
            cost = pool.made.cost
            record: Record = {
                "task": given.task.name,
                "method": method,
                "rows": pool.size,
                "calls": None if cost is None else cost.calls,
                "cost_per_row": prices.get(method),
                "unit": unit,
                "contexts": len(set(pool.contexts) - {""}),
                "labels_corrected": pool.made.flips,
                "original_rows_shown": pool.made.real_rows_shown,
                "left_out": pool.left_out,
            }
            records.append(record)
            price = f"{prices[method]:.0f} {unit}" if method in prices else NOT_RUN
            counts = [NOT_RUN if record[name] is None else str(record[name]) for name in list(record)[2:]]
            lines.append((given.task.folder, method, counts[0], counts[1], price, *counts[4:]))
    note = (
        "Cost: tokens where the server counted them, otherwise the characters of prompts and answers, a proxy. Left out: rows whose texts equal "
        "an evaluation row up to case, punctuation and spacing."
    )
    header = (
        "task",
        "set",
        "rows",
        "calls",
        "cost per row",
        "contexts",
        "labels corrected",
        "original rows in prompts",
        "left out",
    )
    return Table("sets", "The sets", (note,), header, tuple(lines), tuple(records), frozenset(range(2, 9)))


def measures_table(found: Sequence[Correlation]) -> Table:
    """How measures of a set go with the score of a student."""
    lines = [
        (
            MEASURES[one.measure].title,
            "yes" if MEASURES[one.measure].needs_original else "no",
            one.student,
            _rho(one),
            f"{one.sets} of {one.tasks} tasks",
        )
        for one in found
    ]
    records: tuple[Record, ...] = tuple(
        {
            "part": PART, "measure": one.measure, "student": one.student, "value": one.value, "low": one.bounds[0],
            "high": one.bounds[1], "sets": one.sets, "tasks": one.tasks,
        }
        for one in found
    )  # fmt: skip
    sentences = []
    for one in found:
        low, high = one.bounds
        told = (
            "higher values go with better sets"
            if low > 0
            else "higher values go with worse sets"
            if high < 0
            else "the sign is open"
        )
        sentences.append(f"{one.student}, {MEASURES[one.measure].title}: {told}, rank correlation {_rho(one)}.")
    note = (
        "Spearman's rank correlation with the accuracy of the student on evaluation rows, over the sets, both centred within each task (95 % interval: "
        "bootstrap over the sets of each task). There are few sets: these are leads, not laws."
    )
    header = ("measure", "needs original rows", "student", "rank correlation", "sets")
    return Table(
        PART,
        "Measures of a set and what students learn from it",
        (note,),
        header,
        tuple(lines),
        records,
        frozenset({3}),
        tuple(sentences),
    )


def _rho(one: Correlation) -> str:
    return f"{one.value:+.2f} ({one.bounds[0]:+.2f} to {one.bounds[1]:+.2f})"


def set_measures_table(measured: Sequence[Measured], materials: Sequence[Material]) -> Table:
    """The measures of every set."""
    titles = titles_of(materials)
    names = list(dict.fromkeys(name for one in measured for name in one.values))
    lines = tuple(
        (
            titles[one.task],
            one.method,
            *(f"{one.values[name]:.3f}" if name in one.values else NOT_RUN for name in names),
        )
        for one in measured
    )
    records: tuple[Record, ...] = tuple(
        {"task": one.task, "method": one.method, "measure": name, "value": value}
        for one in measured
        for name, value in one.values.items()
    )
    header = ("task", "set", *names)
    return Table("set_measures", "Measures of each set", (), header, lines, records, frozenset(range(2, len(header))))


def complexity_table(found: Sequence[Scored], materials: Sequence[Material]) -> Table:
    """The number of labels of each task, and the gap between the reference and as many original rows."""
    lines, records = [], list[Record]()
    for given in sorted(materials, key=lambda given: len(given.task.labels)):
        for one in found:
            comparison = one.comparison
            if (one.part, one.level, one.task) != (METHODS, REFERENCE, given.task.name) or comparison is None:
                continue
            low, high = comparison.bounds or (None, None)
            labels = len(given.task.labels)
            lines.append((given.task.folder, str(labels), one.student, difference_text(comparison)))
            records.append(
                {
                    "task": one.task,
                    "labels": labels,
                    "student": one.student,
                    "value": comparison.difference,
                    "low": low,
                    "high": high,
                }
            )
    note = f"Accuracy of {REFERENCE} minus that of as many original rows, in points; from the table of methods."
    header = ("task", "labels", "student", f"{REFERENCE} - {ORIGINAL}")
    return Table("complexity", "Number of labels", (note,), header, tuple(lines), tuple(records), frozenset({1, 3}))
