"""transformers in the process, with a two-layer Llama made from a config."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from targen.config.groups.generation import Generator, Sampling
from targen.generate import generate
from targen.llm.backends.transformers import model as backend
from targen.llm.messages import Answer, Request, make_request
from targen.runtime.errors import UserError
from targen.synthesis.recipes import recipes
from tests.support.commands import command, files, lines, settings
from tests.support.tiny_llama import TEMPLATE, write_tiny_llama

SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["label"],
    "additionalProperties": False,
}

TEXT = {"type": "object", "properties": {"text": {"type": "string", "minLength": 4}}, "required": ["text"]}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


def requests(count: int, schema: dict = SCHEMA) -> list[Request]:
    """Requests of different lengths, sampling, limits and seeds."""
    batch = []
    for number in range(count):
        sampling = Sampling((0.0, 1.0, 0.7)[number % 3], (1.0, 0.9)[number % 2], 8 + 5 * (number % 5))
        text = f"Number {number}. " + "Is it so? " * (number % 7)
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]
        batch.append(make_request(f"c0-{number:04d}", "rte", "generation", "tiny", messages, sampling, schema, number))
    return batch


def answers(tiny: Path, batch: list[Request], **options: object) -> dict[str, Answer]:
    chosen = {"path": str(tiny), "dtype": "float32", "device": "cpu"} | options
    llm = backend.Transformers(Generator(backend="transformers", model="tiny", **chosen), [])
    for request in batch:
        llm.submit(request)
    by_id: dict[str, Answer] = {}
    while len(by_id) < len(batch):
        by_id |= {answer.id: answer for answer in llm.collect() if isinstance(answer, Answer)}
    llm.close()
    return by_id


def test_an_answer_does_not_depend_on_the_batch_that_it_was_made_in(tiny: Path) -> None:
    batch = requests(21, TEXT)
    alone, together = answers(tiny, batch, batch_size=1), answers(tiny, batch, batch_size=8)
    assert alone == together
    assert answers(tiny, list(reversed(batch)), batch_size=5) == alone
    assert len({answer.text for answer in alone.values()}) > 10  # each draws for itself
    for request in batch:
        answer, limit = alone[request.id], request.body["max_tokens"]
        assert answer.finish_reason in ("stop", "length")
        assert answer.usage["completion_tokens"] <= limit
        assert (answer.finish_reason == "length") <= (answer.usage["completion_tokens"] == limit)


def test_the_schema_holds_and_finish_reason_and_usage_are_told(tiny: Path) -> None:
    batch = requests(8)
    by_id = answers(tiny, batch)
    for request in batch:
        answer = by_id[request.id]
        prompt = len("system: Be brief.\nuser: \nassistant: ")
        prompt += len(request.body["messages"][1]["content"])
        assert answer.usage["prompt_tokens"] == prompt  # a token is a byte
        if request.body["max_tokens"] >= len('{"label":"yes"}') + 2:
            assert json.loads(answer.text)["label"] in ("yes", "no")
            assert answer.finish_reason == "stop"
            assert answer.usage["completion_tokens"] == len(answer.text) + 1  # the end counts
        else:
            assert answer.finish_reason == "length"
            assert '{"label":"'.startswith(answer.text[:10])


def test_draws_follow_the_models_probabilities(tiny: Path) -> None:
    """10,000 draws over p = 0.5, 0.3, 0.2: within four standard errors, and top_p = 0.7 leaves the first two, 5 : 3."""
    import torch

    scores = torch.tensor([0.5, 0.3, 0.2]).log()
    for top_p, expected in ((1.0, (0.5, 0.3, 0.2)), (0.7, (0.625, 0.375, 0.0))):
        row = backend._Row({"temperature": 1.0, "top_p": top_p, "seed": 1}, None, torch.device("cpu"))
        tokens = [row.draw(scores) for _ in range(10_000)]
        for token, share in enumerate(expected):
            assert tokens.count(token) / 10_000 == pytest.approx(share, abs=4 * (share * (1 - share) / 10_000) ** 0.5)
    cold = backend._Row({"temperature": 0.5, "top_p": 1.0, "seed": 1}, None, torch.device("cpu"))
    assert [cold.draw(scores) for _ in range(10_000)].count(0) / 10_000 == pytest.approx(0.25 / 0.38, abs=0.02)


def overrides(tiny: Path, run: Path, *changes: str) -> list[str]:
    base = ["generator=transformers", "generator.model=tiny-llama", f"generator.path={tiny}", "generator.dtype=float32"]
    base += ["generator.device=cpu", "task=copa", "synth.size=4", "synth.contexts=2", "synth.max_attempts=1"]
    steps = ("contexts", "instance_seed", "generation", "self_correction")
    base += [f"synth.sampling.{step}.max_tokens=120" for step in steps]
    return [*base, "synth.max_slots=2", f"run.dir={run}", *changes]


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes_at_any_batch_size(tiny: Path, tmp_path: Path) -> None:
    """A random model writes senseless texts, so that the run ends short of rows; its answers are what is looked at."""
    for name, size in (("one", 1), ("eight", 8), ("again", 8)):
        with pytest.raises(UserError, match=r"copa: "):
            generate(settings(*overrides(tiny, tmp_path / name, f"generator.batch_size={size}")))
    assert (tmp_path / "eight" / "calls").is_dir()
    assert files(tmp_path / "eight" / "calls") == files(tmp_path / "again" / "calls")
    calls = [sorted(map(str, lines(tmp_path / name / "calls" / "copa.jsonl"))) for name in ("one", "eight")]
    assert calls[0] == calls[1]
    assert lines(tmp_path / "one" / "calls" / "copa.jsonl")[0]["text"].startswith('{"contexts":[')


def test_without_xgrammar_it_says_once_that_answers_are_read_as_they_are(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "xgrammar", None)
    by_id = answers(tiny, requests(4))
    assert not any(answer.text.startswith('{"label":"') for answer in by_id.values())
    assert caplog.text.count("xgrammar is not installed") == 1


def test_a_schema_that_xgrammar_refuses_is_said_once(tiny: Path, caplog: pytest.LogCaptureFixture) -> None:
    refused = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(("}}, "required": ["a"]}
    assert len(answers(tiny, requests(4, refused))) == 4
    assert caplog.text.count("xgrammar cannot enforce the JSON schema of rte generation") == 1


def test_a_prompt_that_leaves_no_room_is_given_back_unasked(tmp_path: Path) -> None:
    short = write_tiny_llama(tmp_path / "short", positions=64)
    by_id = answers(short, requests(7))
    for request in requests(7):
        body = request.body
        needed = (
            len("system: Be brief.\nuser: \nassistant: ") + len(body["messages"][1]["content"]) + body["max_tokens"]
        )
        assert (by_id[request.id].finish_reason == "context_length") == (needed > 64), needed
    assert {answer.finish_reason for answer in by_id.values()} > {"context_length"}


def test_steps_that_cannot_fit_are_all_named_before_the_first_call(tmp_path: Path) -> None:
    """The shortest prompts of CB and RTE have 700 to 1,400 bytes, and a token is a byte."""
    short = write_tiny_llama(tmp_path / "short", positions=2000)
    done = command(
        "targen.generate",
        *overrides(short, tmp_path / "run", "task=[cb,rte]", "synth.sampling.generation.max_tokens=1500"),
    )
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2, done.stderr
    for line, task in zip(errors, ("cb", "rte"), strict=True):
        assert line.startswith("error: synth.sampling.generation.max_tokens: got 1500, expected at most ")
        assert f"for {task}, whose shortest prompt of this step takes " in line
    assert not any(len(content) for name, content in files(tmp_path / "run").items() if name.startswith("calls"))


def test_every_step_and_label_cell_has_a_shortest_request() -> None:
    from targen.synthesis.shortest_requests import shortest_requests

    for recipe in recipes(settings()):
        shortest = shortest_requests(recipe)
        assert len(shortest) == 4 * len(recipe.task.label_cells)
        assert {request.step for request in shortest} == {"contexts", "instance_seed", "generation", "self_correction"}


REFUSES = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)
DROPS = TEMPLATE.replace(
    "{{ message.role }}", "{% if message.role == 'system' %}{% continue %}{% endif %}{{ message.role }}"
)


@pytest.mark.parametrize("template", [REFUSES, DROPS])
def test_a_template_without_system_messages_gets_the_text_before_the_users(tmp_path: Path, template: str) -> None:
    from transformers import AutoTokenizer

    from targen.llm.chat_template import Chat

    folder = write_tiny_llama(tmp_path, template)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = Chat(Generator(backend="transformers", model="tiny"), tokenizer)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello?"}]
    assert tokenizer.decode(chat.tokens(messages)) == "user: Be brief.\n\nHello?\nassistant: "


def test_what_the_chat_template_takes_is_given_to_it(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from targen.llm.chat_template import Chat

    def rendered(template: str | None = None, **kwargs: object) -> str:
        chosen = Generator(backend="vllm", model="tiny", chat_template=template, chat_template_kwargs=kwargs)
        return tokenizer.decode(Chat(chosen, tokenizer).tokens([{"role": "user", "content": "Hi"}]))

    thinks = TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}<no thought>{% endif %}"
    tokenizer = AutoTokenizer.from_pretrained(write_tiny_llama(tmp_path, thinks))
    assert rendered(enable_thinking=False) == "user: Hi\nassistant: <no thought>"
    assert rendered() == "user: Hi\nassistant: "
    with pytest.raises(
        UserError, match=r"generator.chat_template_kwargs.enable_thinkng: got False, which the chat template"
    ):
        rendered(enable_thinkng=False)
    (tmp_path / "bad.jinja").write_text("{% for %}")
    with pytest.raises(UserError, match=r"generator.chat_template: the template cannot be used"):
        rendered(str(tmp_path / "bad.jinja"))
    (tmp_path / "own.jinja").write_text("{% for message in messages %}[{{ message.content }}]{% endfor %}")
    assert rendered(str(tmp_path / "own.jinja")) == "[Hi]"


MISTAKES: list[tuple[Callable[[Path], list[str]], str]] = [
    (lambda folder: [f"generator.path={folder / 'nowhere'}"], "nowhere cannot be loaded by transformers"),
    (lambda folder: ["generator.device=gpu0"], "cannot be loaded by transformers"),
    (lambda folder: [f"generator.chat_template={folder / 'none.jinja'}"], "generator.chat_template: "),
    (
        lambda folder: [f"generator.path={write_tiny_llama(folder / 'plain', None)}"],
        "has no chat template. Take an instruct model",
    ),
]


@pytest.mark.parametrize(("change", "words"), MISTAKES)
def test_a_mistake_is_one_line(tiny: Path, tmp_path: Path, change: Callable[[Path], list[str]], words: str) -> None:
    with pytest.raises(UserError) as error:
        generate(settings(*overrides(tiny, tmp_path / "run", *change(tmp_path))))
    assert words in str(error.value) and "\n" not in str(error.value)
