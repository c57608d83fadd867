"""Families by name."""

import pytest

from targen.runtime.errors import UserError
from tests.support.commands import settings
from tests.support.small_data import SPECS, examples_of
from train.families.base import Family
from train.families.registry import FAMILIES, family_named, text_family_named
from train.families.text import TextFamily


def test_every_family_is_registered() -> None:
    assert list(FAMILIES) == ["encoder", "seq2seq", "decoder"]
    assert all(isinstance(family_named(name), Family) for name in FAMILIES)
    assert [isinstance(family_named(name), TextFamily) for name in FAMILIES] == [False, True, True]


def test_an_unknown_family_and_one_that_does_not_answer_in_words_are_refused() -> None:
    with pytest.raises(
        UserError,
        match=r"model\.family: got 'decodr', expected one of encoder, seq2seq, decoder\. Did you mean 'decoder'",
    ):
        family_named("decodr")
    with pytest.raises(UserError, match=r"model\.family: got encoder, expected a family whose models answer in words"):
        text_family_named("encoder")


def test_a_new_family_is_one_class_and_its_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    class Renamed(type(family_named("decoder"))):
        pass

    monkeypatch.setitem(FAMILIES, "renamed", Renamed)
    assert isinstance(text_family_named("renamed"), Renamed)


def test_examples_of_another_family_are_refused() -> None:
    encoder, decoder = family_named("encoder"), family_named("decoder")
    loaded = decoder.load_pretrained(settings("model=tiny_decoder").model, SPECS["cb"])
    encoded = decoder.encode(loaded, SPECS["cb"], examples_of("cb")[:2], 1000)
    with pytest.raises(TypeError, match="encode them with the family that reads them"):
        encoder.collator(loaded)(encoded)
