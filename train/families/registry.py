"""The families by the name that `model.family` gives them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from targen.runtime.errors import UserError, did_you_mean
from train.families.base import Family

if TYPE_CHECKING:
    from train.families.text import TextFamily


def _encoder() -> Family:
    from train.families.encoder import EncoderFamily

    return EncoderFamily()


def _seq2seq() -> Family:
    from train.families.seq2seq import Seq2SeqFamily

    return Seq2SeqFamily()


def _decoder() -> Family:
    from train.families.decoder import DecoderFamily

    return DecoderFamily()


# A family's module imports torch, and is imported when the family is asked for.
FAMILIES: dict[str, Callable[[], Family]] = {"encoder": _encoder, "seq2seq": _seq2seq, "decoder": _decoder}


def family_named(name: str) -> Family:
    """The family of that name. Raises: UserError if there is none."""
    if name not in FAMILIES:
        raise UserError(
            f"model.family: got {name!r}, expected one of {', '.join(FAMILIES)}. {did_you_mean(name, list(FAMILIES))}"
        )
    return FAMILIES[name]()


def text_family_named(name: str) -> "TextFamily":
    """The family of that name, whose models answer in words. Raises: UserError if they do not."""
    from train.families.text import TextFamily

    family = family_named(name)
    if not isinstance(family, TextFamily):
        raise UserError(
            f"model.family: got {name}, expected a family whose models answer in words. Choose another model."
        )
    return family
