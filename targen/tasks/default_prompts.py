"""The prompts of a task that names its texts (`fields`) and leaves the rest to the project. docs/task_design.md has the reasons.

What a row is about goes with its label, as in ordinary language: it is written for the label, in a setting that every label shares.
How long a text is, who writes it and how openly its label shows are drawn for each row, alike for all labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from targen.runtime.jsonl import Json

GIST = "gist"  # field of the instance seed: what an instance is about
RIGHT, WRONG = "right", "wrong"  # of the texts to choose from, as step 3 writes them

LENGTH = {"short for its kind": 3, "of the usual length for its kind": 4, "long for its kind": 2}
WRITER = {
    "an ordinary writer, neither careful nor careless": 4,
    "somebody in a hurry, who leaves things out": 2,
    "somebody practised, who comes to the point": 2,
    "somebody who seldom writes such things, in plain words of their own": 2,
}
SHOWS = {
    "said openly": 3,
    "plain from what is told, without the words that one expects": 4,
    "only between the lines, and still beyond doubt": 1,
}
COMPARISON = {  # of the texts to choose from
    "all are equally long": 2,
    "the right text is a little longer than the others": 1,
    "the right text is a little shorter than the others": 1,
}
OF_SEED = ("length", "writer")  # variants of the texts that the choices belong to


@dataclass(frozen=True)
class Shape:
    """What the prompts depend on: the texts of a row with their descriptions, and the texts to choose from, if any."""

    fields: Mapping[str, str]
    right: str = ""
    wrong: str = ""
    alternatives: int = 0

    @property
    def noun(self) -> str:
        """A description of an instance, for prompts."""
        if len(self.fields) == 1 and not self.alternatives:
            return phrase(*self.fields.values())
        return "; ".join(f"{key_as_words(name)}: {phrase(text)}" for name, text in self.fields.items())


def phrase(text: str) -> str:
    """A description as a part of a sentence: without its full stop, and with a small letter unless a name begins it."""
    bare = " ".join(text.split()).removesuffix(".")
    return bare[:1].lower() + bare[1:] if bare.split(" ")[0] in ("A", "An", "The", "One", "What") else bare


def key_as_words(name: str) -> str:
    """A key as words."""
    return name.replace("_", " ")


def escape_template(text: str) -> str:
    """The template that formats to this text."""
    return text.replace("{", "{{").replace("}", "}}")


def sentence(text: str) -> str:
    """The text with a full stop."""
    bare = " ".join(text.split())
    return bare if not bare or bare[-1] in ".!?" else f"{bare}."


def lines_of(names: Sequence[str]) -> str:
    """A template line per field of step 3: `Length: {length}`."""
    return "\n".join(f"{key_as_words(name).capitalize()}: {{{name}}}" for name in names)


def constraint(label: str, line: str) -> str:
    """The constraint in the prompt of step 3, so that the label holds."""
    meaning = f", that is: {sentence(line)}" if line else "."
    return escape_template(
        f"Its label is {label}{meaning} A careful reader who knows all labels would give it this one and no other."
    )


def variants(shape: Shape) -> Json:
    """The variants that are drawn for each row, with their weights."""
    last = {"comparison": dict(COMPARISON)} if shape.alternatives else {"label_shows": dict(SHOWS)}
    return {"length": dict(LENGTH), "writer": dict(WRITER), **last}


def contexts(shape: Shape) -> str:
    """The description of the contexts of step 1."""
    every_label = "" if shape.alternatives else "; it is wide enough for every label, and hints at none"
    return (
        f"settings in which the following comes up: {shape.noun}. A setting says who is concerned, on what occasion, at what kind of "
        f"place or with what kind of thing{every_label}"
    )


def instance_seed(shape: Shape, variant_names: Sequence[str]) -> Json:
    """Step 2: what an instance is about; with texts to choose from, the texts that they belong to."""
    if shape.alternatives:
        return {
            "instruction": (
                "Each is ordinary and plain, as it would really be found, and leaves room for one continuation or answer that comes "
                "to mind at once and for others that do not."
            ),
            "each": " ".join(
                f"{key_as_words(name).capitalize()}: {{{name}}}." for name in variant_names if name in OF_SEED
            ),
            "fields": {name: escape_template(phrase(text)) for name, text in shape.fields.items()},
        }
    return {
        "instruction": (
            f"Each is what one instance is about ({escape_template(shape.noun)}): an ordinary matter with a detail or two of its own. It fits "
            "its label as real ones do, without naming it, and is no riddle and no borderline case."
        ),
        "per_label": True,
        "fields": {GIST: "what it is about, in 6 to 20 words"},
    }


def generation(shape: Shape, seed_fields: Sequence[str], variant_names: Sequence[str]) -> Json:
    """Step 3: the texts of the row, or those to choose from. The instance seed already has `seed_fields`."""
    seed_texts = [name for name in seed_fields if name != GIST]
    about = [f"What it is about: {{{GIST}}}"] if GIST in seed_fields else []
    if shape.alternatives:
        instruction = _choices_instruction(shape, seed_texts, variant_names)
        return {"instruction": instruction, "fields": alternative_fields(shape)}
    head = "\n".join(filter(None, ["Setting: {context}", *about, lines_of([*seed_texts, *variant_names])]))
    texts = {name: phrase(text) for name, text in shape.fields.items() if name not in seed_fields}
    return {"instruction": f"{head}\n\n{_write_instruction(shape, texts)}", "fields": texts}


def alternative_fields(shape: Shape) -> dict[str, str]:
    """The fields of step 3 with texts to choose from: the right one first."""
    names = [WRONG] if shape.alternatives == 2 else [f"{WRONG}{number}" for number in range(1, shape.alternatives)]
    return {RIGHT: phrase(shape.right), **dict.fromkeys(names, phrase(shape.wrong))}


def _write_instruction(shape: Shape, texts: Mapping[str, str]) -> str:
    """The request of step 3, in the same words for every label."""
    if len(texts) == 1:
        request = f"Write {escape_template(*texts.values())}, as it would really be found"
    else:
        request = f"Write these texts, as they would really be found together ({', '.join(map(key_as_words, texts))})"
    relation = (
        ""
        if len(shape.fields) == 1
        else " Where the task asks how the texts relate, no single one gives the label away."
    )
    return (
        f"{request}: everyday words and ordinary things, with the loose ends that real ones have. Keep to what is given above without "
        f"repeating its words. No trap, no comment on itself, no summary.{relation}"
    )


def _choices_instruction(shape: Shape, seed_texts: Sequence[str], variant_names: Sequence[str]) -> str:
    names = " and ".join(key_as_words(name) for name in seed_texts)
    wrong = escape_template(phrase(shape.wrong))
    wrong = (
        f"a wrong one, {wrong}"
        if shape.alternatives == 2
        else f"{shape.alternatives - 1} wrong ones, each of them {wrong}"
    )
    head = lines_of([*seed_texts, *(name for name in variant_names if name not in OF_SEED)])
    return (
        f"{head}\n\nWrite the right text, {escape_template(phrase(shape.right))}, and {wrong}.\n"
        f"Whoever sees the texts to choose from without the {names} must not be able to tell which is right. So all are of one kind and "
        "tone, about the same scene, plain and believable in themselves, and as detailed as one another; a wrong one is no idle detail, "
        "nothing absurd, no denial of the right one and nothing from elsewhere. None has to repeat words of what is given."
    )


def whole(shape: Shape, variant_names: Sequence[str]) -> Json:
    """An instance in one answer, for the methods that ask for it."""
    if shape.alternatives:
        return {
            "instruction": (
                f"{lines_of(variant_names)}\n\nEverything is ordinary and plain. The wrong texts are of the same kind and tone and about the same "
                "scene as the right one, and about as long, so that nobody can tell which is right without the rest."
            )
        }
    return {"instruction": f"{lines_of(variant_names)}\n\n{_write_instruction(shape, shape.fields)}"}


def attributes(shape: Shape) -> dict[str, str]:
    """What varies between instances, for method=attrprompt."""
    return {
        "subject": f"subjects that such instances are about ({shape.noun})",
        "writer": "kinds of people from whom such instances come",
        "manner": "manners and tones in which such instances are written",
        "length": "lengths of such instances, in words",
    }
