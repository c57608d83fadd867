"""Diversity as a language model clusters it: samples of a set are grouped by the generator, which names each group and checks it.

Source: H. Chen et al., On the diversity of synthetic data and its impact on training large language models, arXiv 2410.15226:
the score of a sample is its number of clusters over their mean size, and that of a set the mean over many samples. Where the
public descriptions are silent, and where we depart from them: docs/analysis.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from eval.analysis.intervals import measure, ratio, share_measure
from eval.analysis.llm_measures.questions import MOST_CRITERIA, Load, Questions, answer_object, numbered_list
from eval.analysis.results import AnalysisResult, Missing, not_measured
from eval.analysis.sets import SetPair, group_by_instance
from targen.config.groups.analysis import Analysis
from targen.runtime.jsonl import Json
from targen.synthesis.engine import Workflow
from targen.tasks.task import Row

PART = "clusters"
KINDS = ("metadata", "metrics")
Criteria = Mapping[str, list[tuple[str, str]]]  # (name, description) by kind


@dataclass(frozen=True)
class Cluster:
    """A group of texts, numbered from 1, with the generator's name and reason for it."""

    name: str
    reason: str
    texts: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """A sample that was clustered and checked: the `idx` of its rows, and its clusters."""

    idx: tuple[int, ...]
    clusters: tuple[Cluster, ...]
    explanation: str  # of the check

    @property
    def text_count(self) -> int:
        """The number of texts that are in a cluster."""
        return sum(len(cluster.texts) for cluster in self.clusters)

    @property
    def score(self) -> float:
        """The number of clusters over their mean size."""
        return len(self.clusters) ** 2 / self.text_count


@dataclass(frozen=True)
class Clustering:
    """All draws of a task, by set; None: a draw without a readable answer."""

    criteria: Criteria
    draws: Mapping[str, list[Draw | None]]


def load(pair: SetPair, settings: Analysis) -> Load:
    """The calls for a task, and the rows in their prompts."""
    count, draws = _rows_at_once(pair, settings), settings.cluster_draws * len(pair.sets)
    calls = settings.cluster_criteria + 2 * draws if count else 0
    return Load(calls, calls * count)


def clustering(questions: Questions, pair: SetPair, settings: Analysis) -> Workflow[Clustering | None]:
    """Asks for criteria, then for the clusters of each draw and their check; None if there are too few rows."""
    count = _rows_at_once(pair, settings)
    if not count:
        return None
    first_rows = {
        side: [rows[0] for rows in group_by_instance(sample, pair.task)] for side, sample in pair.samples().items()
    }
    all_rows = [row for rows in first_rows.values() for row in rows]
    streams = [pair.draws(PART, "criteria", number) for number in range(settings.cluster_criteria)]
    criteria = merged_criteria((yield [_criteria(questions, stream.sample(all_rows, count)) for stream in streams]))
    draws: dict[str, list[Draw | None]] = {side: [] for side in first_rows}
    if any(criteria.values()):
        samples = [
            (side, pair.draws(PART, side, number).sample(rows, count))
            for side, rows in first_rows.items()
            for number in range(settings.cluster_draws)
        ]
        results = yield [_draw(questions, rows, criteria) for _, rows in samples]
        for (side, _), draw in zip(samples, results, strict=True):
            draws[side].append(draw)
    return Clustering(criteria, draws)


def _rows_at_once(pair: SetPair, settings: Analysis) -> int:
    """Instances in a draw; 0 if there are fewer than two."""
    instances = pair.size // pair.task.rows_per_slot
    return min(settings.cluster_rows, instances) if instances > 1 else 0


def _texts(questions: Questions, rows: Sequence[Row]) -> list[str]:
    return [questions.task.instance.format(**questions.task.view(row)) for row in rows]


def _criteria(questions: Questions, rows: Sequence[Row]) -> Workflow[Json | None]:
    texts = numbered_list(_texts(questions, rows))
    most = str(MOST_CRITERIA)
    return (yield from answer_object(questions.request("criteria", count=str(len(rows)), texts=texts, most=most)))


