"""The object in the text of an answer, and answers of every form."""

import contextlib
import time
from pathlib import Path

import pytest

from targen.llm.messages import Answer, read_object
from targen.runtime.errors import RowError
from tests.support.commands import reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import completion, run, step_of

PAIR = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}} | {
    "required": ["a", "b"],
    "additionalProperties": False,
}


SEEDS = {
    "type": "object",
    "properties": {"seeds": {"type": "array", "items": PAIR}},
    "required": ["seeds"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "text",
    [
        '{"a": "x", "b": "y"}',
        'Sure! {"a": "x", "b": "y"} Is it what you want?',
        '```json\n{"a": "x", "b": "y"}\n```',
        '<think>First {"a": "1", "b": "2"} came to mind.</think>\n{"a": "x", "b": "y"}',
        'The template opened it: {"a": "1"} no.</think>{"a": "x", "b": "y"}',
        '<think>one</think><think>{"a": "1", "b": "2"}</think>{"a": "x", "b": "y"}<think>done',
        '{} {"a": 1, "b": "y"} {"a": "x", "b": "y"} {"a": "later", "b": "later"}',
        '{"a": "x", "b": "y", "confidence": 0.9, "notes": {"c": []}}',
        '{"a": "x", "b": "y",}',
        "{'a': 'x', 'b': 'y'}",
        '{"a": "x", "b": "y" // the end\n}',
        '{"a": "x", "b": "y"',
        '```\n{"a": "x", "b": "y"\n```',
        '{see below} {"a": "x", "b": "y"}',
    ],
)
def test_an_object_is_found_wherever_it_stands(text: str) -> None:
    assert read_object(Answer("id", text, "stop", {}, ""), PAIR) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ('{"a": "x", "b": "y"', "", "no JSON object"),  # nobody said that it was finished
        ('{"a": "x", "b": "the man', "stop", "no JSON object"),
        ('{"a": "x", "b": "y"}', "length", "cut at max_tokens"),
        ('{"a": , "b": "y"}', "stop", "no JSON object"),
        ('{"a": "x"}', "stop", "does not fit the schema: the object: required"),
        ('{"a": "x", "b": null}', "stop", "does not fit the schema: b: type"),
        ('{"a": "x", "b": 5}', "stop", "does not fit the schema: b: type"),
        ('<think>{"a": "x", "b": "y"}', "stop", "no JSON object"),
        ('{"a": "x", "b": "\\ud83d"}', "stop", "half a character"),
        (" \n", "stop", "empty"),
        ("I cannot do this.", "refusal", "refused"),
        ("", "tool_calls", "tool call"),
        ("", "content_filter", "content filter"),
    ],
)
def test_nothing_is_made_up(text: str, finish_reason: str, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_object(Answer("id", text, finish_reason, {}, ""), PAIR)


def test_unknown_keys_are_left_out_at_any_depth_and_values_stay_as_they_are() -> None:
    text = '{"seeds": [{"a": "</think>{\\"a\\"}", "b": "don\'t,\\n\\u2028]", "c": 1}], "d": {"a": "1", "b": "2"}}'
    value = read_object(Answer("id", text, "stop", {}, ""), SEEDS)
    assert value == {"seeds": [{"a": '</think>{"a"}', "b": "don't,\n\u2028]"}]}


@pytest.mark.parametrize(
    ("text", "number"), [('"2"', 2), ("2", 2), ('"two"', None), ('"2.5"', None), ("true", None), ('"-"', None)]
)
def test_a_number_in_quotes_is_read_where_an_integer_is_asked_for(text: str, number: int | None) -> None:
    numbered = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    answer = Answer("id", f'{{"n": {text}}}', "stop", {}, "")
    if number is None:
        with pytest.raises(RowError, match="n: type"):
            read_object(answer, numbered)
    else:
        assert read_object(answer, numbered) == {"n": number}


def test_damage_within_a_list_is_mended_as_a_whole() -> None:
    text = '{"seeds": [{"a": "x", "b": "y"}, {"a": "he said "no" to me", "b": "y",},]}'
    value = read_object(Answer("id", text, "stop", {}, ""), SEEDS)
    assert value == {"seeds": [{"a": "x", "b": "y"}, {"a": 'he said "no" to me', "b": "y"}]}


MEGABYTE = 10**6


GARBAGE = [
    "{",
    " ",
    "[",
    '{"',
    '{"a":',
    "{ ",
    "{}",
    '{"a":1}',
    '"',
    "<think>",
    "</think>",
    '{"a":[',
    '{"a":[1,',
    "\\",
    "1",
]


@pytest.mark.parametrize("unit", [*GARBAGE, '{"a": "x", "b": 1}', '{"a":"', "{'a':", "(", "```"])
@pytest.mark.parametrize("start", ["", '{"a":', '{"a": "x", "b": '])
def test_a_megabyte_of_garbage_is_judged_at_once(unit: str, start: str) -> None:
    for size in (MEGABYTE, 12_000):
        text = start + (unit * (size // len(unit)))
        begin = time.thread_time()  # of this thread alone; work that grows with the square would take hours
        for closed in (text, text + "}" * text.count("{")):
            with contextlib.suppress(RowError):
                read_object(Answer("id", closed, "stop", {}, ""), PAIR)
        assert time.thread_time() - begin < 10.0


def test_what_can_be_read_of_the_answers_on_record_is_read_anew_without_a_request(tmp_path: Path, serve) -> None:
    """As a better reader would find more in them, it is given more to find."""

    def damaged(number: int, handler) -> bool:
        if number == 0 or step_of(server.bodies[number - 1]) != "generation" or len(damaged_calls) == 3:
            return False
        damaged_calls.append(number)
        answer = FakeModel().complete(server.bodies[number - 1])
        content = answer["choices"][0]["message"]["content"]
        reply(handler, 200, completion(content.replace("{", "(")))
        return True

    server, damaged_calls = serve(FakeModel()), []
    server.misbehave = damaged
    before = run(tmp_path, server, "synth.self_correct=off", "generator.concurrency=1")
    request_count = len(server.bodies)
    assert before["rte/rejects.jsonl"].count(b"no JSON object") == 3
    calls = tmp_path / "calls" / "rte.jsonl"
    calls.write_text(calls.read_text().replace('"text": "(', '"text": "{').replace('.\\"}"', '.\\",}"'))
    after = run(tmp_path, server, "synth.self_correct=off", "generator.concurrency=1")
    assert after["rte/rejects.jsonl"] == b"" and len(server.bodies) == request_count
