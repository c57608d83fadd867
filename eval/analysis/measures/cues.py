"""Cues: which words and structures go with which label, in both sets.

A structure is a property of the row's texts: their lengths, a question mark, a negation, a copied field, the task's own
`cues` (conf/task/<name>.yaml). Each is compared between the two sets among the rows of one label. A word may be more
frequent in one set because its topics differ, so words are ranked by how differently they go with the label: the
difference of both sets' log-odds ratios (rows of the label against all others), divided by its standard error.
Source: B. Monroe, M. Colaresi and K. Quinn, Fightin' Words, Political Analysis 16 (2008), section 3.4, here with the
counts of rows and a prior of half a row.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import fmean, pstdev

from eval.analysis.results import AnalysisResult, Missing
from eval.analysis.sets import SetPair, label_name
from targen.quality.students import tokens
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json
from targen.tasks.task import Row, Task
from targen.text.normalise import contains_phrase, words

PART = "fidelity.cues"
PRIOR = 0.5  # rows
MIN_ROWS = 5  # of both sets that have a word
MIN_COPIED_WORDS = 2
ALL = "all"
NEGATION = re.compile(r"\b(?:not|no|never|nobody|nothing|none|nor|neither|cannot|without)\b|n['’]t\b", re.IGNORECASE)
FIRST_PERSON = re.compile(r"\b(?:I|[Mm](?:e|y|ine|yself)|[Ww]e|[Uu]s|[Oo]ur(?:s|selves)?)\b")


@dataclass(frozen=True)
class LogOdds:
    """A smoothed log-odds ratio and its variance."""

    value: float
    variance: float

    @property
    def z(self) -> float:
        return self.value / sqrt(self.variance)


def log_odds(hits: int, count: int, other_hits: int, other_count: int) -> LogOdds:
    """hits of count against other_hits of other_count."""
    cells = [hits, count - hits, other_hits, other_count - other_hits]
    smooth = [cell + PRIOR for cell in cells]
    return LogOdds(log(smooth[0]) - log(smooth[1]) - log(smooth[2]) + log(smooth[3]), sum(1 / cell for cell in smooth))


def difference_z(a: LogOdds, b: LogOdds) -> float:
    """How many standard errors the log-odds ratio of b lies above that of a."""
    return (b.value - a.value) / sqrt(a.variance + b.variance)


def structures(task: Task, row: Row) -> dict[str, float]:
    """The structural features of a row: numbers of words, and 0 or 1 for what a row has."""
    view = task.view(row)
    texts = {name: view[name] for name in task.row if name not in task.variants}
    features: dict[str, float] = {f"words of {name}": len(words(text)) for name, text in texts.items()}
    for name, text in texts.items():
        features[f"{name} has a question mark"] = float("?" in text)
        features[f"{name} has a negation"] = float(NEGATION.search(text) is not None)
        features[f"{name} has a first person"] = float(FIRST_PERSON.search(text) is not None)
        for holder, holder_text in texts.items():
            if holder != name and len(words(text)) >= MIN_COPIED_WORDS:
                features[f"{name} is copied in {holder}"] = float(contains_phrase(holder_text, text))
    for name, values in task.variants.items():
        if name in view:
            features |= {f"{name} is {value}": float(view[name] == value) for value in values}
    for name, cue in task.cues.items():
        searched = [view[cue.field]] if cue.field is not None else list(texts.values())
        features[name] = float(any(re.search(cue.pattern, text) is not None for text in searched))
    return features


def check_cues(tasks: Iterable[Task]) -> None:
    """Raises: UserError if a cue looks into a field that rows do not have."""
    for task in tasks:
        fields = (*task.row, *task.view_fields)
        for name, cue in task.cues.items():
            if cue.field is not None and cue.field not in fields:
                raise UserError(
                    f"tasks.{task.name}.cues.{name}.field: got {cue.field!r}, expected one of {', '.join(fields)}. "
                    "Correct the task's YAML."
                )


def cues(pair: SetPair, rows: Mapping[str, Sequence[Row]], top: int) -> AnalysisResult:
    """The structures and words of both sets by label, the largest differences first."""
    if len(rows) < 2:
        return AnalysisResult(missing=(Missing(PART, pair.why_alone),))
    by_label: dict[str, dict[str, list[Row]]] = {side: defaultdict(list) for side in rows}
    for side, sample in rows.items():
        for row in sample:
            by_label[side][ALL].append(row)
            if pair.task.labels and pair.task.choices == "labels" and (label := label_name(pair.task, row)):
                by_label[side][label].append(row)
    labels = [ALL, *(label.name for label in pair.task.labels)]
    labels = [label for label in labels if all(by_label[side].get(label) for side in rows)]
    structural, lexical = {}, {}
    for label in labels:
        label_rows = {side: by_label[side][label] for side in rows}
        structural[label] = _structure_differences(pair.task, label_rows)
        if label != ALL:
            lexical[label] = _word_differences(pair.task, by_label, label)[:top]
    return AnalysisResult(details={"cues": {"structures": structural, "words": lexical}})


def _structure_differences(task: Task, rows: Mapping[str, Sequence[Row]]) -> list[Json]:
    """Each structure with its share (or mean and sd) in both sets, and the z score of the difference b - a."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: {"a": [], "b": []})
    for side, sample in rows.items():
        for row in sample:
            for name, value in structures(task, row).items():
                values[name][side].append(value)
    differences = []
    for name, by_side in values.items():
        a, b = by_side["a"], by_side["b"]
        if not a or not b or not any((*a, *b)):
            continue
        is_share = all(value in (0.0, 1.0) for value in (*a, *b))
        if is_share:
            z = log_odds(int(sum(b)), len(b), int(sum(a)), len(a)).z
        else:
            error = sqrt(pstdev(a) ** 2 / len(a) + pstdev(b) ** 2 / len(b))
            z = (fmean(b) - fmean(a)) / error if error else 0.0
        sides = {side: {"mean": round(fmean(data), 4), "sd": round(pstdev(data), 4)} for side, data in by_side.items()}
        differences.append({"cue": name, "unit": "share" if is_share else "words", **sides, "z": round(z, 2)})
    return sorted(differences, key=lambda cue: (-abs(cue["z"]), cue["cue"]))


