"""Generation through public doors: balance, batch files, resume, growth, refusals."""

import json
import math
import multiprocessing
import platform
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest

from targen.config.run_directory import open_run
from targen.generate import generate
from targen.llm.backends.batch import AwaitingAnswers
from targen.runtime.errors import UserError
from targen.runtime.randomness import rng
from targen.runtime.run_lock import locked
from targen.synthesis.slots import Slot, quotas, seed_groups, seed_place
from tests.support.commands import LONGEST, TASKS, command, files, lines, reply, settings
from tests.support.fake_model import FakeModel

SMALL = ("synth.contexts=4", "synth.seeds_per_context=2", "synth.size=12")


def batch_settings(folder: Path, *overrides: str):
    return settings("generator=batch", "generator.model=fake", f"run.dir={folder}", *SMALL, *overrides)


def respond(folder: Path, model: FakeModel, keep: float = 1.0, rng_seed: int = 0) -> None:
    """Answers the request file as a provider would: any order, a part of it, some lines errors or doubled."""
    chance = random.Random(rng_seed)
    responses = []
    for request in lines(folder / "requests.jsonl"):
        body = {"custom_id": request["custom_id"], "error": None}
        response = body | {"response": {"status_code": 200, "body": model.complete(request["body"])}}
        if chance.random() < keep:
            responses += [response] * (1 + (chance.random() < 0.1))
        elif chance.random() < 0.5:
            responses.append(body | {"response": None, "error": {"code": "server_error"}})
        else:
            responses.append(body | {"response": {"status_code": 500, "body": {}}})
    chance.shuffle(responses)
    text = "".join(json.dumps(response) + "\n" for response in responses)
    (folder / "responses.jsonl").write_text(text, encoding="utf-8")


def by_batch(folder: Path, model: FakeModel, *overrides: str, keep: float = 1.0) -> int:
    """Runs the batch loop to its end; the number of request files."""
    for number in range(60):
        try:
            generate(batch_settings(folder, *overrides))
        except AwaitingAnswers:
            respond(folder, model, keep, number)
        else:
            return number
    raise AssertionError("the batch loop does not end")


