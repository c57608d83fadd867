"""Diversity as a language model clusters it: samples of a set are grouped by the generator, which names each group and checks it.

Source: H. Chen et al., On the diversity of synthetic data and its impact on training large language models, arXiv 2410.15226:
the score of a sample is its number of clusters over their mean size, and that of a set the mean over many samples. What we do
where no public description says it, and where we depart: docs/analysis.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from eval.analysis.intervals import measure, ratio, shares
from eval.analysis.llm_measures.questions import MOST_CRITERIA, Load, Questions, numbered, object_of
from eval.analysis.results import AnalysisResult, Missing, not_measured
from eval.analysis.sets import SetPair, grouped
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json
from targen.synthesis.engine import Workflow
from targen.tasks.task import Row

PART = "clusters"
KINDS = ("metadata", "metrics")
Criteria = Mapping[str, list[tuple[str, str]]]  # (name, description) by kind


@dataclass(frozen=True)
class Cluster:
    """A group of texts, by number from 1, with what the generator says of it."""

    name: str
    reason: str
    texts: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """A sample that was clustered and checked: rows by `idx`, and those that are in no cluster."""

    idx: tuple[int, ...]
    clusters: tuple[Cluster, ...]
    explanation: str  # of the check

    @property
    def placed(self) -> int:
        """The number of texts that are in a cluster."""
        return sum(len(cluster.texts) for cluster in self.clusters)

    @property
    def score(self) -> float:
        """The number of clusters over their mean size."""
        return len(self.clusters) ** 2 / self.placed


@dataclass(frozen=True)
class Clustering:
    """What came of all draws of a task by set; None: a draw without a readable answer."""

    criteria: Criteria
    draws: Mapping[str, list[Draw | None]]


def load(pair: SetPair, settings: Analysis) -> Load:
    """What will be asked."""
    count, draws = _rows_at_once(pair, settings), settings.cluster_draws * len(pair.sets)
    calls = settings.cluster_criteria + 2 * draws if count else 0
    return Load(calls, calls * count)


def clustering(questions: Questions, pair: SetPair, settings: Analysis) -> Workflow[Clustering | None]:
    """Asks for criteria, then for the clusters of each draw and their check; None if there are too few rows."""
    count = _rows_at_once(pair, settings)
    if not count:
        return None
    firsts = {side: [rows[0] for rows in grouped(sample, pair.task)] for side, sample in pair.samples().items()}
    both = [row for rows in firsts.values() for row in rows]
    asked = [pair.draws(PART, "criteria", number).sample(both, count) for number in range(settings.cluster_criteria)]
    criteria = merged((yield [_criteria(questions, rows) for rows in asked]))
    draws: dict[str, list[Draw | None]] = {side: [] for side in firsts}
    if any(criteria.values()):
        samples = [
            (side, pair.draws(PART, side, number).sample(rows, count))
            for side, rows in firsts.items()
            for number in range(settings.cluster_draws)
        ]
        answered = yield [_draw(questions, rows, criteria) for _, rows in samples]
        for (side, _), draw in zip(samples, answered, strict=True):
            draws[side].append(draw)
    return Clustering(criteria, draws)


def _rows_at_once(pair: SetPair, settings: Analysis) -> int:
    """Instances in a draw; 0 if there are fewer than two."""
    instances = pair.size // pair.task.rows_per_slot
    return min(settings.cluster_rows, instances) if instances > 1 else 0


def _texts(questions: Questions, rows: Sequence[Row]) -> list[str]:
    return [questions.task.instance.format(**questions.task.view(row)) for row in rows]


def _criteria(questions: Questions, rows: Sequence[Row]) -> Workflow[Json | None]:
    shown = numbered(_texts(questions, rows))
    most = str(MOST_CRITERIA)
    return (yield from object_of(questions.request("criteria", count=str(len(rows)), texts=shown, most=most)))


def merged(answers: Sequence[Json | None]) -> Criteria:
    """The criteria of all answers: those that most of them name first, then in the order in which they were named."""
    criteria: dict[str, list[tuple[str, str]]] = {}
    for kind in KINDS:
        named: dict[str, tuple[str, str]] = {}
        times: Counter[str] = Counter()
        for answer in answers:
            of_kind = answer[kind] if answer is not None else []
            for key, each in {" ".join(each["name"].casefold().split()): each for each in of_kind}.items():
                if key:
                    named.setdefault(key, (" ".join(each["name"].split()), " ".join(each["description"].split())))
                    times[key] += 1
        first = sorted(named, key=lambda key: -times[key])[:MOST_CRITERIA]  # sorted() keeps the order of equals
        criteria[kind] = [named[key] for key in first]
    return criteria


def _draw(questions: Questions, rows: Sequence[Row], criteria: Criteria) -> Workflow[Draw | None]:
    """Two calls: the clusters of a sample, and the check of each text in its cluster."""
    texts = _texts(questions, rows)
    listed = {
        kind: "\n".join(f"- {name}: {description}" for name, description in criteria[kind]) or "- none"
        for kind in KINDS
    }
    answer = yield from object_of(questions.request("clusters", count=str(len(rows)), texts=numbered(texts), **listed))
    clusters = placed(answer["clusters"], len(rows)) if answer is not None else ()
    if not clusters:
        return None
    shown = "\n\n".join(
        f"Cluster: {cluster.name}\nReason: {cluster.reason}\n\n"
        + "\n\n".join(f"Text {number}:\n{texts[number - 1]}" for number in cluster.texts)
        for cluster in clusters
    )
    check = yield from object_of(questions.request("cluster_check", clusters=shown))
    if check is None or not (kept := without(clusters, check["wrong"])):
        return None
    return Draw(tuple(row["idx"] for row in rows), kept, check["explanation"].strip())


def placed(answer: Sequence[Json], count: int) -> tuple[Cluster, ...]:
    """The clusters of an answer; a text that is named twice counts where it is named first, an unknown number nowhere."""
    seen: set[int] = set()
    clusters = []
    for each in answer:
        texts = [
            number for number in dict.fromkeys(map(int, each["texts"])) if 1 <= number <= count and number not in seen
        ]
        seen.update(texts)
        if texts:
            clusters.append(Cluster(" ".join(each["name"].split()), " ".join(each["reason"].split()), tuple(texts)))
    return tuple(clusters)


def without(clusters: Sequence[Cluster], wrong: Sequence[int]) -> tuple[Cluster, ...]:
    """The clusters without the texts that do not belong to them; one that is left empty goes."""
    rest = [Cluster(c.name, c.reason, tuple(number for number in c.texts if number not in wrong)) for c in clusters]
    return tuple(cluster for cluster in rest if cluster.texts)


def clusters(pair: SetPair, found: Clustering | None) -> AnalysisResult:
    """The score of each set over its draws, the number of clusters, and the share of texts that stayed in theirs."""
    if found is None:
        return not_measured(PART, "fewer than two rows in a set")
    if not any(found.criteria.values()):
        return not_measured(PART, "no answer of the generator names criteria. Take a better model")
    read = {side: [draw for draw in draws if draw is not None] for side, draws in found.draws.items()}
    missing = [
        Missing(f"{PART}.{side}", f"{len(draws) - len(read[side])} of {len(draws)} draws have no readable answer")
        for side, draws in found.draws.items()
        if len(read[side]) < len(draws)
    ]
    if not any(read.values()):
        return AnalysisResult(missing=tuple(missing))
    size = max(len(draw.idx) for draws in read.values() for draw in draws)
    scores, counts, kept = {}, {}, {}
    for side, draws in read.items():
        if draws:
            values, numbers = np.array([(draw.score, len(draw.clusters)) for draw in draws], dtype=np.float64).T
            scores[side] = ratio(values, None, pair.draws(PART, "score", side))
            counts[side] = ratio(numbers, None, pair.draws(PART, "count", side))
            kept[side] = (sum(draw.placed for draw in draws), sum(len(draw.idx) for draw in draws))
    at_once = f"{size} rows at a time; n: draws; higher: more diverse"
    measures = (
        measure(PART, "cluster_score", "LLM cluster score", "clusters / size", scores, at_once),
        measure(PART, "clusters", "clusters in a draw", "clusters", counts),
        shares(PART, "clusters_kept", "texts that fit their cluster when checked", kept),
    )
    details = {side: [_draw_json(draw) for draw in draws] for side, draws in read.items()}
    criteria = {
        kind: [{"name": name, "description": description} for name, description in named]
        for kind, named in found.criteria.items()
    }
    return AnalysisResult(measures, {"clusters": {"rows": size, "criteria": criteria} | details}, tuple(missing))


def _draw_json(draw: Draw) -> Json:
    placed = {number for cluster in draw.clusters for number in cluster.texts}
    return {
        "score": draw.score,
        "clusters": [
            {"name": cluster.name, "reason": cluster.reason, "idx": [draw.idx[number - 1] for number in cluster.texts]}
            for cluster in draw.clusters
        ],
        "left_out": [idx for number, idx in enumerate(draw.idx, start=1) if number not in placed],
        "check": draw.explanation,
    }
