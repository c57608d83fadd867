"""Words, as the checks of the tasks see them."""

import re
import warnings
from functools import lru_cache

_WORD = re.compile(r"\w+(?:['’]\w+)*")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())


def normalised(text: str) -> str:
    """The text up to case, punctuation and spacing."""
    return " ".join(words(text))


def holds(text: str, phrase: str) -> bool:
    """Whether the words of the phrase stand in the text, one after the other."""
    return f" {normalised(phrase)} " in f" {normalised(text)} "


@lru_cache(maxsize=100_000)
def lemmas(form: str) -> frozenset[str]:
    """All dictionary forms that an English word form can have, itself included, in lower case."""
    lemminflect = _lemminflect()
    found = {form.lower()}
    for spelling in (form, form.lower()):
        for forms in lemminflect.getAllLemmas(spelling).values():
            found.update(lemma.lower() for lemma in forms)
    return frozenset(found)


@lru_cache(maxsize=100_000)
def is_form_of(form: str, lemma: str) -> bool:
    """Whether `form` can be an inflected form of `lemma` (English)."""
    if lemma.lower() in lemmas(form):
        return True
    lemminflect = _lemminflect()
    inflections = [lemminflect.getAllInflections(lemma)]
    inflections += [lemminflect.getAllInflectionsOOV(lemma, tag) for tag in ("NOUN", "VERB")]
    return any(form.lower() == other.lower() for table in inflections for forms in table.values() for other in forms)


@lru_cache(maxsize=1)
def _lemminflect():  # type: ignore[no-untyped-def]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lemminflect
    return lemminflect
