"""The tables of a study that are not of one part of students: the sets, their worth, their measures, the number of labels."""

from collections.abc import Sequence

from eval.study.measures import MEASURES, PART, Correlation, SetMeasures
from eval.study.rows.amounts import cost_of_rows, is_in_tokens
from eval.study.rows.levels import METHODS
from eval.study.rows.material import ORIGINAL, Material
from eval.study.rows.sets import REFERENCE
from eval.study.statistics import LevelResult
from eval.study.tables import Record, titles_of
from eval.study.worth import Worth
from eval.tables.formats import Table
from eval.tables.sentences import NOT_RUN, difference_text


def worth_table(worths: Sequence[Worth], materials: Sequence[Material]) -> Table:
    """How many original rows one row of the reference is worth."""
    titles = titles_of(materials)
    lines = [
        (titles.get(worth.task, worth.task), worth.student, str(worth.rows), _worth_text(worth)) for worth in worths
    ]
    sentences = tuple(
        f"{title}, {student}: one of {rows} rows of {REFERENCE} is worth {text} original rows."
        for title, student, rows, text in lines
    )
    records: tuple[Record, ...] = tuple(
        {
            "part": "worth", "task": worth.task, "student": worth.student, "rows": worth.rows, "value": _finite(worth.value),
            "low": _finite(worth.bounds[0]), "high": _finite(worth.bounds[1]), "smallest": worth.smallest, "largest": worth.largest,
        }
        for worth in worths
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


def _worth_text(worth: Worth) -> str:
    low, high = (_worth(value, worth) for value in worth.bounds)
    return f"{_worth(worth.value, worth)} ({low} to {high})"


def _worth(value: float, worth: Worth) -> str:
    if value == 0:
        return f"beyond: at most {worth.smallest / worth.rows:.2f}"
    return f"beyond: more than {worth.largest / worth.rows:.2f}" if value == float("inf") else f"{value:.2f}"


def sets_table(materials: Sequence[Material]) -> Table:
    """The sets: rows, cost, contexts, corrected labels, original rows in their prompts, rows that equal an evaluation row."""
    lines, records = [], list[Record]()
    for material in materials:
        prices = cost_of_rows(material)
        unit = "tokens" if is_in_tokens(material) else "characters"
        original = material.original
        lines.append((material.task.folder, ORIGINAL, str(original.size), *[NOT_RUN] * 5, str(original.left_out)))
        for method, pool in material.sets.items():
            assert pool.synthetic_set is not None
            cost = pool.synthetic_set.cost
            record: Record = {
                "task": material.task.name,
                "method": method,
                "rows": pool.size,
                "calls": None if cost is None else cost.calls,
                "cost_per_row": prices.get(method),
                "unit": unit,
                "contexts": len(set(pool.contexts) - {""}),
                "labels_corrected": pool.synthetic_set.flips,
                "original_rows_shown": pool.synthetic_set.real_rows_shown,
                "left_out": pool.left_out,
            }
            records.append(record)
            price = f"{prices[method]:.0f} {unit}" if method in prices else NOT_RUN
            counts = [NOT_RUN if record[name] is None else str(record[name]) for name in list(record)[2:]]
            lines.append((material.task.folder, method, counts[0], counts[1], price, *counts[4:]))
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


def measures_table(correlations: Sequence[Correlation]) -> Table:
    """The rank correlation of each measure of a set with the score of each student."""
    lines = [
        (
            MEASURES[correlation.measure].title,
            "yes" if MEASURES[correlation.measure].needs_original else "no",
            correlation.student,
            _rho(correlation),
            f"{correlation.sets} of {correlation.tasks} tasks",
        )
        for correlation in correlations
    ]
    records: tuple[Record, ...] = tuple(
        {
            "part": PART, "measure": correlation.measure, "student": correlation.student, "value": correlation.value, "low": correlation.bounds[0],
            "high": correlation.bounds[1], "sets": correlation.sets, "tasks": correlation.tasks,
        }
        for correlation in correlations
    )  # fmt: skip
    sentences = []
    for correlation in correlations:
        low, high = correlation.bounds
        direction = (
            "higher values go with better sets"
            if low > 0
            else "higher values go with worse sets"
            if high < 0
            else "the sign is open"
        )
        title = MEASURES[correlation.measure].title
        sentences.append(f"{correlation.student}, {title}: {direction}, rank correlation {_rho(correlation)}.")
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


def _rho(correlation: Correlation) -> str:
    return f"{correlation.value:+.2f} ({correlation.bounds[0]:+.2f} to {correlation.bounds[1]:+.2f})"


def set_measures_table(set_measures: Sequence[SetMeasures], materials: Sequence[Material]) -> Table:
    """The measures of every set."""
    titles = titles_of(materials)
    names = list(dict.fromkeys(name for measures in set_measures for name in measures.values))
    lines = tuple(
        (
            titles[measures.task],
            measures.method,
            *(f"{measures.values[name]:.3f}" if name in measures.values else NOT_RUN for name in names),
        )
        for measures in set_measures
    )
    records: tuple[Record, ...] = tuple(
        {"task": measures.task, "method": measures.method, "measure": name, "value": value}
        for measures in set_measures
        for name, value in measures.values.items()
    )
    header = ("task", "set", *names)
    return Table("set_measures", "Measures of each set", (), header, lines, records, frozenset(range(2, len(header))))


def complexity_table(results: Sequence[LevelResult], materials: Sequence[Material]) -> Table:
    """The number of labels of each task, and the gap between the reference and as many original rows."""
    lines, records = [], list[Record]()
    for material in sorted(materials, key=lambda material: len(material.task.labels)):
        for result in results:
            comparison = result.comparison
            key = (result.part, result.level, result.task)
            if key != (METHODS, REFERENCE, material.task.name) or comparison is None:
                continue
            low, high = comparison.bounds or (None, None)
            labels = len(material.task.labels)
            lines.append((material.task.folder, str(labels), result.student, difference_text(comparison)))
            records.append(
                {
                    "task": result.task,
                    "labels": labels,
                    "student": result.student,
                    "value": comparison.difference,
                    "low": low,
                    "high": high,
                }
            )
    note = f"Accuracy of {REFERENCE} minus that of as many original rows, in points; from the table of methods."
    header = ("task", "labels", "student", f"{REFERENCE} - {ORIGINAL}")
    return Table("complexity", "Number of labels", (note,), header, tuple(lines), tuple(records), frozenset({1, 3}))
