"""Semantic diversity: how near the rows of a set lie to one another in embedding space, and one picture of both sets.

Similarities are taken between embeddings of all their dimensions, never between points of the picture, and the picture is
one projection fitted to both sets together: two fits would have nothing to do with one another.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.analysis.intervals import halves, measure, of_halves, over_halves
from eval.analysis.measures.ngrams import Ints, rows_of_instances
from eval.analysis.results import Found, Missing
from eval.analysis.sets import Pair, texts
from targen.config.group_files import model_from_file
from targen.config.groups.analysis import Analysis
from targen.config.groups.training import Model
from targen.runtime.errors import UserError, did_you_mean
from targen.runtime.paths import CONF
from targen.tasks.task import Row, Task

log = logging.getLogger(__name__)
PART = "semantic"
AT_ONCE = 32  # texts
MAX_TOKENS = 256  # as sentence-transformers cuts for this model
Vectors = NDArray[np.float64]


def semantic(pair: Pair, settings: Analysis) -> Found:
    """Mean pairwise cosine, Vendi score, and both sets as points of one plane."""
    rows = pair.samples(settings.embed_rows)
    step, count = pair.task.rows_per_slot, len(rows["b"])
    if count < 2:
        return Found(missing=(Missing(PART, f"{count} rows in a set, expected at least 2"),))
    embedder = embedder_of(settings.embedder)
    vectors = {side: embeddings(embedder, [row_text(pair.task, row) for row in own]) for side, own in rows.items()}
    measures = []
    for name, title, unit, of, base, note in (
        ("cosine", "mean pairwise cosine", "cosine", mean_cosine, None, "higher: more alike"),
        ("vendi", "Vendi score", "rows", vendi, 0.0, "as many rows without anything in common would be as diverse"),
    ):
        sides = {}
        for side, own in vectors.items():
            orders = halves(count // step, settings.replicates, pair.draws(name, side))
            found = over_halves(orders, partial(_of_half, of, own, step))
            sides[side] = of_halves(of(own), found, count, base)
        measures.append(measure(PART, name, title, unit, sides, note))
    return Found(tuple(measures), {"embedder": embedder.name, "points": _points(vectors, rows)})


def row_text(task: Task, row: Row) -> str:
    return " ".join(texts(task, row))


def _of_half(of: Callable[[Vectors], float], vectors: Vectors, step: int, half: Ints) -> float:
    return of(vectors[rows_of_instances(half, step)])


def mean_cosine(vectors: Vectors) -> float:
    """The mean over all pairs of different rows, of vectors of length 1."""
    count = len(vectors)
    return float((np.square(vectors.sum(axis=0)).sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def vendi(vectors: Vectors) -> float:
    """exp of the entropy of the eigenvalues of K / n, K the cosines of all pairs. Source: arXiv 2210.02410, definition 3.1.

    The eigenvalues other than 0 are those of the smaller matrix of X X' and X' X.
    """
    count, dimensions = vectors.shape
    matrix = vectors @ vectors.T if count <= dimensions else vectors.T @ vectors
    eigenvalues = np.linalg.eigvalsh(matrix / count)
    kept = eigenvalues[eigenvalues > 1e-12]
    return float(np.exp(-(kept * np.log(kept)).sum()))


def _points(vectors: Mapping[str, Vectors], rows: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    """Both sets on the first two principal components of all their rows together."""
    from sklearn.decomposition import PCA

    every = np.concatenate(list(vectors.values()))
    plane = PCA(n_components=2, svd_solver="full").fit(every)
    found: dict[str, Any] = {
        "explained_variance": [round(float(share), 4) for share in plane.explained_variance_ratio_]
    }
    for side, own in vectors.items():
        placed = plane.transform(own)
        found[side] = [
            [row["idx"], round(float(x), 4), round(float(y), 4)] for row, (x, y) in zip(rows[side], placed, strict=True)
        ]
    return found


def embedder_of(name: str) -> Model:
    """The encoder of a name of conf/model, of a local directory or of a Hub id. Raises: UserError for any other model."""
    known = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
    if name in known:
        model = model_from_file(name)
        if model.family != "encoder" or model.path is None:
            raise UserError(
                f"analysis.embedder: got {name}, which is no pretrained encoder. Take analysis.embedder=minilm."
            )
        return model
    if "/" not in name and not Path(name).is_dir():
        raise UserError(
            f"analysis.embedder: got {name!r}, expected a file of conf/model/, a directory or a Hub id. "
            f"{did_you_mean(name, known)}"
        )
    return Model(name=name, family="encoder", path=name, sha256=None, learning_rate=1e-4, precision="fp32")


def embeddings(model: Model, sentences: Sequence[str]) -> Vectors:
    """(sentences, dimensions): the mean over the tokens of the last layer, of length 1, as sentence-transformers does it."""
    import torch
    from transformers import AutoModel

    from train.families.encoder import TRAITS
    from train.models.loading import PLAIN, load

    loaded = load(AutoModel, model, TRAITS, PLAIN)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = loaded.model.to(device).eval()
    positions = getattr(network.config, "max_position_embeddings", MAX_TOKENS)
    order = sorted(range(len(sentences)), key=lambda place: (-len(sentences[place]), place))
    found: list[Vectors] = [np.empty(0)] * len(sentences)
    for start in range(0, len(order), AT_ONCE):
        places = order[start : start + AT_ONCE]
        batch = loaded.tokenizer(
            [sentences[place] for place in places],
            padding=True,
            truncation=True,
            max_length=min(MAX_TOKENS, positions),
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        unit = torch.nn.functional.normalize(means, dim=1).cpu().numpy().astype(np.float64)
        for place, vector in zip(places, unit, strict=True):
            found[place] = vector
    return np.stack(found)
