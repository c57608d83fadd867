"""Texts that are too long: as much of the long field as fits, whatever the length of its tokens; answers that can be told apart."""

import pytest

from targen.runtime.errors import UserError
from targen.tasks.task import Example
from tests.support.small_data import SPECS, examples_of
from train.data.rendering import cued_prompt
from train.data.truncation import check_answers, truncated_texts

LIMIT = 200


def tokenize(texts: list[str]) -> list[list[int]]:
    """A token for each ordinary word, and one for each character of a number."""
    return [
        [ord(sign) for word in text.split(" ") for sign in (word if word[:1].isdigit() else word[:1] or " ")]
        for text in texts
    ]


@pytest.mark.parametrize("name", ["boolq", "cb"])  # cut at the end, and at the beginning
@pytest.mark.parametrize("text", ["word " * 400 + "0123456789 " * 400, "0123456789 " * 400 + "word " * 400])
def test_a_text_of_uneven_tokens_fills_the_length(name: str, text: str) -> None:
    task, example = SPECS[name], examples_of(name)[0]
    long = Example(example.task, example.id, {**example.fields, task.long_field: text}, example.choices, example.gold)
    (ids,), (is_truncated,) = truncated_texts(tokenize, cued_prompt, task, [long], (), LIMIT, 1)
    assert is_truncated
    assert LIMIT - 1 <= len(ids) <= LIMIT
    (short,), (is_truncated,) = truncated_texts(tokenize, cued_prompt, task, [example], (), 2000, 1)
    assert (short, is_truncated) == (tokenize([cued_prompt(task, example)])[0], False)


def test_labels_of_the_same_tokens_are_refused_and_texts_are_not() -> None:
    with pytest.raises(
        UserError, match="cb: the answers 'true' and 'True' are the same tokens in this model's vocabulary"
    ):
        check_answers(SPECS["cb"], [("true", [5]), ("True", [5])], 10)
    check_answers(SPECS["record"], [("us", [5]), ("US", [5])], 10)