def _word_differences(task: Task, by_label: Mapping[str, Mapping[str, Sequence[Row]]], label: str) -> list[Json]:
    """Words with the rows of the label and of the others that have them, the largest differences between sets first."""
    counts: dict[str, tuple[Counter[str], Counter[str]]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for side, groups in by_label.items():
        within, overall = (_rows_with_word(task, groups[name]) for name in (label, ALL))
        counts[side] = within, overall - within
        sizes[side] = len(groups[label]), len(groups[ALL]) - len(groups[label])
    totals: Counter[str] = sum((within + others for within, others in counts.values()), Counter())
    differences = []
    for word in sorted(word for word, count in totals.items() if count >= MIN_ROWS):
        odds = {
            side: log_odds(within[word], sizes[side][0], others[word], sizes[side][1])
            for side, (within, others) in counts.items()
        }
        sides = {
            side: {
                "rows": within[word],
                "share": round(within[word] / sizes[side][0], 4),
                "others": others[word],
                "z": round(odds[side].z, 2),
            }
            for side, (within, others) in counts.items()
        }
        differences.append({"word": word, **sides, "z": round(difference_z(odds["a"], odds["b"]), 2)})
    return sorted(differences, key=lambda word: (-abs(word["z"]), word["word"]))


def _rows_with_word(task: Task, rows: Sequence[Row]) -> Counter[str]:
    """In how many rows each word of each field occurs."""
    counts: Counter[str] = Counter()
    for row in rows:
        view = task.view(row)
        counts.update(
            {f"{name}: {word}" for name in task.row if name not in task.variants for word in tokens(view[name])}
        )
    return counts
