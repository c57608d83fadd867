"""The settings of the analyses of original and synthetic data."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.config.groups.bounds import STRICT, Count, CountOrZero, Name, PathText
from targen.config.groups.generation import Sampling
from targen.config.validation import name_in

ANALYSIS_PARTS = {  # the parts of `python -m eval.analyze` with their titles; eval/analysis/parts.py has their functions
    "lexical": "Lexical diversity",
    "semantic": "Semantic diversity",
    "clusters": "Diversity as a language model clusters it",
    "bias": "Bias",
    "correctness": "Correctness",
    "contamination": "Contamination",
    "difficulty": "Difficulty",
    "fidelity": "Fidelity",
    "subjectivity": "Subjectivity",
}
ASKING_PARTS = ("clusters", "subjectivity")  # that ask the generator, and so cost calls
PartName = Annotated[str, name_in(ANALYSIS_PARTS)]
TwoOrMore = Annotated[int, Field(ge=2)]


@checked_dataclass(frozen=True, config=STRICT)
class Analysis:
    """Which properties of the data are measured, and on how many rows."""

    parts: list[PartName]
    """What `python -m eval.analyze` measures."""
    size: Count | None
    """Rows per set at most, drawn by `seed`; null: all. Both sets get as many rows as the smaller one has."""
    replicates: Annotated[int, Field(ge=20)]
    """Bootstrap replicates."""
    self_bleu_rows: TwoOrMore
    """Rows per set at most for Self-BLEU."""
    embedder: Annotated[PathText, Field(min_length=1)]
    """A name in conf/model/ of the family encoder, a local folder or a Hub id; mean pooling, normalised."""
    embed_rows: TwoOrMore
    """Rows per set at most in the embedding space."""
    model: str | None
    """difficulty: a name in conf/model/ of the family encoder; null: the model of the run."""
    folds: TwoOrMore
    """difficulty: number of folds. The PVI of each fold comes from models trained on the others."""
    difficulty_rows: TwoOrMore
    """difficulty: rows per set at most."""
    fidelity_rows: TwoOrMore
    """fidelity: rows per set at most."""
    students: Annotated[list[Literal["bag_of_words", "encoder"]], Field(min_length=1)]
    """fidelity: bag_of_words takes seconds; encoder is a linear layer on the frozen `embedder`."""
    cluster_rows: TwoOrMore
    """clusters: rows that are shown and clustered at once."""
    cluster_draws: Count
    """clusters: how often so many rows of each set are drawn; two calls each."""
    cluster_criteria: Count
    """clusters: calls for what the texts of a task differ in, from rows of both sets."""
    subjectivity_rows: Count
    """subjectivity: rows per set at most that the generator rates; a call each."""
    sampling: Sampling
    """Sampling of what clusters and subjectivity ask of the generator."""
    spacy_model: Name
    """Model that finds named entities; install it with: python -m spacy download en_core_web_sm."""
    entity_rows: Count
    """Rows per set at most for named entities."""
    sheet_rows: CountOrZero
    """Rows per task on the sheet for a check by humans; 0: no sheet."""
    top: Count
    """Number of rows, names and pairs in each list."""
