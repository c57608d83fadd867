"""vLLM for real: in the process, as a server, as run-batch. Its CPU build with a two-layer Llama made from a config.

Skipped where vllm is not installed. A random model writes senseless texts, so that a run ends short of rows; its answers
are what is looked at.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.commands import LONGEST, command, files, lines, settings
from tests.support.tiny_llama import write_tiny_llama

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4000)]
vllm = pytest.importorskip("vllm", reason="the package vllm is not installed in this environment")
STEPS = ("contexts", "instance_seed", "generation", "self_correction")
PORTS = (
    20_000 + os.getpid() % 5000
)  # below those that the system gives out: no other program is given one while vLLM starts
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PORT": str(PORTS),
}
FLAGS = ["--dtype", "float32", "--enforce-eager", "--max-model-len", "3072", "--max-num-seqs", "16"]
FLAGS += ["--no-enable-chunked-prefill"]  # see targen.backends.vllm.WHOLE_PROMPTS
START = 1200  # seconds that vLLM may take to start, with all other tests beside it


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="module")
def server(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM server of its own, on loopback."""
    port = free_port()
    arguments = [
        "--model",
        str(tiny),
        "--served-model-name",
        "tiny",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *FLAGS,
    ]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments],
            stdout=out, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT, cwd=log.parent, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(process, f"http://127.0.0.1:{port}/health", log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the group that was started above, and no other


def free_port() -> int:
    port = PORTS + 100  # vLLM takes some for itself
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                port += 1
            else:
                return port


def wait_for(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(log.read_text()[-3000:])


def small(run: Path, *changes: str) -> list[str]:
    limits = [f"synth.sampling.{step}.max_tokens=150" for step in STEPS]
    size = ["task=copa", "synth.size=4", "synth.contexts=2", "synth.max_attempts=2", "synth.max_slots=2"]
    return [*size, *limits, f"run.dir={run}", *changes]


def in_process(tiny: Path, run: Path, *changes: str) -> list[str]:
    base = [
        "synth.learnability_rows=0",
        "generator=vllm",
        "generator.model=tiny-llama",
        f"generator.path={tiny}",
        "generator.engine.dtype=float32",
    ]
    base += ["generator.engine.max_model_len=3072", "generator.engine.max_num_seqs=16"]
    return [*base, "+generator.engine.enforce_eager=true", *small(run, *changes)]


def log_of(done: subprocess.CompletedProcess[str]) -> str:
    """The log of a run that came to its end, or ran out of attempts."""
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
    assert done.returncode in (0, 2), done.stderr[-3000:]
    return done.stderr


def calls_of(run: Path) -> list[dict]:
    return lines(run / "calls" / "copa.jsonl")


def check_answers(calls: list[dict]) -> None:
    """They begin in the form that was asked for, blanks aside, and their tokens are counted."""
    assert calls
    begins = {"contexts": '{"contexts"', "instance_seed": '{"instance_seeds"', "self_correction": '{"explanation"'}
    begins["generation"] = ('{"probable"', '{"improbable"')  # a server gets the schema with its keys sorted
    for call in calls:
        assert "".join(call["text"].split()).startswith(begins[call["step"]]), call
        assert call["usage"]["prompt_tokens"] > 100
        assert 0 < call["usage"]["completion_tokens"] <= 150
        assert call["finish_reason"] in ("stop", "length")
        if call["finish_reason"] == "stop":
            assert isinstance(json.loads(call["text"]), dict)


# --- in the process ---


def test_the_engine_answers_in_the_form_that_is_asked_for_and_the_same_twice(tiny: Path, tmp_path: Path) -> None:
    answers_by_start = []
    for name in ("one", "two"):
        assert settings(*in_process(tiny, tmp_path / name)).generator.backend == "vllm"
        log = log_of(command("targen.generate", *in_process(tiny, tmp_path / name), **ENVIRONMENT))
        assert "not hold" not in log
        check_answers(calls_of(tmp_path / name))
        assert calls_of(tmp_path / name)[0]["text"].startswith('{"contexts":[')  # no blanks
        answers_by_start.append({call["id"]: call["text"] for call in calls_of(tmp_path / name)})
    assert answers_by_start[0] == answers_by_start[1]


def test_what_vllm_cannot_take_is_one_line(tiny: Path, tmp_path: Path) -> None:
    wrong = command(
        "targen.generate", *in_process(tiny, tmp_path, "+generator.engine.max_model_length=5"), **ENVIRONMENT
    )
    assert wrong.returncode == 2
    assert (
        "generator.engine.max_model_length: no such setting of vLLM's EngineArgs. Did you mean 'max_model_len'?"
        in wrong.stderr
    )


def test_steps_that_do_not_fit_are_named_before_the_model_is_loaded(tiny: Path, tmp_path: Path) -> None:
    narrow = in_process(
        tiny, tmp_path, "generator.engine.max_model_len=1200", "synth.sampling.generation.max_tokens=900"
    )
    done = command("targen.generate", *narrow, "task=[copa,rte]", **ENVIRONMENT)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert {line.split(",")[1].split(" for ")[-1] for line in errors if ".generation." in line} == {"copa", "rte"}
    assert all(line.endswith("Lower it, or raise generator.engine.max_model_len.") for line in errors)
    assert "Loading weights" not in done.stderr + done.stdout
    assert not any(path.stat().st_size for path in (tmp_path / "calls").glob("*"))


def test_an_engine_that_dies_is_one_line_and_a_refused_schema_is_said_once(tiny: Path, tmp_path: Path) -> None:
    """`uniqueItems` is beyond xgrammar: those answers come unguided, and the run goes on until its engine is killed."""
    changes = [
        "tasks.copa.generation.fields={probable: {type: array, items: {type: string}, uniqueItems: true}, improbable: one}"
    ]
    arguments = in_process(tiny, tmp_path, *changes, "synth.size=40", "synth.max_attempts=200", "synth.max_slots=200")
    with _generating(tmp_path, *arguments) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        cores = [pid for pid in children if "EngineCore" in Path(f"/proc/{pid}/comm").read_text() + _title(pid)]
        assert cores, children
        os.kill(int(cores[0]), signal.SIGKILL)
        _, log = process.communicate(timeout=LONGEST)
    assert process.returncode == 2, log[-3000:]
    errors = [line for line in log.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and errors[0].startswith("error: generator: vLLM's engine ended unexpectedly"), log[-3000:]
    assert "Traceback" not in log
    assert log.count("vLLM cannot enforce the JSON schema of copa generation") == 1
    assert "copa instance_seed to its" not in log


def test_a_stop_that_reaches_the_workers_too_is_a_stop_and_leaves_no_cut_answers(tiny: Path, tmp_path: Path) -> None:
    """As SLURM stops a job: all processes at once. Two workers, which end before the process that asks them."""
    arguments = in_process(tiny, tmp_path, "method=zero_shot", "synth.size=40", "synth.max_attempts=200")
    two = "generator.engine.tensor_parallel_size=2"
    with _generating(tmp_path, *arguments, two, VLLM_CPU_OMP_THREADS_BIND="0|1") as process:
        os.killpg(process.pid, signal.SIGTERM)
        _, log = process.communicate(timeout=LONGEST)
    assert process.returncode == 85, log[-3000:]
    assert "SIGTERM: stopped. Progress is saved" in log and "error: " not in log
    assert {call["finish_reason"] for call in calls_of(tmp_path)} <= {"stop", "length"}


@contextmanager
def _generating(folder: Path, *arguments: str, **variables: str) -> "Iterator[subprocess.Popen[str]]":
    """A generation in a session of its own, once some answers are on disk; killed at the end."""
    command_line = [sys.executable, "-m", "targen.generate", "+experiment=quickstart", *arguments]
    environment = os.environ | ENVIRONMENT | variables
    process = subprocess.Popen(command_line, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        end = time.monotonic() + START
        log = folder / "calls" / "copa.jsonl"
        while not (log.exists() and log.read_text().count("\n") > 3):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.2)
        yield process
    finally:
        process.kill()


def _title(pid: str) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_copies_of_the_model_make_a_shard_each_and_the_same_set_as_one_process(tmp_path: Path) -> None:
    """All answers are on record, so that no engine starts."""
    shape = ["task=copa", "synth.size=8", "synth.seeds_per_context=2", "synth.learnability_rows=0"]
    single = command("targen.generate", "generator=recorded", *shape, f"run.dir={tmp_path / 'one'}")
    assert single.returncode == 0, single.stderr
    (tmp_path / "two" / "calls").mkdir(parents=True)
    shutil.copy(tmp_path / "one" / "calls" / "copa.jsonl", tmp_path / "two" / "calls")
    copies = ["generator=vllm", "generator.model=large-language-model", "generator.engine.data_parallel_size=2"]
    two = command("targen.generate", *copies, *shape, f"run.dir={tmp_path / 'two'}")
    assert two.returncode == 0, two.stderr
    assert files(tmp_path / "two" / "synthetic" / "copa") == files(tmp_path / "one" / "synthetic" / "copa")
    for index in (0, 1):
        log = tmp_path / "two" / "calls" / f"shard-{index:05d}-of-00002.log"
        assert f"shard {index} of 2 is done" in log.read_text()


# --- a server ---


def served(url: str, run: Path, *changes: str) -> list[str]:
    return ["generator=openai", "generator.model=tiny", f"generator.base_url={url}", *small(run, *changes)]


def test_a_server_holds_answers_to_the_schema_and_is_never_asked_twice(server: str, tmp_path: Path) -> None:
    log_of(command("targen.generate", *served(server, tmp_path)))
    calls = calls_of(tmp_path)
    check_answers(calls)
    assert {call["model"] for call in calls} == {"tiny"}
    again = log_of(command("targen.generate", *served("http://127.0.0.1:9/v1", tmp_path)))  # where no server is
    assert "no server answers" not in again
    assert calls_of(tmp_path) == calls


def test_a_prompt_longer_than_the_servers_context_is_an_answer_of_its_own(server: str, tmp_path: Path) -> None:
    seeds = [{"premise": f"On day {day} it {'rained and ' * 400}stopped."} for day in range(4)]  # a token is a byte
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    from_file = ["synth.seed_source=file", f"synth.seed_dir={tmp_path}"]
    log_of(command("targen.generate", *served(server, tmp_path / "run", *from_file)))
    assert {call["finish_reason"] for call in calls_of(tmp_path / "run")} == {"context_length"}


def test_a_model_that_the_server_does_not_have_is_one_line(server: str, tmp_path: Path) -> None:
    done = command("targen.generate", *served(server, tmp_path), "generator.model=other")
    assert done.returncode == 2
    assert "expected a server that has the model 'other'" in done.stderr


# --- run-batch ---


def test_run_batch_answers_the_request_files_as_the_message_says(tiny: Path, tmp_path: Path) -> None:
    """The command is the one that a start prints; here it is the module, for the CPU build has no `vllm` command."""
    chosen = ["generator=batch", f"generator.model={tiny}", *small(tmp_path, "task=[copa,rte]")]
    first = command("targen.generate", *chosen)
    assert first.returncode == 75, first.stderr
    match = re.search(r"`vllm run-batch (.*?)`", first.stderr)
    assert match is not None
    requested = {line["custom_id"] for line in lines(tmp_path / "requests.jsonl")}
    done = subprocess.run(
        [sys.executable, "-m", "vllm.entrypoints.openai.run_batch", *shlex.split(match[1]), *FLAGS],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, timeout=START, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert {line["custom_id"] for line in lines(tmp_path / "responses.jsonl")} == requested
    second = command("targen.generate", *chosen)
    assert second.returncode in (75, 0, 2) and "Traceback" not in second.stderr, second.stderr[-3000:]
    answered = [call for task in ("copa", "rte") for call in lines(tmp_path / "calls" / f"{task}.jsonl")]
    assert requested <= {call["id"] for call in answered}
    check_answers(answered)
