"""Normalised words and word forms, for the checks of the tasks."""

import re
import sys
import unicodedata
import warnings
from functools import lru_cache
from importlib.abc import MetaPathFinder

# Thai, Lao, Burmese, Khmer, Japanese and Chinese put no blanks between words: there, each character counts as a word.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNIT = re.compile(f"[{_UNSPACED}]|[^{_UNSPACED}]+")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_ASCII_WORD = re.compile(r"\w+(?:'\w+)*", re.ASCII)  # the same for ASCII texts, in a third of the time


def words(text: str) -> list[str]:
    """The words of a text in lower case and NFC, with their accents and vowel signs."""
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    text = unicodedata.normalize("NFC", text.lower())
    marks = sorted(char for char in set(text) if char > "\x7f" and unicodedata.category(char) in ("Mn", "Mc"))
    return _word_with("".join(marks)).findall(text) if marks else _WORD.findall(text)


@lru_cache(maxsize=1000)
def _word_with(marks: str) -> re.Pattern[str]:
    r"""A word in which these combining marks may follow a letter: `\w` has none of them."""
    part = rf"\w[\w{marks}]*"
    return re.compile(f"{part}(?:['’]{part})*")


def units(text: str) -> list[str]:
    """The words of a text; in scripts without blanks between words, its characters."""
    return words(text) if text.isascii() else [unit for word in words(text) for unit in _UNIT.findall(word)]


@lru_cache(maxsize=4096)
def normalised(text: str) -> str:
    """The text in lower case, without punctuation, with single blanks; cached, since several checks normalise the same row."""
    return " ".join(words(text))


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether the text has the words of the phrase, consecutively."""
    return f" {normalised(phrase)} " in f" {normalised(text)} "


def rouge_l(first: list[str], second: list[str]) -> float:
    """ROUGE-L (F1) of two lists of words: 2 LCS / (len(first) + len(second)). Source: Lin 2004."""
    row = [0] * (len(second) + 1)  # row[j]: longest common subsequence of the words so far and the first j of `second`
    for word in first:
        diagonal = 0
        for j, second_word in enumerate(second, start=1):
            diagonal, row[j] = row[j], diagonal + 1 if word == second_word else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(first) + len(second)) if first or second else 0.0


@lru_cache(maxsize=100_000)
def lemmas(form: str) -> frozenset[str]:
    """All dictionary forms that an English word form can have, itself included, in lower case."""
    lemminflect = _lemminflect()
    known_lemmas = {form.lower()}
    for spelling in {form, form.lower()}:
        for forms in lemminflect.getAllLemmas(spelling).values():
            known_lemmas.update(lemma.lower() for lemma in forms)
    return frozenset(known_lemmas)


@lru_cache(maxsize=100_000)
def is_form_of(form: str, lemma: str) -> bool:
    """Whether `form` can be an inflected form of `lemma` (English)."""
    if lemma.lower() in lemmas(form):
        return True
    lemminflect = _lemminflect()
    inflections = [lemminflect.getAllInflections(lemma)]
    inflections += [lemminflect.getAllInflectionsOOV(lemma, tag) for tag in ("NOUN", "VERB")]
    return any(
        form.lower() == inflected.lower() for table in inflections for forms in table.values() for inflected in forms
    )


class _WithoutSpacy(MetaPathFinder):
    """Hides spaCy: lemminflect imports it if installed, and it imports torch, which takes seconds for an unused hook."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> None:  # noqa: ARG002
        if fullname == "spacy":
            raise ImportError


@lru_cache(maxsize=1)
def _lemminflect():  # type: ignore[no-untyped-def]
    finder = _WithoutSpacy()
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lemminflect
    finally:
        sys.meta_path.remove(finder)
    return lemminflect
