"""Semantic diversity: how close the rows of a set are in embedding space, and one projection of both sets.

Similarities use all dimensions of the embeddings, never the points of the projection. The projection is fitted to both sets
together, because two separate fits could not be compared.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.analysis.intervals import estimate_from_halves, half_samples, measure, values_of_halves
from eval.analysis.measures.ngrams import Ints, rows_of_instances
from eval.analysis.results import AnalysisResult, not_measured
from eval.analysis.sets import SetPair, texts
from targen.config.group_files import model_from_file
from targen.config.groups.analysis import Analysis
from targen.config.groups.training import Model
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import group_choices
from targen.tasks.task import Row, Task
from train.models.embeddings import embeddings

log = logging.getLogger(__name__)
PART = "semantic"
Vectors = NDArray[np.float64]


def semantic(pair: SetPair, settings: Analysis) -> AnalysisResult:
    """Mean pairwise cosine, Vendi score, and both sets projected onto one plane."""
    rows = pair.samples(settings.embed_rows)
    step, count = pair.task.rows_per_slot, len(rows["b"])
    if count < 2:
        return not_measured(PART, f"{count} rows in a set, expected at least 2")
    embedder = embedder_of(settings.embedder)
    vectors = {
        side: embeddings(embedder, [row_text(pair.task, row) for row in sample]) for side, sample in rows.items()
    }
    measures = []
    for name, title, unit, compute, base, note in (
        ("cosine", "mean pairwise cosine", "cosine", mean_cosine, None, "higher: more similar"),
        (
            "vendi",
            "Vendi score",
            "rows",
            vendi,
            0.0,
            "the number of rows with nothing in common that would be equally diverse",
        ),
    ):
        sides = {}
        for side, side_vectors in vectors.items():
            orders = half_samples(count // step, settings.replicates, pair.draws(name, side))
            half_values = values_of_halves(orders, partial(_half_value, compute, side_vectors, step))
            sides[side] = estimate_from_halves(compute(side_vectors), half_values, count, base)
        measures.append(measure(PART, name, title, unit, sides, note))
    return AnalysisResult(tuple(measures), {"embedder": embedder.name, "points": _points(vectors, rows)})


def row_text(task: Task, row: Row) -> str:
    """All texts of a row in one."""
    return " ".join(texts(task, row))


def _half_value(compute: Callable[[Vectors], float], vectors: Vectors, step: int, half: Ints) -> float:
    return compute(vectors[rows_of_instances(half, step)])


def mean_cosine(vectors: Vectors) -> float:
    """The mean cosine over all pairs of different rows; `vectors` (rows, dimensions) have length 1."""
    count = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def vendi(vectors: Vectors) -> float:
    """exp of the entropy of the eigenvalues of K / n, where K are the cosines of all pairs of rows.

    X X' and X' X have the same nonzero eigenvalues, so the smaller matrix is used. Source: D. Friedman and A. B. Dieng,
    The Vendi score, arXiv 2210.02410, definition 3.1.
    """
    count, dimensions = vectors.shape
    matrix = vectors @ vectors.T if count <= dimensions else vectors.T @ vectors
    eigenvalues = np.linalg.eigvalsh(matrix / count)
    nonzero = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(nonzero * np.log(nonzero)).sum()))


def _points(vectors: Mapping[str, Vectors], rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Both sets projected onto the first two principal components of all their rows together."""
    from sklearn.decomposition import PCA

    all_vectors = np.concatenate(list(vectors.values()))
    plane = PCA(n_components=2, svd_solver="full").fit(all_vectors)
    points: dict[str, Any] = {
        "explained_variance": [round(float(share), 4) for share in plane.explained_variance_ratio_]
    }
    for side, side_vectors in vectors.items():
        projected = plane.transform(side_vectors)
        points[side] = [
            [row["idx"], round(float(x), 4), round(float(y), 4)]
            for row, (x, y) in zip(rows[side], projected, strict=True)
        ]
    return points


def embedder_of(name: str) -> Model:
    """The encoder that `name` means: a name in conf/model, a local folder or a Hub id. Raises: UserError for any other model."""
    names = group_choices("model")
    if name in names:
        model = model_from_file(name)
        if not model.has_head or model.path is None:
            raise UserError(
                f"analysis.embedder: got {name}, which is not a pretrained encoder. Set analysis.embedder=minilm."
            )
        return model
    if "/" not in name and not Path(name).is_dir():
        raise UserError(
            f"analysis.embedder: got {name!r}, expected a file of conf/model/, a folder or a Hub id. "
            f"{did_you_mean(name, names)}"
        )
    return Model(name=name, family="encoder", path=name, sha256=None, learning_rate=1e-4, precision="fp32")
