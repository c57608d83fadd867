"""Families by name."""

from pathlib import Path

import pytest

from targen.runtime.errors import UserError
from tests.support.commands import settings
from tests.support.small_data import SPECS, examples_of
from train import families
from train.families.base import Family
from train.families.registry import family_named, family_names, text_family_named
from train.families.text import TextFamily


def test_every_family_is_registered() -> None:
    assert set(family_names()) >= {"decoder", "encoder", "seq2seq"}
    assert all(isinstance(family_named(name), Family) for name in family_names())
    assert [isinstance(family_named(name), TextFamily) for name in ("encoder", "seq2seq", "decoder")] == [
        False,
        True,
        True,
    ]


def test_an_unknown_family_and_one_that_does_not_answer_in_words_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=rf"model\.family: got 'decodr', expected one of {', '.join(family_names())}\. Did you mean 'decoder'",
    ):
        family_named("decodr")
    with pytest.raises(UserError, match=r"model\.family: got encoder, expected a family whose models answer in words"):
        text_family_named("encoder")


def test_a_new_family_is_one_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "renamed.py").write_text(
        "from train.families.decoder import DecoderFamily\n\n\nclass Renamed(DecoderFamily):\n    pass\n\n\nFAMILY = Renamed()\n"
    )
    (tmp_path / "empty.py").write_text("")
    (tmp_path / "unlisted.py").write_text(
        "from train.families.encoder import EncoderFamily\n\nFAMILY = EncoderFamily()\n"
    )
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(tmp_path)])
    assert type(text_family_named("renamed")).__name__ == "Renamed"
    with pytest.raises(TypeError, match=r"train/families/empty\.py: got no FAMILY"):
        family_named("empty")
    with pytest.raises(
        TypeError, match=r"unlisted\.py: got EncoderFamily, expected a TextFamily or a name in HEAD_FAM"
    ):
        family_named("unlisted")


def test_examples_of_another_family_are_refused() -> None:
    encoder, decoder = family_named("encoder"), family_named("decoder")
    loaded = decoder.load_pretrained(settings("model=tiny_decoder").model, SPECS["cb"])
    encoded = decoder.encode(loaded, SPECS["cb"], examples_of("cb")[:2], 1000)
    with pytest.raises(TypeError, match="encode them with the family that reads them"):
        encoder.collator(loaded)(encoded)