def merged_criteria(answers: Sequence[Json | None]) -> Criteria:
    """The criteria of all answers: those that most of them name first, then in the order in which they were named."""
    criteria: dict[str, list[tuple[str, str]]] = {}
    for kind in KINDS:
        by_key: dict[str, tuple[str, str]] = {}
        mentions: Counter[str] = Counter()
        for answer in answers:
            kind_criteria = answer[kind] if answer is not None else []
            for key, criterion in {_one_line(item["name"].casefold()): item for item in kind_criteria}.items():
                if key:
                    by_key.setdefault(key, (_one_line(criterion["name"]), _one_line(criterion["description"])))
                    mentions[key] += 1
        most_named = sorted(by_key, key=lambda key: -mentions[key])  # sorted() keeps the order of equals
        criteria[kind] = [by_key[key] for key in most_named[:MOST_CRITERIA]]
    return criteria


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _draw(questions: Questions, rows: Sequence[Row], criteria: Criteria) -> Workflow[Draw | None]:
    """Two calls: the clusters of a sample, and the check of each text in its cluster."""
    texts = _texts(questions, rows)
    criteria_texts = {
        kind: "\n".join(f"- {name}: {description}" for name, description in criteria[kind]) or "- none"
        for kind in KINDS
    }
    request = questions.request("clusters", count=str(len(rows)), texts=numbered_list(texts), **criteria_texts)
    answer = yield from answer_object(request)
    clusters = clusters_of_answer(answer["clusters"], len(rows)) if answer is not None else ()
    if not clusters:
        return None
    cluster_texts = "\n\n".join(
        f"Cluster: {cluster.name}\nReason: {cluster.reason}\n\n"
        + "\n\n".join(f"Text {number}:\n{texts[number - 1]}" for number in cluster.texts)
        for cluster in clusters
    )
    check = yield from answer_object(questions.request("cluster_check", clusters=cluster_texts))
    if check is None or not (checked := without_texts(clusters, check["wrong"])):
        return None
    return Draw(tuple(row["idx"] for row in rows), checked, check["explanation"].strip())


def clusters_of_answer(answer: Sequence[Json], count: int) -> tuple[Cluster, ...]:
    """The clusters of an answer. A text named twice counts where it is named first; unknown numbers are ignored."""
    seen: set[int] = set()
    clusters = []
    for cluster in answer:
        numbers = dict.fromkeys(map(int, cluster["texts"]))
        texts = tuple(number for number in numbers if 1 <= number <= count and number not in seen)
        seen.update(texts)
        if texts:
            clusters.append(Cluster(_one_line(cluster["name"]), _one_line(cluster["reason"]), texts))
    return tuple(clusters)


def without_texts(clusters: Sequence[Cluster], wrong: Sequence[int]) -> tuple[Cluster, ...]:
    """The clusters without the texts that do not belong to them; empty clusters are dropped."""
    fitting = [tuple(number for number in cluster.texts if number not in wrong) for cluster in clusters]
    return tuple(replace(cluster, texts=texts) for cluster, texts in zip(clusters, fitting, strict=True) if texts)


def clusters(pair: SetPair, result: Clustering | None) -> AnalysisResult:
    """The score of each set over its draws, the number of clusters, and the share of texts that stayed in theirs."""
    if result is None:
        return not_measured(PART, "fewer than two rows in a set")
    if not any(result.criteria.values()):
        return not_measured(PART, "no answer of the generator names criteria. Take a better model")
    readable = {side: [draw for draw in draws if draw is not None] for side, draws in result.draws.items()}
    missing = [
        Missing(f"{PART}.{side}", f"{len(draws) - len(readable[side])} of {len(draws)} draws have no readable answer")
        for side, draws in result.draws.items()
        if len(readable[side]) < len(draws)
    ]
    if not any(readable.values()):
        return AnalysisResult(missing=tuple(missing))
    size = max(len(draw.idx) for draws in readable.values() for draw in draws)
    scores, counts, fitting = {}, {}, {}
    for side, draws in readable.items():
        if draws:
            values, sizes = np.array([(draw.score, len(draw.clusters)) for draw in draws], dtype=np.float64).T
            scores[side] = ratio(values, None, pair.draws(PART, "score", side))
            counts[side] = ratio(sizes, None, pair.draws(PART, "count", side))
            fitting[side] = (sum(draw.text_count for draw in draws), sum(len(draw.idx) for draw in draws))
    note = f"{size} rows at a time; n: draws; higher: more diverse"
    measures = (
        measure(PART, "cluster_score", "LLM cluster score", "clusters / size", scores, note),
        measure(PART, "clusters", "clusters in a draw", "clusters", counts),
        share_measure(PART, "clusters_kept", "texts that fit their cluster when checked", fitting),
    )
    details = {side: [_draw_json(draw) for draw in draws] for side, draws in readable.items()}
    criteria = {
        kind: [{"name": name, "description": description} for name, description in kind_criteria]
        for kind, kind_criteria in result.criteria.items()
    }
    return AnalysisResult(measures, {"clusters": {"rows": size, "criteria": criteria} | details}, tuple(missing))


def _draw_json(draw: Draw) -> Json:
    clustered = {number for cluster in draw.clusters for number in cluster.texts}
    return {
        "score": draw.score,
        "clusters": [
            {"name": cluster.name, "reason": cluster.reason, "idx": [draw.idx[number - 1] for number in cluster.texts]}
            for cluster in draw.clusters
        ],
        "left_out": [idx for number, idx in enumerate(draw.idx, start=1) if number not in clustered],
        "check": draw.explanation,
    }
