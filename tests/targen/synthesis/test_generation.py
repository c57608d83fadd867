"""Generation through public doors: balance, refusals, instance seeds, servers with faults."""

import json
import socket
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest

from targen.config.run_directory import open_run
from targen.generate import generate
from targen.llm.completions import answer_from_completion
from targen.llm.messages import Answer, Request
from targen.llm.registry import Backend
from targen.runtime.errors import UserError
from tests.support.commands import TASKS, command, files, lines, reply, settings
from tests.support.fake_model import FakeModel
from tests.support.generation_runs import by_batch, server_overrides


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
    slot_rejects = [reject for reject in rejects if reject["slot"] is not None]
    assert all(reject["context"] for reject in slot_rejects)
    assert all(reject["instance_seed"] for reject in slot_rejects if reject["step"] != "instance_seed")
    assert {reject["label"] for reject in rejects} > {None, "entailment"}  # that was asked for; ReCoRD has none


def test_a_model_that_errs_and_leans_ends_balanced_with_the_settings_as_they_come(tmp_path: Path, serve) -> None:
    """30 % of its answers are unusable, and 90 % of its corrections give the first label."""
    url = serve(FakeModel(error_rate=0.3, flip_rate=0.9)).url
    generate(settings(*server_overrides(tmp_path, url, "task=[axg,cb,copa]", "synth.size=24")))
    for name in ("axg", "cb", "copa"):
        cells = json.loads((tmp_path / "synthetic" / name / "stats.json").read_text())["instances_per_label_cell"]
        assert set(cells.values()) == {24 // settings().tasks[name].rows_per_slot // len(cells)}


class WithoutNumbers(FakeModel):
    """Leaves out the numbers of instance seeds, as models do without an enforced schema."""

    def _answer(self, body: Mapping[str, Any], rng: Random) -> dict[str, Any]:
        answer = super()._answer(body, rng)
        for seed in answer.get("instance_seeds", []):
            seed.pop("number", None)
        return answer


def test_instance_seeds_without_numbers_are_taken_by_their_places(tmp_path: Path, serve) -> None:
    for name, model in {"with": FakeModel(), "without": WithoutNumbers()}.items():
        generate(settings(*server_overrides(tmp_path / name, serve(model).url, "task=[rte]")))
    rows = {name: files(tmp_path / name / "synthetic" / "rte")["train.jsonl"] for name in ("with", "without")}
    assert rows["with"] == rows["without"]


def test_copa_positions_are_balanced_within_cause_and_effect(tmp_path: Path) -> None:
    by_batch(tmp_path, FakeModel(), "task=copa")
    rows = lines(tmp_path / "synthetic" / "copa" / "train.jsonl")
    assert Counter((row["question"], row["label"]) for row in rows) == dict.fromkeys(
        [("cause", 0), ("cause", 1), ("effect", 0), ("effect", 1)], 3
    )
    assert [row["label"] for row in rows] != sorted(row["label"] for row in rows)


def test_a_model_that_cannot_do_it_ends_with_the_label_and_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"rte: got 0 instances of label not_entailment, expected 6.*label flipped.*more slots \(synth.max_slots\) would not help",
    ):
        by_batch(tmp_path, FakeModel(flip_rate=1.0), "task=rte")
    with pytest.raises(UserError, match="got no readable context"):
        by_batch(tmp_path / "mute", FakeModel(error_rate=1.0), "task=rte")


def test_a_request_without_a_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"got the request rte-\w+-[gc]\d-\d{5}(-a0)?-[0-9a-f]{12}, which .*rte.jsonl does not answer"
    ):
        generate(settings("task=rte", "synth.size=300", f"run.dir={tmp_path}"))


class Silent(FakeModel):
    """Cannot do one task."""

    def _answer(self, body, rng):
        answer = super()._answer(body, rng)
        return {} if "probable" in answer else answer


def test_a_task_that_cannot_be_made_keeps_no_other_from_it(tmp_path: Path, serve) -> None:
    server = serve(Silent())
    overrides = ("task=[cb,copa,rte]", "synth.max_attempts=2", "synth.max_slots=2")
    calls_per_start = []
    for _ in range(2):
        with pytest.raises(
            UserError, match=r"^copa: got 0 instances of label choice1.*generation: answer does not fit"
        ) as error:
            generate(settings(*server_overrides(tmp_path, server.url, *overrides)))
        assert str(error.value).count("\n") == 0
        calls_per_start.append(len(server.bodies))
    assert calls_per_start[0] == calls_per_start[1]
    assert sorted(path.name for path in (tmp_path / "synthetic").iterdir()) == ["README.md", "cb", "rte"]
    assert len(lines(tmp_path / "synthetic" / "cb" / "train.jsonl")) == 12


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


