"""Servers that stream their replies though nobody asked them to."""

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from targen.llm.completions import answer_from_completion
from targen.llm.streams import completion_of, is_stream
from tests.support.commands import Server, lines, reply
from tests.support.fake_model import FakeModel
from tests.support.faulty_server import run, warnings


def stream(*chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> str:
    return ": OPENROUTER PROCESSING\n\n" + "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in chunks) + end


def piece(text: str | None, finish_reason: str | None = None, **rest: Any) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}]} | rest


def test_a_stream_adds_up_to_a_completion_with_usage_and_finish_reason() -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    second = {"index": 1, "delta": {"content": "another"}, "finish_reason": "stop"}
    text = stream(
        piece(None), piece('{"a":'), {"choices": [second]}, piece(' "é"}', "length"), {"choices": [], "usage": usage}
    )
    answer = answer_from_completion("id", json.loads(completion_of(text)))
    assert (answer.text, answer.finish_reason, answer.usage, answer.model) == ('{"a": "é"}', "length", usage, "m")
    thoughts = {"choices": [{"delta": {"reasoning_content": "Hm"}, "finish_reason": "stop"}]}
    assert answer_from_completion("id", json.loads(completion_of(stream(thoughts)))).finish_reason == "reasoning"
    assert json.loads(completion_of(stream(piece("x"), {"error": {"code": 502}}))) == {"error": {"code": 502}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "data: ",
        "data: {",
        "data: [1]\n\n",
        "data: 5\n\ndata: [DONE]\n\n",
        stream(piece("half"), end=""),
        "[" * 100_000,
    ],
)
def test_what_is_not_a_whole_stream_stays_as_it_is(text: str) -> None:
    assert completion_of(text) == text


def test_a_stream_is_known_by_its_type_or_its_beginning() -> None:
    assert is_stream("Text/Event-Stream; charset=utf-8", "") and is_stream("application/json", "\n data: {}".strip())
    assert not is_stream("application/json", '{"data:": 1}')


def streaming(server: Server, always: bool) -> None:
    """Replies are streams unless the body says `stream: false`; the third breaks off."""

    def misbehave(number: int, handler: BaseHTTPRequestHandler) -> bool:
        body = server.bodies[number - 1] if number else server.probes[-1]
        streams = always or body.pop("stream", None) is not False
        answer = FakeModel().complete({name: value for name, value in body.items() if name != "stream"})
        content = answer["choices"][0]["message"]["content"]
        chunks = [
            piece(content[:20], model="fake"),
            piece(content[20:], "stop", model="fake"),
            {"choices": [], "usage": answer["usage"]},
        ]
        if streams:
            text = stream(*chunks) if number != 3 else stream(chunks[0], end="")
            reply(handler, 200, text, Content_Type="text/event-stream")
        return streams

    server.misbehave = misbehave


@pytest.mark.parametrize("always", [False, True])
def test_streamed_replies_are_read_and_asked_for_in_one_piece(
    tmp_path: Path, serve, good, caplog, always: bool
) -> None:
    server = serve(FakeModel())
    streaming(server, always)
    assert run(tmp_path, server) == good
    (warning,) = warnings(caplog)
    assert 'streams its replies (a reply came as text/event-stream). "stream": false is sent' in warning
    assert all(call["usage"] for call in lines(tmp_path / "calls" / "rte.jsonl"))
    counts = len(server.bodies), len(server.probes)
    streaming(server, always)
    run(tmp_path, server, "synth.size=8")
    assert len(server.probes) == counts[1]
    assert always or len(server.bodies) > counts[0]


def test_a_setting_asks_for_one_piece_from_the_start(tmp_path: Path, serve, caplog) -> None:
    server = serve(FakeModel())
    streaming(server, always=False)
    run(tmp_path, server, "+generator.extra_body.stream=false")
    assert warnings(caplog) == []
