"""What a run will cost: equal to what a run then asks, and nothing is called or written to find it out."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from targen.config.groups.generation import STEPS
from targen.config.settings import Settings
from targen.cost import token_estimate
from targen.cost.expected_answers import requested_length
from targen.cost.plan import Plan, plan
from targen.cost.report import plan_text
from targen.generate import generate
from targen.llm.backends.recorded import Recorded
from targen.llm.call_log import CallLog
from targen.llm.messages import Answer, Request
from targen.runtime.errors import UserError
from targen.synthesis.candidate_store import CandidateStore
from targen.synthesis.engine import Engine
from targen.synthesis.recipes import recipes
from targen.synthesis.synthesis import Synthesis, synthesise
from tests.support.commands import LONGEST, TASKS, command, files, lines, settings
from tests.support.fake_model import FakeModel, served_by

UNEVEN = ("synth.size=14", "synth.contexts=45", "synth.seeds_per_context=3")


def planned(run: Settings, resumed: bool = False) -> Plan:
    sized = [(recipe, run.synth.size_of(recipe.task)) for recipe in recipes(run)]
    return plan(sized, run.generator, run.paths if resumed else None)


def calls(estimate: Plan) -> dict[str, dict[str, int]]:
    return {task: {step: steps[step].calls for step in STEPS} for task, steps in estimate.tasks.items()}


def logged_calls(folder: Path) -> dict[str, dict[str, int]]:
    """Calls of a run per task and step, from its log."""
    files = {path.stem: path for path in sorted((folder / "calls").glob("*.jsonl")) if path.stem in TASKS}
    steps = {task: [line["step"] for line in lines(path)] for task, path in files.items()}
    return {task: {step: names.count(step) for step in STEPS} for task, names in steps.items()}


def server(folder: Path, url: str, *overrides: str) -> Settings:
    base = served_by(url, folder)
    return settings(*base, "generator.concurrency=4", "synth.near_duplicates=null", *overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        UNEVEN,
        (*UNEVEN, "synth.self_correct=off"),
        (*UNEVEN, "synth.self_correct=vote", "synth.votes=3"),
        (*UNEVEN, "synth.spare=0.3"),
        ("synth.size=10", "synth.seeds_per_context=20", "synth.contexts=12"),
    ],
)
def test_the_calls_are_those_that_a_run_makes(tmp_path: Path, serve, overrides: tuple[str, ...]) -> None:
    run = server(tmp_path, serve(FakeModel()).url, *overrides)
    expected = calls(planned(run))
    generate(run)
    assert len(expected) == len(TASKS)
    assert logged_calls(tmp_path) == expected
    assert all(steps["contexts"] == (2 if overrides[0] == UNEVEN[0] else 1) for steps in expected.values())


@pytest.mark.parametrize("method", ["zero_shot", "zero_shot_topic", "attrprompt", "self_instruct"])
def test_the_calls_of_a_method_are_those_that_a_run_makes(tmp_path: Path, serve, method: str) -> None:
    run = server(tmp_path, serve(FakeModel()).url, f"method={method}", "synth.size=14", "synth.contexts=45")
    expected = calls(planned(run))
    generate(run)
    assert logged_calls(tmp_path) == expected


def test_instance_seeds_of_a_file_are_not_asked_for(tmp_path: Path, serve) -> None:
    (tmp_path / "seeds").mkdir()
    premises = [json.dumps({"premise": f"In {1900 + n} the mill burned down."}) for n in range(14)]
    (tmp_path / "seeds" / "rte.jsonl").write_text("\n".join(premises))
    from_file = ["task=rte", *UNEVEN, "synth.seed_source=file", f"synth.seed_dir={tmp_path / 'seeds'}"]
    run = server(tmp_path / "run", serve(FakeModel()).url, *from_file)
    assert calls(planned(run)) == {"rte": {"contexts": 0, "instance_seed": 0, "generation": 14, "self_correction": 14}}
    generate(run)
    assert logged_calls(tmp_path / "run") == calls(planned(run))


def test_the_tokens_are_those_of_the_requests_themselves(tmp_path: Path) -> None:
    run = settings(f"run.dir={tmp_path}", "task=[rte,record,boolq]")  # without a corrected label or a rejected row
    characters: dict[tuple[str, str], list[int]] = {}

    def observe(request: Request, answer: Answer, is_new: bool) -> None:
        messages = request.body["messages"]
        counts = characters.setdefault((request.task, request.step), [0, 0])
        counts[0] += len("\n".join(message["content"] for message in messages))
        counts[1] += len(answer.text)

    log = CallLog(run.paths.calls, run.tasks)
    states = [Synthesis(recipe, 24, CandidateStore(tmp_path)) for recipe in recipes(run)]
    Engine(Recorded(None, list(run.tasks)), log, observe).run([synthesise(state) for state in states])
    log.close()
    estimate = planned(run)
    assert len(characters) == 12
    for (task, step), (prompt, completion) in characters.items():
        exact = step in (
            "contexts",
            "generation",
            "self_correction",
        )  # contexts stand in prompts of step 2, not all equally often
        assert estimate.tasks[task][step].prompt_tokens == pytest.approx(prompt / 4, abs=0.51, rel=0 if exact else 0.02)
        assert estimate.tasks[task][step].completion_tokens == pytest.approx(completion / 4, rel=0.03)


def test_longer_prompts_and_more_seeds_a_call_make_it_dearer() -> None:
    base = planned(settings("task=copa")).tasks["copa"]
    longer = planned(settings("task=copa", "method.system='" + "x" * 4000 + "'", "seed=5", "generator.model=other"))
    grown = 1000 - len(settings().method.system) / 4
    for step, entry in longer.tasks["copa"].items():
        assert entry.calls == base[step].calls
        assert entry.prompt_tokens == pytest.approx(base[step].prompt_tokens + entry.calls * grown, rel=0.02)
        assert entry.completion_tokens == pytest.approx(base[step].completion_tokens, rel=0.02)
    fewer = planned(settings("task=copa", "synth.seeds_per_context=12", "synth.contexts=4")).tasks["copa"][
        "instance_seed"
    ]
    assert fewer.calls == 4  # one for each label cell
    assert fewer.completion_tokens == pytest.approx(base["instance_seed"].completion_tokens, rel=0.2)


def test_a_task_that_the_recording_does_not_fit_is_planned_and_said(tmp_path: Path, serve) -> None:
    run = server(
        tmp_path, serve(FakeModel()).url, "task=[rte,wsc]", *UNEVEN, "+tasks.rte.instance_seed.fields.source=its source"
    )
    estimate = planned(run)
    (note,) = [note for note in estimate.notes if note.startswith("rte: nothing is recorded that fits")]
    assert "explanation one or two sentences" in note
    assert not any(note.startswith("wsc") for note in estimate.notes)
    assert calls(estimate)["rte"] == calls(planned(server(tmp_path, "http://x", "task=rte", *UNEVEN)))["rte"]
    assert all(entry.completion_tokens > 10 * entry.calls for entry in estimate.tasks["rte"].values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Write a review in two to four sentences.", 3 * 17),
        ("the product, in two to six words", 4),
        ("one sentence of 12 to 20 words", 16),
        ("two or three sentences, 40 to 60 words together", 50),
        ("about 50 words", 50),
        ("100-150 words", 125),
        ("a few short sentences", 3 * 17),
        ("one plain declarative sentence", 17),
        ("at most 280 characters", 280 / 5.5),
        ("a paragraph", 80),
        ("the words of the song", None),
        ("one of the words", None),
        ("the message", None),
    ],
)
def test_lengths_are_read_where_a_prompt_names_them(text: str, words: float | None) -> None:
    length = requested_length(text)
    assert (length and length.words) == (words and pytest.approx(words))


@pytest.mark.parametrize("method", ["targen", "zero_shot"])
def test_answers_without_a_recording_are_as_long_as_the_prompts_ask_for(method: str, monkeypatch) -> None:
    """The eight tasks as if they were new, beside what their recorded answers take: near, and rather too dear."""
    run = settings(f"method={method}", "synth.size=120", "synth.self_correct=paper")
    recorded = planned(run)
    monkeypatch.setattr(token_estimate, "_recorded_samples", lambda recipe: [])
    unrecorded = planned(run)
    assert calls(unrecorded) == calls(recorded)
    sums = {"prompt": [0, 0], "completion": [0, 0]}
    for task in TASKS:
        for number, estimate in enumerate((recorded, unrecorded)):
            assert all(entry.completion_tokens for entry in estimate.tasks[task].values() if entry.calls)
            sums["prompt"][number] += sum(entry.prompt_tokens for entry in estimate.tasks[task].values())
            sums["completion"][number] += sum(entry.completion_tokens for entry in estimate.tasks[task].values())
    assert 0.9 < sums["prompt"][1] / sums["prompt"][0] < 1.1
    assert 1.2 < sums["completion"][1] / sums["completion"][0] < 2


def test_answers_that_would_be_cut_are_warned_of() -> None:
    run = settings("task=record", "synth.sampling.instance_seed.max_tokens=100")
    assert "WARNING, an answer of instance_seed takes about" in plan_text(run, recipes(run))
    assert "WARNING" not in plan_text(settings("task=record"), recipes(settings("task=record")))


def test_tokens_are_counted_with_the_tokenizer_of_a_local_model(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import CharDelimiterSplit

    tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = CharDelimiterSplit("e")
    tokenizer.enable_truncation(8)  # as files of embedding models have it: neither may be heeded
    tokenizer.enable_padding(length=9999)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    run = settings("task=copa", "generator=vllm", "generator.model=m", f"generator.path={tmp_path}", "plan=true")
    by_letters, by_length = planned(run), planned(settings("task=copa"))
    assert f"Tokens are counted with {tmp_path / 'tokenizer.json'}." in by_letters.notes[0]
    assert "estimated at 4 characters" in by_length.notes[0]
    ratio = by_letters.tasks["copa"]["generation"].prompt_tokens / by_length.tasks["copa"]["generation"].prompt_tokens
    assert 0.3 < ratio < 0.6  # about one letter in ten is an e, and a token here is four letters


# --- over an existing run ---


def test_what_is_answered_is_subtracted(tmp_path: Path, serve) -> None:
    run = server(tmp_path, serve(FakeModel()).url, *UNEVEN)
    generate(run)
    left = calls(planned(run, resumed=True))
    assert {count for steps in left.values() for count in steps.values()} == {0}
    larger = server(tmp_path, "http://127.0.0.1:9", *UNEVEN, "synth.size=40")
    left, total, answered = calls(planned(larger, resumed=True)), calls(planned(larger)), logged_calls(tmp_path)
    for task in TASKS:
        assert left[task] == {step: total[task][step] - answered[task][step] for step in STEPS}
    (tmp_path / "synthetic" / "wic" / "stats.json").unlink()
    log = tmp_path / "calls" / "wic.jsonl"
    first_calls = log.read_bytes().splitlines(keepends=True)[:25]
    log.write_bytes(b"".join(first_calls) + b'{"id": "torn')
    torn = calls(planned(run, resumed=True))["wic"]
    assert sum(torn.values()) == sum(calls(planned(run))["wic"].values()) - 25


def test_the_lengths_so_far_are_used_for_what_is_left(tmp_path: Path, serve) -> None:
    overrides = ("task=cb", *UNEVEN, "method.generation='Write. {instruction} {constraint} {format}'")
    generate(server(tmp_path, serve(FakeModel()).url, *overrides))
    larger = server(tmp_path, "http://127.0.0.1:9", *overrides, "synth.size=400")
    stats = json.loads((tmp_path / "synthetic" / "cb" / "stats.json").read_text())["calls"]
    estimate = planned(larger, resumed=True)
    assert any("take as many tokens as the calls answered so far" in note for note in estimate.notes)
    for step in ("instance_seed", "generation", "self_correction"):
        for tokens in ("prompt_tokens", "completion_tokens"):
            mean = stats[step][tokens] / stats[step]["calls"]
            entry = estimate.tasks["cb"][step]
            assert getattr(entry, tokens) == pytest.approx(mean * entry.calls, abs=1)


def test_the_attempts_so_far_are_used_for_what_is_left(tmp_path: Path, serve) -> None:
    generate(server(tmp_path, serve(FakeModel(error_rate=0.3)).url, "task=rte", *UNEVEN, "synth.max_attempts=60"))
    larger = server(tmp_path, "http://127.0.0.1:9", "task=rte", *UNEVEN, "synth.max_attempts=60", "synth.size=114")
    estimate = planned(larger, resumed=True)
    (note,) = [note for note in estimate.notes if "attempts an instance" in note]
    rate = float(re.search(r"([\d.]+) attempts", note)[1])
    assert rate == pytest.approx(1 / 0.7**3, rel=0.5)
    assert estimate.tasks["rte"]["generation"].calls == pytest.approx(100 * rate, abs=2)


# --- the command ---


PAPER = ("+experiment=superglue_flant5", "plan=true")
PRICES = ("price.prompt=0.5", "price.completion=1.5", "price.tokens_per_second=500", "price.currency=EUR")


def test_the_command_prints_a_table_and_does_nothing_else(tmp_path: Path) -> None:
    done = command("targen.generate", *PAPER, *PRICES, f"run.dir={tmp_path / 'run'}")
    assert (done.returncode, files(tmp_path)) == (0, {})
    table = done.stdout.splitlines()
    assert table[2].split() == ["task", "step", "calls", "prompt", "tokens", "completion", "tokens", "time", "EUR"]
    (total,) = [line.replace(",", "").split() for line in table if line.startswith("total")]
    count, prompt, completion = map(int, total[1:4])
    slots = 356 // 2 + 9427 + 250 + 400 + 10000 + 2490 + 5428 + 554  # AX-g: pairs
    assert count > 2 * slots
    assert float(total[-1]) == pytest.approx((prompt * 0.5 + completion * 1.5) / 1e6, abs=0.01)
    assert total[4:6] == [str(round(completion / 500 / 60) // 60), "h"]
    per_step = table[[line.startswith("all ") for line in table].index(True) :]
    for number, step in ((2, "generation"), (3, "self_correction")):
        assert per_step[number].split()[:2] == [step, f"{slots:,}"]
    assert "Assumes that no attempt is rejected" in done.stdout
    plain = command("targen.generate", "plan=true", "task=cb", f"run.dir={tmp_path / 'run'}")
    assert plain.returncode == 0
    assert "USD" not in plain.stdout and "time" not in plain.stdout and "\nall " not in plain.stdout
    assert files(tmp_path) == {}


@pytest.mark.slow
def test_a_run_is_planned_also_where_its_model_and_data_are_not(tmp_path: Path) -> None:
    run = [*PAPER, *PRICES, f"run.dir={tmp_path / 'run'}"]
    done = command("targen.run", *run)
    assert (done.returncode, files(tmp_path)) == (0, {})
    assert done.stdout.startswith(command("targen.generate", *run).stdout)
    assert "wic-synthetic-s2: to train once its rows are generated, 5428 rows" in done.stdout
    assert "\nmissing: model.path: google/flan-t5-large cannot be loaded" in done.stdout


def test_a_plan_needs_no_gpu_library() -> None:
    script = (
        "import sys; sys.argv[1:] = ['plan=true', 'generator=openai', 'generator.model=m']\n"
        "import runpy\n"
        "try: runpy.run_module('targen.generate', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'vllm', 'datasets', 'aiohttp'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    assert "plan of the generate phase" in done.stdout


# --- after a run ---


def test_planned_and_actual_stand_side_by_side_after_a_run(tmp_path: Path, serve, caplog) -> None:
    caplog.set_level("INFO")
    url, prices = serve(FakeModel()).url, ("price.prompt=2", "price.completion=10")
    generate(server(tmp_path, url, "task=[rte,copa]", *UNEVEN, *prices))
    cost = json.loads((tmp_path / "cost.json").read_text())
    assert list(cost["tasks"]) == ["copa", "rte"]
    for task, steps in cost["tasks"].items():
        stats = json.loads((tmp_path / "synthetic" / task / "stats.json").read_text())["calls"]
        for step, counts in steps.items():
            assert counts["actual"] == stats[step]
            assert counts["planned"]["calls"] == counts["actual"]["calls"]
    actual = cost["total"]["actual"]
    assert actual["calls"] == sum(sum(steps.values()) for steps in logged_calls(tmp_path).values())
    assert actual["money"] == pytest.approx(
        (actual["prompt_tokens"] * 2 + actual["completion_tokens"] * 10) / 1e6, abs=1e-6
    )
    (line,) = [line for line in caplog.text.splitlines() if line.startswith("total ")]
    assert line.split()[1:3] == [str(actual["calls"])] * 2
    before = (tmp_path / "cost.json").read_bytes()
    caplog.clear()
    generate(server(tmp_path, url, "task=[rte,copa]", *UNEVEN, *prices))
    assert "cost: no new calls were made" in caplog.text
    assert (tmp_path / "cost.json").read_bytes() == before
    generate(server(tmp_path, url, "task=wsc", *UNEVEN, *prices))
    grown = json.loads((tmp_path / "cost.json").read_text())
    assert list(grown["tasks"]) == ["copa", "rte", "wsc"]
    assert grown["tasks"]["rte"] == cost["tasks"]["rte"]


def test_tokens_that_were_not_reported_are_null(tmp_path: Path) -> None:
    generate(settings("task=rte", f"run.dir={tmp_path}", "price.prompt=1", "price.completion=1"))
    total = json.loads((tmp_path / "cost.json").read_text())["total"]
    assert total["actual"] == {"calls": 74, "prompt_tokens": None, "completion_tokens": None, "money": None}
    assert total["planned"]["calls"] == 74 and total["planned"]["money"] > 0


def test_demonstrations_that_are_on_the_hub_are_planned_without_network(caplog) -> None:
    run = settings("task=[cb,axg,copa]", "method=few_shot", "plan=true", "data.fallback=null", "synth.size=24")
    estimate = planned(run)
    assert {task: steps["generation"].calls for task, steps in estimate.tasks.items()} == {
        "cb": 24,
        "axg": 12,
        "copa": 24,
    }
    zero = planned(settings("task=[cb,axg,copa]", "method=zero_shot", "synth.size=24"))
    for task, steps in estimate.tasks.items():
        assert steps["generation"].prompt_tokens > zero.tasks[task]["generation"].prompt_tokens + 24 * 50
    assert "plan: missing: the train split of RTE" in caplog.text  # of AX-g's demonstrations
    with pytest.raises(UserError, match=r"data.hub"):
        recipes(replace(run, plan=False))
