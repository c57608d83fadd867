"""Small students: logistic regression on words, or on the embeddings of a frozen encoder.

A student answers questions from the two texts of an encoder. If the answers are labels, it is a classifier; if they are
choices, it learns what distinguishes a right choice from a wrong one of the same question, and the choice with the
highest score is its answer.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from targen.quality.instances import Instance
from targen.text.normalise import units

Numbers = NDArray[np.float64]
Texts = tuple[str, ...]
_MARK = re.compile(r"[?!？！]")
_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[?!]")
NO_WORDS = "1:(no words)"
OVERLAP_STEPS = 5  # of the share of the second text's words that the first has


class Student(Protocol):
    """`features(train, test)` are two matrices with a row per tuple of texts; only `train` may decide what they contain."""

    @property
    def name(self) -> str: ...

    @property
    def strength(self) -> float:
        """C of the logistic regression."""

    def features(self, train: Sequence[Texts], test: Sequence[Texts]) -> tuple[Any, Any]: ...


def tokens(text: str) -> list[str]:
    """The words of a text in lower case, and its question and exclamation marks."""
    if text.isascii():
        return _TOKEN.findall(text.lower())
    return [*units(text), *_MARK.findall(text)]


@lru_cache(maxsize=20_000)
def terms(texts: Texts) -> list[str]:
    """Words and pairs of neighbouring words, marked by the number of their text, and how many words two texts share."""
    all_terms: list[str] = []
    by_text = [tokens(text) for text in texts]
    for number, text_tokens in enumerate(by_text, start=1):
        all_terms += [f"{number}:{token}" for token in text_tokens]
        all_terms += [f"{number}:{first} {second}" for first, second in pairwise(text_tokens)]
    for (i, first), (j, second) in combinations(enumerate(map(set, by_text), start=1), 2):
        if first and second:
            all_terms.append(f"{i}+{j}:shares {len(first & second) * OVERLAP_STEPS // len(second)}/{OVERLAP_STEPS}")
    return all_terms or [NO_WORDS]


@dataclass(frozen=True)
class BagOfWords:
    """TF-IDF of words and pairs of words per text."""

    name: str = "bag of words"
    strength: float = 10.0

    def features(self, train: Sequence[Texts], test: Sequence[Texts]) -> tuple[Any, Any]:
        vectorizer = vectorizer_of()
        return vectorizer.fit_transform(train), vectorizer.transform(test)


def vectorizer_of() -> Any:
    """A TF-IDF vectorizer of pairs of texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer=terms, sublinear_tf=True)


@dataclass(frozen=True)
class LinearOnEncoder:
    """The embeddings u and v of both texts as [u, v, |u - v|, u * v]. Source: A. Conneau et al., arXiv 1705.02364."""

    embed: Callable[[Sequence[str]], Numbers]
    name: str = "encoder"
    strength: float = 0.001

    def features(self, train: Sequence[Texts], test: Sequence[Texts]) -> tuple[Any, Any]:
        train_matrix, test_matrix = self._embedded(train), self._embedded(test)
        mean, spread = train_matrix.mean(axis=0), train_matrix.std(axis=0) + 1e-6
        return (train_matrix - mean) / spread, (test_matrix - mean) / spread

    def _embedded(self, rows: Sequence[Texts]) -> Numbers:
        return pair_features([self.embed([texts[number] for texts in rows]) for number in range(len(rows[0]))])


def pair_features(embedded: Sequence[Numbers]) -> Numbers:
    """Features of rows from the embeddings of their texts, a matrix for each text: for two texts [u, v, |u - v|, u * v]."""
    pairs = [block for u, v in combinations(embedded, 2) for block in (np.abs(u - v), u * v)]
    return np.hstack([*embedded, *pairs])


def classifier(strength: float, intercept: bool = True) -> Any:
    """The logistic regression of all students; each label has the same weight, however many rows it has."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, class_weight="balanced", max_iter=2000, fit_intercept=intercept)


def answer_probabilities(student: Student, train: Sequence[Instance], test: Sequence[Instance]) -> list[Numbers]:
    """For each test question the probabilities of its answers, from a student that was taught the training questions.

    Each array has the shape `(labels or choices,)`.
    """
    if not test:
        return []
    pairs = ([pair for instance in instances for pair in instance.options] for instances in (train, test))
    train_features, test_features = student.features(*pairs)
    if all(len(instance.options) == 1 for instance in (*train, *test)):
        return _label_probabilities(student, train, test, train_features, test_features)
    return _choice_probabilities(student, train, test, train_features, test_features)


def _label_probabilities(
    student: Student, train: Sequence[Instance], test: Sequence[Instance], train_features: Any, test_features: Any
) -> list[Numbers]:
    gold = np.array([instance.gold[0] for instance in train])
    probabilities = np.zeros((len(test), test[0].answers))
    labels = sorted(set(gold.tolist()))
    if len(labels) == 1:
        probabilities[:, labels[0]] = 1.0
    else:
        train_matrix, test_matrix = in_row_space(train_features, test_features)
        model = classifier(student.strength).fit(train_matrix, gold)
        probabilities[:, model.classes_] = model.predict_proba(test_matrix)
    return list(probabilities)


def _choice_probabilities(
    student: Student, train: Sequence[Instance], test: Sequence[Instance], train_features: Any, test_features: Any
) -> list[Numbers]:
    """Pairwise: the differences right - wrong and wrong - right are two classes. Source: R. Herbrich et al. (2000)."""
    right, wrong, weights, start = [], [], [], 0
    for instance in train:
        others = [choice for choice in range(instance.answers) if choice not in instance.gold]
        right += [start + instance.gold[0]] * len(others)
        wrong += [start + choice for choice in others]
        weights += [1 / len(others)] * len(others)
        start += instance.answers
    differences = train_features[right] - train_features[wrong]
    train_matrix, test_matrix = in_row_space(differences, test_features)
    classes = np.repeat([1, 0], len(right))
    model = classifier(student.strength, intercept=False)
    model.fit(np.vstack([train_matrix, -train_matrix]), classes, sample_weight=np.array(weights * 2))
    scores = test_matrix @ model.coef_[0]
    probabilities, start = [], 0
    for instance in test:
        choice_scores = scores[start : start + instance.answers]
        exponentials = np.exp(choice_scores - choice_scores.max())
        probabilities.append(exponentials / exponentials.sum())
        start += instance.answers
    return probabilities


def in_row_space(train: Any, test: Any) -> tuple[Numbers, Numbers]:
    """Both matrices in coordinates of the space that the training rows span: as many columns as training rows at most.

    The weights of a regression with an L2 penalty lie in this space, so that it gives the same answers, faster.
    """
    if train.shape[1] <= train.shape[0]:
        return _dense(train), _dense(test)
    values, vectors = np.linalg.eigh(_dense(train @ train.T))
    nonzero = values > values[-1] * 1e-10
    axes = vectors[:, nonzero] / np.sqrt(values[nonzero])
    return _dense(train @ train.T) @ axes, _dense(test @ train.T) @ axes


def _dense(matrix: Any) -> Numbers:
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray(), dtype=np.float64)