@pytest.mark.parametrize("correct", ["off", "paper", "drop"])
def test_labels_are_balanced_exactly_whatever_the_model_does(tmp_path: Path, serve, correct: str) -> None:
    url = serve(FakeModel(error_rate=0.3, flip_rate=0.6)).url
    generate(
        settings(
            *server_overrides(
                tmp_path, url, f"synth.self_correct={correct}", "synth.max_attempts=60", "synth.max_slots=60"
            )
        )
    )
    for name in TASKS:
        stats = json.loads((tmp_path / "synthetic" / name / "stats.json").read_text())
        rows = lines(tmp_path / "synthetic" / name / "train.jsonl")
        task = settings().tasks[name]
        assert len(rows) == stats["rows"] == 12
        if task.labels:
            assert set(stats["rows_per_label"].values()) == {12 // len(task.labels)}
            assert len(stats["rows_per_label"]) == len(task.labels)
        stories = lines(tmp_path / "synthetic" / name / "provenance.jsonl")
        flips = sum(story["label_before"] != story["label_after"] for story in stories)
        assert flips == 0 if correct != "paper" else flips <= stats["flips"]
        if task.labels:
            assert [story["label_after"] for story in stories] == [task.label_of(row) for row in rows]
    rejects = [line for name in TASKS for line in lines(tmp_path / "synthetic" / name / "rejects.jsonl")]
    assert {"instance_seed", "generation"} <= {reject["step"] for reject in rejects}
    assert all(reject["reason"] and reject["text"] for reject in rejects)
    assert all((reject["slot"] is None) == (reject["step"] == "contexts") for reject in rejects)
    of_slots = [reject for reject in rejects if reject["slot"] is not None]
    assert all(reject["context"] for reject in of_slots)
    assert all(reject["instance_seed"] for reject in of_slots if reject["step"] != "instance_seed")
    assert {reject["label"] for reject in rejects} > {None, "entailment"}  # that was asked for; ReCoRD has none


def test_a_model_that_errs_and_leans_ends_balanced_with_the_settings_as_they_come(tmp_path: Path, serve) -> None:
    """It errs in 30 % of its answers, and 90 % of its corrections give the first label."""
    url = serve(FakeModel(error_rate=0.3, flip_rate=0.9)).url
    generate(settings(*server_overrides(tmp_path, url, "task=[axg,cb,copa]", "synth.size=24")))
    for name in ("axg", "cb", "copa"):
        cells = json.loads((tmp_path / "synthetic" / name / "stats.json").read_text())["instances_per_label_cell"]
        assert set(cells.values()) == {24 // settings().tasks[name].rows_per_slot // len(cells)}


def test_copa_positions_are_balanced_within_cause_and_effect(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(), "task=copa")
    rows = lines(tmp_path / "synthetic" / "copa" / "train.jsonl")
    assert Counter((row["question"], row["label"]) for row in rows) == dict.fromkeys(
        [("cause", 0), ("cause", 1), ("effect", 0), ("effect", 1)], 3
    )
    assert [row["label"] for row in rows] != sorted(row["label"] for row in rows)


def test_batch_files_may_come_back_in_pieces(tmp_path: Path) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    whole = by_batch(tmp_path / "whole", model, "task=[axg,copa,record]")
    parts = by_batch(tmp_path / "parts", model, "task=[axg,copa,record]", keep=0.6)
    assert parts > whole
    assert files(tmp_path / "parts" / "synthetic") == files(tmp_path / "whole" / "synthetic")


def test_the_request_file_is_the_same_to_the_byte_and_of_the_openai_form(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with pytest.raises(AwaitingAnswers, match=r"8 requests wait for answers .*run-batch"):
            generate(batch_settings(tmp_path / name))
    text = (tmp_path / "one" / "requests.jsonl").read_bytes()
    assert text == (tmp_path / "two" / "requests.jsonl").read_bytes()
    for line in lines(tmp_path / "one" / "requests.jsonl"):
        assert list(line) == ["custom_id", "method", "url", "body"]
        assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
        assert len(line["custom_id"]) <= 64
        assert line["body"]["response_format"]["type"] == "json_schema"


def test_what_one_file_may_not_hold_goes_on_in_further_files(tmp_path: Path) -> None:
    def names(stem: str) -> list[str]:
        return sorted(path.name for path in (tmp_path / "many").glob(f"{stem}*.jsonl"))

    def start(name: str, *overrides: str) -> None:
        generate(batch_settings(tmp_path / name, "task=[cb,copa,rte]", *overrides))

    with pytest.raises(AwaitingAnswers):
        start("one")
    whole = (tmp_path / "one" / "requests.jsonl").read_bytes()
    sizes = [len(line) for line in whole.splitlines(keepends=True)]
    assert len(sizes) == 3
    for limits, files_ in (
        (["generator.max_lines=1"], ["requests-2.jsonl", "requests-3.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sizes[0] + sizes[1]}"], ["requests-2.jsonl", "requests.jsonl"]),
        ([f"generator.max_bytes={sum(sizes) - 1}", "generator.max_lines=2"], ["requests-2.jsonl", "requests.jsonl"]),
    ):
        with pytest.raises(AwaitingAnswers, match=rf"3 requests wait .*requests.jsonl to requests-{len(files_)}.jsonl"):
            start("many", *limits)
        assert names("requests") == files_  # those of the round before, written anew, are gone
        parts = [tmp_path / "many" / name for name in [files_[-1], *files_[:-1]]]
        assert b"".join(path.read_bytes() for path in parts) == whole

    written = files(tmp_path / "many")
    with pytest.raises(UserError, match=rf"generator.max_bytes: got 99, expected at least {sizes[0]}, .* request cb-"):
        start("many", "generator.max_bytes=99")
    assert files(tmp_path / "many") == written


def test_answers_come_from_every_response_file_and_unanswered_request_files_stay(tmp_path: Path) -> None:
    model = FakeModel(flip_rate=0.2)
    rounds = by_batch(tmp_path / "one", model, "task=[copa,rte]")
    for _ in range(rounds):
        with pytest.raises(AwaitingAnswers):
            generate(batch_settings(tmp_path / "many", "task=[copa,rte]", "generator.max_lines=2"))
        for old in (tmp_path / "many").glob("responses*"):
            old.unlink()
        for path in (tmp_path / "many").glob("requests*.jsonl"):
            answers = [
                {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": model.complete(line["body"])}}
                for line in lines(path)
            ]
            text = "".join(json.dumps(answer) + "\n" for answer in answers)
            path.with_name(path.name.replace("requests", "responses")).write_text(text)
    generate(batch_settings(tmp_path / "many", "task=[copa,rte]", "generator.max_lines=2"))
    assert files(tmp_path / "many" / "synthetic") == files(tmp_path / "one" / "synthetic")

    with pytest.raises(AwaitingAnswers):
        generate(batch_settings(tmp_path / "left", "task=[copa,rte]", "generator.max_lines=1"))
    with pytest.raises(AwaitingAnswers):  # rte is left out: its request is neither answered nor written anew
        generate(batch_settings(tmp_path / "left", "task=copa", "generator.max_lines=1"))
    kept = lines(tmp_path / "left" / "requests-2.jsonl")
    assert [line["custom_id"].split("-")[0] for line in kept] == ["rte"]


def test_responses_of_another_run_are_refused(tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("two", 1)):
        with pytest.raises(AwaitingAnswers):
            generate(batch_settings(tmp_path / name, f"seed={seed}"))
    respond(tmp_path / "one", FakeModel())
    (tmp_path / "one" / "responses.jsonl").rename(tmp_path / "two" / "responses.jsonl")
    with pytest.raises(UserError, match=r"responses.jsonl:1: got the custom_id .* another run"):
        generate(batch_settings(tmp_path / "two", "seed=1"))
    assert not (tmp_path / "two" / "synthetic").exists()


def test_growth_asks_only_for_what_is_new(tmp_path: Path) -> None:
    model = FakeModel(flip_rate=0.2)
    by_batch(tmp_path, model, "task=[rte,cb]")
    before = {call["id"] for name in ("rte", "cb") for call in lines(tmp_path / "calls" / f"{name}.jsonl")}
    by_batch(tmp_path, model, "task=[rte,cb]", "synth.size=24")
    calls = [call["id"] for name in ("rte", "cb") for call in lines(tmp_path / "calls" / f"{name}.jsonl")]
    assert len(calls) == len(set(calls)) and before < set(calls)
    by_batch(tmp_path / "fresh", model, "task=[rte,cb]", "synth.size=24")
    assert files(tmp_path / "synthetic") == files(tmp_path / "fresh" / "synthetic")


def test_a_model_that_cannot_do_it_ends_with_the_label_and_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"rte: got 0 instances of label not_entailment, expected 6.*label flipped.*max_slots"
    ):
        by_batch(tmp_path, FakeModel(flip_rate=1.0), "task=rte")
    with pytest.raises(UserError, match="got no readable context"):
        by_batch(tmp_path / "mute", FakeModel(error_rate=1.0), "task=rte")


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("seed=7", "seed was 0 and is 7"),
        ("generator.model=other", "generator.model was 'fake' and is 'other'"),
        ("synth.sampling.generation.temperature=0.5", "synth.sampling.generation.temperature was 1.0 and is 0.5"),
        ("tasks.rte.generation.instruction='Now: {premise}'", "tasks.rte.generation.instruction was"),
        ("synth.contexts=5", "synth.contexts was 4 and is 5"),
    ],
)
def test_a_changed_setting_over_an_existing_run_is_refused_by_name(tmp_path: Path, override: str, named: str) -> None:
    base = ["generator=batch", "generator.model=fake", f"run.dir={tmp_path}", *SMALL, "task=rte"]
    assert command("targen.generate", *base).returncode == 0
    before = files(tmp_path)
    refused = command("targen.generate", *base, override)
    assert refused.returncode == 2
    assert named in refused.stderr and refused.stderr.count("\n") == 1
    assert files(tmp_path) == before


def test_a_changed_prompt_is_found_also_by_the_calls_themselves(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(), "task=rte")
    with pytest.raises(
        UserError, match=r"rte-contexts-r0-.* the prompt, the model, the sampling or the schema has changed"
    ):
        generate(batch_settings(tmp_path, "task=rte", "seed=7"))


def test_a_request_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"got the request rte-instance_seed-g0-00013-[0-9a-f]{12}, which .*rte.jsonl does not answer"
    ):
        generate(settings("task=rte", "synth.size=48", f"run.dir={tmp_path}"))


