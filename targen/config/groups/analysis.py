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
    """Maximum rows per set, sampled with `seed`; null: all. Both sets are sampled to the size of the smaller one."""
    replicates: Annotated[int, Field(ge=20)]
    """Bootstrap replicates."""
    self_bleu_rows: TwoOrMore
    """Maximum rows per set for Self-BLEU."""
    embedder: Annotated[PathText, Field(min_length=1)]
    """An encoder: a name in conf/model/, a local folder or a Hub id. Embeddings are mean-pooled and normalised."""
    embed_rows: TwoOrMore
    """Maximum rows per set to embed."""
    model: str | None
    """difficulty: name of an encoder in conf/model/; null: the model of the run."""
    folds: TwoOrMore
    """difficulty: number of folds. The PVI of each fold comes from models trained on the others."""
    difficulty_rows: TwoOrMore
    """difficulty: maximum rows per set."""
    fidelity_rows: TwoOrMore
    """fidelity: maximum rows per set."""
    students: Annotated[list[Literal["bag_of_words", "encoder"]], Field(min_length=1)]
    """fidelity: small classifiers. bag_of_words takes seconds; encoder is a linear layer on the frozen `embedder`."""
    cluster_rows: TwoOrMore
    """clusters: rows per sample, shown and clustered together."""
    cluster_draws: Count
    """clusters: samples of each set; two calls per sample."""
    cluster_criteria: Count
    """clusters: calls that ask for clustering criteria, each showing rows of both sets."""
    subjectivity_rows: Count
    """subjectivity: maximum rows per set that the generator rates, one call per row."""
    sampling: Sampling
    """Sampling settings of the calls of clusters and subjectivity."""
    spacy_model: Name
    """Named-entity model; install it with: python -m spacy download en_core_web_sm."""
    entity_rows: Count
    """Maximum rows per set for named entities."""
    sheet_rows: CountOrZero
    """Rows per task on the sheet for human checks; 0: no sheet."""
    top: Count
    """Length of the lists of rows, names and pairs."""
