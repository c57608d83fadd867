"""What a task is: its labels, its prompts and its rows, from conf/task/<name>.yaml.

By default rows are named texts and a label, as in RTE: `{"premise": "Dana Reeve ... has died ...", "hypothesis": "...",
"label": "not_entailment", "idx": 0}`. A format that needs code has a subclass in targen/tasks/formats/<name>.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from targen.runtime.errors import RowError
from targen.runtime.jsonl import Json
from targen.tasks.row_checks import check_keys, check_text
from targen.tasks.specification import (
    STRICT,
    Count,
    Cue,
    EncoderInput,
    Label,
    Metric,
    SeedPrompt,
    StepPrompt,
    Variant,
    WholePrompt,
)
from targen.text.normalise import normalised

Row = Json  # one row in the official SuperGLUE JSONL format
Fields = Mapping[str, str]  # named texts, as prompt templates see them


@dataclass(frozen=True)
class LabelCell:
    """A label with its fixed variant (COPA: cause or effect): the unit in which rows are balanced."""

    number: int
    label: str | None  # None: the task has no fixed labels (ReCoRD)
    variant: tuple[tuple[str, str], ...]

    @property
    def fields(self) -> dict[str, str]:
        """The variant as fields of a prompt."""
        return dict(self.variant)

    def __str__(self) -> str:
        return ", ".join([self.label or "answer", *(f"{key} {value}" for key, value in self.variant)])


@dataclass(frozen=True)
class Example:
    """One question to a model. `choices` are label names, or the texts to choose from; `gold` indexes them."""

    task: str
    id: int
    fields: Fields
    choices: tuple[str, ...]
    gold: tuple[int, ...]  # several may be right (ReCoRD); empty: hidden
    answers: tuple[str, ...] = ()  # gold answers as texts, if scored as text (ReCoRD)
    # Numbers of the groups that it belongs to, the largest group first: passage, question (MultiRC); pair of sentences (AX-b)
    groups: tuple[int, ...] = ()


@checked_dataclass(frozen=True, config=STRICT)
class Task:
    """One task: its specification, field by field as in conf/task/<name>.yaml, and its behaviour for rows of named texts and a label."""

    name: str
    folder: str
    title: str
    description: str
    question: str
    metrics: Annotated[list[Metric], Field(min_length=1)]
    sizes: dict[str, int]  # rows of the original splits
    eval_split: str
    row: list[str]
    contexts: str
    instance_seed: SeedPrompt
    generation: StepPrompt
    instance: str
    encoder: EncoderInput
    long_field: str  # the text of `instance` that is cut if a whole prompt is too long
    whole: WholePrompt | None = None  # for methods that write an instance in one answer
    attributes: dict[str, str] = field(default_factory=dict)  # for AttrPrompt: a description of the values of each
    labels: list[Label] = field(default_factory=list)
    # If each answer in a row has a label, and not the row (MultiRC)
    answer_labels: list[Label] = field(default_factory=list)
    variants: dict[str, Variant] = field(default_factory=dict)  # by name; see Variant
    label_counts: dict[str, Count] = field(default_factory=dict)  # published, of the original train split
    choices: Literal["labels", "texts"] = "labels"
    rows_per_slot: int = 1
    cues: dict[str, Cue] = field(default_factory=dict)  # that the analysis `fidelity` counts per label
    original_train: str | None = None  # the task whose train split stands in if this one has none
    # That task's names of this one's texts, where they differ
    original_fields: dict[str, str] = field(default_factory=dict)
    # Examples in the original splits, for rows with several examples
    example_sizes: dict[str, int] = field(default_factory=dict)
    synthetic_size: Count | None = None  # rows that synth.size=original makes; None: as many as the train split has
    ordinal: bool = False  # whether the order of `labels` has a meaning
    hub: str | None = None  # its data set on the Hub, unless data.hub names one
    columns: dict[str, str] = field(default_factory=dict)  # of data files, by the name of the text, or label
    label_names: dict[str | bool | int, str] = field(default_factory=dict)  # label in data files: name of the label

    @cached_property
    def crossed_variants(self) -> dict[str, list[str]]:
        """Variants of which every label has as many of each value."""
        return {name: variant for name, variant in self.variants.items() if isinstance(variant, list)}

    @cached_property
    def free_variants(self) -> dict[str, str]:
        """Variants that the model chooses in step 3, each with a description of what it names."""
        return {name: variant for name, variant in self.variants.items() if isinstance(variant, str)}

    def drawn_variants(self, label: str | None) -> dict[str, list[str]]:
        """Variants that are drawn for each slot, each as a deck: a value of weight 3 for this label is there three times."""
        if label not in self._decks:
            self._decks[label] = self._decks_of(label)
        return self._decks[label]

    @cached_property
    def _decks(self) -> dict[str | None, dict[str, list[str]]]:
        return {}

    def _decks_of(self, label: str | None) -> dict[str, list[str]]:
        decks: dict[str, list[str]] = {}
        for name, variant in self.variants.items():
            if isinstance(variant, dict):
                by_label = variant.get(label or "")
                weights = by_label if isinstance(by_label, dict) else variant
                decks[name] = [text for text, times in weights.items() if isinstance(times, int) for _ in range(times)]
        return decks

    @property
    def published_rows(self) -> int | None:
        """Rows that synth.size=original makes, up to synth.max_size. None: unknown."""
        return self.synthetic_size or self.sizes.get("train") or self.sizes.get(self.eval_split) or None

    @property
    def examples_per_row(self) -> float:
        """The expected number of `examples` of a synthetic row."""
        return 1

    @property
    def classes(self) -> list[Label]:
        """The labels that a model chooses from for an example; empty: it chooses from texts."""
        return self.answer_labels or self.labels

    @cached_property
    def label_cells(self) -> list[LabelCell]:
        """All label cells; neighbours differ in the label, so that a size that does not divide stays balanced."""
        variants: list[tuple[tuple[str, str], ...]] = [()]
        for key, values in self.crossed_variants.items():
            variants = [(*variant, (key, value)) for variant in variants for value in values]
        names: list[str | None] = [label.name for label in self.labels] or [None]
        pairs = [(name, variant) for variant in variants for name in names]
        return [LabelCell(number, name, variant) for number, (name, variant) in enumerate(pairs)]

    def label(self, name: str) -> Label:
        """The label with this name."""
        return next(label for label in self.labels if label.name == name)

    def label_of(self, row: Row) -> str | None:
        """The name of the row's label; None if the split hides it, or the task has no such label."""
        if "label" not in row:
            return None
        return next((label.name for label in self.labels if same_value(label.value, row["label"])), None)

    # Everything below may be overridden in targen/tasks/formats/<name>.py. Checks and builders raise RowError with the reason.

    drawn_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the fields that `draw_fields` gives: the prompt of step 3 may use them."""
    built_fields: ClassVar[tuple[str, ...]] = ()
    """The drawn fields that `build_rows` reads: methods that draw nothing must ask the model for them (`whole.fields`)."""
    reads_seed: ClassVar[bool] = False
    """Whether the format reads fields of the instance seed that are not in `row`."""
    view_fields: ClassVar[tuple[str, ...]] = ()
    """Names of the texts that `view` gives in addition to `row`: `instance` and `encoder` may use them."""
    pointer_fields: ClassVar[tuple[str, ...]] = ()
    """Names in `row` that only repeat a part of another text: analyses of the texts leave them out."""
    drawn_in_groups: ClassVar[bool] = False
    """Whether drawing training rows keeps the examples of one smallest group together (MultiRC: the answers to a question)."""

    def check_instance_seed(self, seed: Json) -> None:
        """Refuses an instance seed that fits the schema and still breaks a rule of the task."""

    def draw_fields(self, cell: LabelCell, seed: Json, rng: Random) -> dict[str, str]:
        """Fields of the prompt of step 3 that the slot's RNG draws (ReCoRD: the answer entity)."""
        return {}

    def build_rows(self, cell: LabelCell, seed: Json, drawn: Fields, answer: Json, rng: Random) -> list[Row]:
        """The official rows, without `idx`, of one answer of step 3: `rows_per_slot` of them.

        By default each text of `row` is looked up by name in the answer, the drawn fields, the instance seed and the variant.
        """
        texts = {**cell.fields, **seed, **drawn, **answer}
        row: Row = {name: texts[name] for name in self.row}
        if cell.label is not None:
            row["label"] = self.label(cell.label).value
        return [row]

    def check_format(self, row: Row) -> None:
        """Refuses a row, original or synthetic, that breaks the official format."""
        check_keys(row, [*self.row, "idx"], optional=["label"])
        for name in self.row:
            check_text(row, name)
        self.check_label(row)

    def check_label(self, row: Row) -> None:
        """Refuses a label that the task does not have; a hidden label is allowed."""
        if "label" in row and self.label_of(row) is None:
            values = ", ".join(repr(label.value) for label in self.labels)
            raise RowError(f"label: got {row['label']!r}, expected one of {values}")

    def check_quality(self, row: Row, seed: Json) -> None:
        """Refuses a synthetic row that is well-formed and poor: copied, trivial, or its label given away."""

    def view(self, row: Row) -> dict[str, str]:
        """The row as named texts, as the templates `instance` and `encoder` use them."""
        return {name: row[name] for name in self.row}

    def label_options(self, row: Row) -> list[str]:
        """The labels that self-correction may choose from."""
        return [label.name for label in self.labels]

    def gold_option(self, row: Row) -> str:
        """The row's label, as one of `label_options`. Raises: RowError if it is hidden."""
        name = self.label_of(row)
        if name is None:
            raise RowError("label: hidden in this split")
        return name

    def relabel(self, row: Row, option: str) -> Row:
        """The row with another of its `label_options` as label."""
        return {**row, "label": self.label(option).value}

    def with_idx(self, row: Row, idx: int) -> Row:
        """The row with its position in the file, keys in the official order."""
        return {**row, "idx": idx}

    def examples(self, row: Row) -> list[Example]:
        """The row as questions to a model."""
        names = tuple(label.name for label in self.labels)
        label = self.label_of(row)
        gold = (names.index(label),) if label is not None else ()
        return [Example(self.name, row["idx"], self.view(row), names, gold)]

    def demonstrations(self, row: Row) -> list[Row]:
        """The original row as prompts show it: a row with several questions becomes rows of one question each."""
        return [row]

    def demonstration_numbers(self, row: Row) -> dict[str, int]:
        """The numbers that identify one of `demonstrations` in provenance."""
        return {"idx": row["idx"]}

    def copied_texts(self, row: Row) -> list[str]:
        """Texts that are equal for a row and its copy, up to case and blanks."""
        return list(self.view(row).values())

    def example_count(self, row: Row) -> int:
        """How many `examples` a row has."""
        return 1

    def balance_note(self) -> str:
        """A sentence for the data set's card on how this task is balanced beyond its labels; may be empty."""
        return ""

    def baseline_answer(self, example: Example) -> str:
        """The answer of the majority baseline if the task has no labels: the first choice."""
        return example.choices[0]

    def duplicate_key(self, row: Row) -> str:
        """Equal for duplicates: all texts, up to case, punctuation and spacing."""
        return "\n".join(normalised(text) for text in self.view(row).values())

    def with_choice(self, text: str, choice: str) -> str:
        """An encoder's text that asks about one of the example's choices (ReCoRD: the query's gap filled with it)."""
        return text

    def from_hub(self, records: Iterable[Json]) -> Iterator[Row]:
        """The official rows of records of the Hub's mirror, whose labels are official already. By default they are the same."""
        yield from records


def same_value(first: object, second: object) -> bool:
    """Equality that tells `true` from `1`."""
    return type(first) is type(second) and first == second