def test_a_torn_last_line_is_cut_off_and_redone(tmp_path: Path) -> None:
    generate(settings("task=[rte,wsc]", f"run.dir={tmp_path / 'whole'}"))
    whole_line = (tmp_path / "whole" / "calls" / "rte.jsonl").read_bytes().splitlines()[30]
    for tear in (b'{"id": "rte-contexts', whole_line, b'{"id": "rte-con\n', b"\x00\x00\x00"):
        torn = tmp_path / f"torn{len(tear)}"
        generate(settings("task=[rte,wsc]", f"run.dir={torn}"))
        path = torn / "calls" / "rte.jsonl"
        kept = b"".join(path.read_bytes().splitlines(keepends=True)[:30])
        path.write_bytes(kept + tear)
        generate(settings("task=[rte,wsc]", f"run.dir={torn}"))
        assert files(torn / "synthetic") == files(tmp_path / "whole" / "synthetic")
        assert sorted(path.read_bytes().splitlines()) == sorted(
            (tmp_path / "whole" / "calls" / "rte.jsonl").read_bytes().splitlines()
        )


def test_damage_inside_the_log_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    generate(settings("task=rte", f"run.dir={tmp_path}"))
    path = tmp_path / "calls" / "rte.jsonl"
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*content[:4], content[4][:25] + b"\n", *content[5:]]))
    with pytest.raises(UserError, match=rf"{path}:5: not a JSON object"):
        generate(settings("task=rte", f"run.dir={tmp_path}"))