def test_seeds_are_used_without_half_characters_and_their_line_is_named(tmp_path: Path, caplog) -> None:
    (tmp_path / "rte.jsonl").write_text(
        "".join(
            f'{{"premise": "In {1900 + n} the mill burned down.{half}"}}\n'
            for n, half in enumerate(["", "\\ud83d", "\\ude00"])
        )
    )
    run = tmp_path / "run"
    by_batch(run, FakeModel(), "task=rte", "synth.seed_source=file", f"synth.seed_dir={tmp_path}")
    premises = {row["premise"] for row in lines(run / "synthetic" / "rte" / "train.jsonl")}
    assert premises <= {f"In {1900 + n} the mill burned down." for n in range(3)}
    assert caplog.text.count("rte.jsonl:2 and 1 more lines hold half a character") == 1


def test_a_server_gives_the_same_bytes_at_any_concurrency_and_as_batch_files(tmp_path: Path, serve) -> None:
    model, few = FakeModel(error_rate=0.1, flip_rate=0.2), "synth.few_rounds=true"
    for concurrency in (1, 40):
        overrides = (few, f"generator.concurrency={concurrency}")
        generate(settings(*server_overrides(tmp_path / str(concurrency), serve(model).url, *overrides)))
    by_batch(tmp_path / "batch", model)
    assert (
        files(tmp_path / "1" / "synthetic")
        == files(tmp_path / "40" / "synthetic")
        == files(tmp_path / "batch" / "synthetic")
    )


def test_a_faulty_server_costs_retries_and_no_answer(tmp_path: Path, serve) -> None:
    tries: Counter[str] = Counter()

    def faults(number: int, handler) -> bool:
        """At most two faults for each request, whatever the order in which requests come."""
        body = json.dumps(faulty.bodies[number - 1] if number else faulty.probes[0], sort_keys=True)
        tries[body] += 1  # of one request there is one try at a time
        remainder = (zlib.crc32(body.encode()) + 2 * tries[body]) % 11 if tries[body] <= 2 else 0
        if remainder == 1:
            reply(handler, 429, '{"error": {"message": "slow down"}}', Retry_After="0")
        elif remainder == 3:
            reply(handler, 503, "<html>busy</html>", Retry_After="0")
        elif remainder == 5:
            reply(handler, 200, "<html>a login page</html>")
        elif remainder == 7:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        return remainder in (1, 3, 5, 7)

    faulty = serve(FakeModel())
    faulty.misbehave = faults
    generate(
        settings(*server_overrides(tmp_path / "faulty", faulty.url, "task=[rte,copa]", "generator.retry_pause=0.01"))
    )
    assert {count for count in tries.values()} == {1, 2, 3}
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


def test_open_run_of_a_fresh_folder_writes_the_resolved_configuration(tmp_path: Path) -> None:
    from targen.runtime.cli import compose

    run = open_run(compose(["+experiment=quickstart", f"run.dir={tmp_path}"]))
    assert run.paths.config.read_text().startswith("method:")


class OneAtATime:
    """Answers each request before it takes the next."""

    window = 1

    def __init__(self) -> None:
        self.submitted: list[Request] = []
        self._model, self._waiting = FakeModel(flip_rate=0.5), list[Request]()

    def submit(self, request: Request) -> None:
        self.submitted.append(request)
        self._waiting.append(request)

    def collect(self) -> Iterator[Answer]:
        while self._waiting:
            request = self._waiting.pop()
            yield answer_from_completion(request.id, self._model.complete(request.body))

    def close(self) -> None:
        pass


def test_a_tasks_instances_are_replaced_before_the_next_task_is_made(tmp_path: Path) -> None:
    llm = OneAtATime()
    overrides = server_overrides(tmp_path, "http://127.0.0.1:1/v1", "task=[rte,copa]", "synth.self_correct=paper")
    generate(settings(*overrides), Backend(lambda _: llm))
    stats = json.loads((tmp_path / "synthetic" / "rte" / "stats.json").read_text())
    assert stats["surplus"]  # flips left a label short, so that further slots were opened
    tasks = [request.task for request in llm.submitted if request.step != "contexts"]
    assert tasks == sorted(tasks, key=["rte", "copa"].index)