class Silent(FakeModel):
    """Cannot do one task."""

    def _answer(self, body, rng):
        found = super()._answer(body, rng)
        return {} if "probable" in found else found


def test_a_task_that_cannot_be_made_keeps_no_other_from_it(tmp_path: Path, serve) -> None:
    server = serve(Silent())
    overrides = ("task=[cb,copa,rte]", "synth.max_attempts=2", "synth.max_slots=2")
    asked = []
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"^copa: got 0 instances of label choice1.*generation: answer does not fit"
        ) as error:
            generate(settings(*server_overrides(tmp_path, server.url, *overrides)))
        assert str(error.value).count("\n") == 0
        asked.append(len(server.bodies))
    assert asked[0] == asked[1]
    assert sorted(path.name for path in (tmp_path / "synthetic").iterdir()) == ["README.md", "cb", "rte"]
    assert len(lines(tmp_path / "synthetic" / "cb" / "train.jsonl")) == 12


def _hold(folder: Path, barrier, found) -> None:
    barrier.wait(LONGEST)
    try:
        with locked(folder):
            found.put("held")
            barrier.wait(LONGEST)  # until all have tried
    except UserError:
        found.put("refused")
        barrier.wait(LONGEST)


def test_of_many_that_find_a_dead_process_lock_one_takes_it(tmp_path: Path) -> None:
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "run.lock").write_text(json.dumps({"host": platform.node(), "pid": 2**22 + 1, "started": 1.0}))
        barrier, found = multiprocessing.Barrier(6), multiprocessing.Queue()
        processes = [multiprocessing.Process(target=_hold, args=(folder, barrier, found)) for _ in range(6)]
        for process in processes:
            process.start()
        assert Counter(found.get() for _ in processes) == {"held": 1, "refused": 5}
        for process in processes:
            process.join()
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("restart", "held"), [("1", True), ("0", False)])
def test_a_requeued_job_takes_over_what_it_held_on_another_node(
    tmp_path: Path, monkeypatch, restart: str, held: bool
) -> None:
    holder = {"host": "another-node", "pid": 1, "started": 1.0, "slurm_job": "77", "slurm_restart": 0}
    (tmp_path / "run.lock").write_text(json.dumps(holder))
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restart)
    with nullcontext() if held else pytest.raises(UserError, match="process 1 on another-node"), locked(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["slurm_restart"] == 1
    assert (tmp_path / "run.lock").exists() != held


def test_templates_are_checked_before_the_first_call(tmp_path: Path) -> None:
    changed = settings(
        "task=[rte,cb]", f"run.dir={tmp_path}",
        "tasks.rte.generation.instruction='Premise: {premisse}'", "tasks.cb.instance_seed.instruction='Open {brace'",
    )  # fmt: skip
    with pytest.raises(UserError) as error:
        generate(changed)
    assert "tasks.rte.generation.instruction: got the field {premisse}" in str(error.value)
    assert "tasks.cb.instance_seed.instruction: expected '}' before end of string" in str(error.value)
    assert not (tmp_path / "calls").exists()


def test_instance_seeds_from_a_file(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    premises = [f"In {1900 + n} the mill by the river burned down." for n in range(12)]
    (seeds / "rte.jsonl").write_text("".join(json.dumps({"premise": text}) + "\n" for text in premises))
    by_batch(tmp_path / "run", FakeModel(), "task=rte", "synth.seed_source=file", f"synth.seed_dir={seeds}")
    rows = lines(tmp_path / "run" / "synthetic" / "rte" / "train.jsonl")
    assert sorted(row["premise"] for row in rows) == premises
    assert all("instance_seed" not in call["step"] for call in lines(tmp_path / "run" / "calls" / "rte.jsonl"))


def test_quotas_and_seed_places_do_not_depend_on_the_size() -> None:
    task = settings().tasks["cb"]
    assert quotas(task.label_cells, 14) == [2, 2, *[1] * 10]
    (group, *others) = seed_groups(task.label_cells, frozenset({"environment"}))
    assert (len(others), group.cells) == (3, (0, 1, 2))
    places = {seed_place(0, "cb", group, Slot(index, cell), 5) for index in range(10) for cell in group.cells}
    assert places == {(call, position) for call in range(6) for position in range(5)}
    assert rng(0, "a").random() == rng(0, "a").random() != rng(0, "b").random()


# --- a server ---


def server_overrides(folder: Path, url: str, *overrides: str) -> list[str]:
    base = ["generator=openai", "generator.model=fake", f"generator.base_url={url}", f"run.dir={folder}", *SMALL]
    return [*base, *overrides]


def test_a_server_gives_the_same_bytes_at_any_concurrency_and_as_batch_files(tmp_path: Path, serve) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    for concurrency in (1, 40):
        generate(
            settings(
                *server_overrides(tmp_path / str(concurrency), serve(model).url, f"generator.concurrency={concurrency}")
            )
        )
    by_batch(tmp_path / "batch", model)
    assert (
        files(tmp_path / "1" / "synthetic")
        == files(tmp_path / "40" / "synthetic")
        == files(tmp_path / "batch" / "synthetic")
    )


def test_a_faulty_server_costs_retries_and_no_answer(tmp_path: Path, serve) -> None:
    tried: Counter[str] = Counter()

    def faults(number: int, handler) -> bool:
        """Each request has its own two faults at most, whatever the order in which they come."""
        body = json.dumps(faulty.bodies[number - 1] if number else faulty.probes[0], sort_keys=True)
        tried[body] += 1  # of one request there is one try at a time
        kind = (zlib.crc32(body.encode()) + 2 * tried[body]) % 11 if tried[body] <= 2 else 0
        if kind == 1:
            reply(handler, 429, '{"error": {"message": "slow down"}}', Retry_After="0")
        elif kind == 3:
            reply(handler, 503, "<html>busy</html>", Retry_After="0")
        elif kind == 5:
            reply(handler, 200, "<html>a login page</html>")
        elif kind == 7:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        return kind in (1, 3, 5, 7)

    faulty = serve(FakeModel())
    faulty.misbehave = faults
    generate(
        settings(*server_overrides(tmp_path / "faulty", faulty.url, "task=[rte,copa]", "generator.retry_pause=0.01"))
    )
    assert {count for count in tried.values()} == {1, 2, 3}
    generate(settings(*server_overrides(tmp_path / "good", serve(FakeModel()).url, "task=[rte,copa]")))
    assert files(tmp_path / "faulty" / "synthetic") == files(tmp_path / "good" / "synthetic")


def test_an_end_without_answer_keeps_what_was_answered(tmp_path: Path, serve) -> None:
    broken = serve(FakeModel())
    broken.misbehave = lambda number, handler: number > 10 and (reply(handler, 500, "no", Retry_After="0") or True)
    overrides = ("task=rte", "generator.max_retries=2", "generator.retry_pause=0.01")
    with pytest.raises(UserError, match=r"calls got no answer .*status 500: no, after 2 retries. 10 answers are saved"):
        generate(settings(*server_overrides(tmp_path, broken.url, *overrides)))
    good = serve(FakeModel())
    generate(settings(*server_overrides(tmp_path, good.url, "task=rte")))
    calls = lines(tmp_path / "calls" / "rte.jsonl")
    assert len(good.bodies) == len(calls) - 10


def test_a_refused_key_ends_the_run_and_the_key_is_nowhere(tmp_path: Path, serve) -> None:
    closed = serve(FakeModel())
    closed.misbehave = lambda number, handler: reply(handler, 401, '{"error": "bad key sk-very-secret"}') or True
    refused = command("targen.generate", *server_overrides(tmp_path, closed.url), OPENAI_API_KEY="sk-very-secret")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert "status 401" in refused.stderr and "OPENAI_API_KEY" in refused.stderr
    assert closed.keys == {"Bearer sk-very-secret"}
    assert "sk-very-secret" not in refused.stdout + refused.stderr
    assert not any(b"sk-very-secret" in content for content in files(tmp_path).values())


def test_no_server_at_all_is_one_line(tmp_path: Path) -> None:
    refused = command("targen.generate", *server_overrides(tmp_path, "http://127.0.0.1:9/v1"))
    assert refused.returncode == 2
    assert "generator.base_url: got http://127.0.0.1:9/v1, where no server answers" in refused.stderr


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_pays_nothing_twice(tmp_path: Path, serve) -> None:
    def slowly(number: int, handler) -> bool:
        time.sleep(0.02)
        return False

    model = FakeModel(error_rate=0.05, flip_rate=0.2)
    server = serve(model)
    server.misbehave = slowly
    overrides = server_overrides(tmp_path / "killed", server.url, "generator.concurrency=4")
    chance, kills = random.Random(1), 3
    for _ in range(kills):
        target = len(server.bodies) + chance.randrange(20, 120)
        server.hold_from, server.go_on = target + 30, threading.Event()
        process = subprocess.Popen([sys.executable, "-m", "targen.generate", *overrides], stderr=subprocess.DEVNULL)
        server.wait_for(target, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        server.go_on.set()
    server.hold_from = math.inf
    assert command("targen.generate", *overrides).returncode == 0
    generate(settings(*server_overrides(tmp_path / "whole", serve(model).url)))
    assert files(tmp_path / "killed" / "synthetic") == files(tmp_path / "whole" / "synthetic")
    calls = sum(len(lines(path)) for path in (tmp_path / "killed" / "calls").glob("*.jsonl"))
    assert len(server.bodies) <= calls + kills * 2 * 4  # what was under way at a kill


def test_a_second_process_on_one_run_is_refused_and_a_dead_ones_lock_is_taken_over(tmp_path: Path, serve) -> None:
    server = serve(FakeModel())
    server.hold_from = 3
    overrides = server_overrides(tmp_path, server.url, "task=rte", "generator.concurrency=1")
    first = subprocess.Popen([sys.executable, "-m", "targen.generate", *overrides], stderr=subprocess.DEVNULL)
    server.wait_for(3, first)
    second = command("targen.generate", *overrides)
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on " in second.stderr
    first.kill()
    first.wait()
    server.hold_from = math.inf
    server.go_on.set()
    assert (tmp_path / "run.lock").exists()
    assert command("targen.generate", *overrides).returncode == 0
    assert not (tmp_path / "run.lock").exists()
    (tmp_path / "run.lock").write_text('{"host": "another-node", "pid": 1, "started": 0.0}')
    elsewhere = command("targen.generate", *overrides)
    assert elsewhere.returncode == 2
    assert "process 1 on another-node" in elsewhere.stderr
    assert "remove" in elsewhere.stderr


def test_over_generation_saves_rounds_and_holds_back_what_is_not_needed(tmp_path: Path) -> None:
    model = FakeModel(error_rate=0.1, flip_rate=0.2)
    serial = by_batch(tmp_path / "serial", model, "task=[rte,copa]")
    spare = by_batch(tmp_path / "spare", model, "task=[rte,copa]", "synth.spare=1.0", "synth.max_attempts=2")
    assert spare < serial
    stats = json.loads((tmp_path / "spare" / "synthetic" / "rte" / "stats.json").read_text())
    assert stats["rows_per_label"] == {"entailment": 6, "not_entailment": 6}
    assert stats["surplus"] > 0


def test_open_run_of_a_fresh_folder_writes_the_resolved_configuration(tmp_path: Path) -> None:
    from targen.runtime.cli import compose

    found = open_run(compose(["+experiment=quickstart", f"run.dir={tmp_path}"]))
    assert found.paths.config.read_text().startswith("method:")
