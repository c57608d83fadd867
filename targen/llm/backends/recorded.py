"""Recorded completions, replayed by request id."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path

import yaml

from targen.config.diff import changed_answer_keys
from targen.config.groups.generation import STEPS, Sampling
from targen.config.run_directory import read_config
from targen.config.settings import Settings
from targen.llm.call_log import answer_of, call_files
from targen.llm.messages import LLM, Answer, Failure, Request, call_seed, make_request, why_unfinished
from targen.llm.registry import Backend, BackendInputs
from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import CONF, PROJECT, visible_paths

RECORDINGS = PROJECT / "targen" / "recordings"  # that come with the project, a folder each
USUAL_SEEDS = range(10)  # with which a recording may have been made


class Recorded:
    """Answers from the calls/ folder of a run, or (None) from the recordings that come with this project; files may be packed
    with gzip. Raises: UserError if a task has no file there.

    `settings` are those of the replaying run, to name what differs where a request is not in the recording.
    """

    window = 1024

    def __init__(self, folder: Path | None, tasks: list[str], settings: Settings | None = None) -> None:
        self._folder, self._settings = folder, settings
        self._answers: dict[str, Answer] = {}
        self._submitted: list[Request] = []
        self._files: dict[str, list[Path]] = {}
        folders = [folder] if folder is not None else visible_paths(RECORDINGS, "*")
        for task in tasks:
            self._files[task] = [path for source in folders for path in _recorded_files(source, task)]
            if not self._files[task]:
                raise UserError(
                    f"generator.path: got {folder or RECORDINGS}, which has no {task}.jsonl, expected recorded calls of every task. "
                    "Name a folder of recorded calls, or choose another generator."
                )
            for path in self._files[task]:
                for number, record in read_jsonl(path, surrogates=True):
                    answer = answer_of(record, f"{path}:{number}")
                    if why_unfinished(answer) is None:
                        self._answers.setdefault(answer.id, answer)

    def submit(self, request: Request) -> None:
        """Adds a request to those that `collect` answers."""
        self._submitted.append(request)

    def collect(self) -> Iterator[Answer | Failure]:
        """The recorded answers of all submitted requests. Raises: UserError that names a request without one."""
        requests, self._submitted = self._submitted, []
        for request in requests:
            if request.id not in self._answers:
                raise UserError(
                    f"generator=recorded: got the request {request.id}, which {self._files[request.task][0]} does "
                    f"not answer, expected a recorded request. {self._what_differs(request)} Restore it, or choose "
                    "another generator."
                )
            yield self._answers[request.id]

    def _what_differs(self, request: Request) -> str:
        """A sentence that says why the recording has no answer to a request, as far as it is known."""
        if request.step not in STEPS:
            return (
                "It is a question of an analysis, which is recorded for other rows, with other settings of the analysis, or not at "
                "all."
            )
        if differences := self._differences(request):
            return f"What differs: {'; '.join(differences)}."
        position = request.id.rpartition("-")[0]
        if any(id.startswith(f"{position}-") for id in self._answers):
            return (
                f"The call {position} is recorded with another prompt, or another schema of its answer: a text of the task or "
                "the method, or one of the synth settings, is not that of the recorded run."
            )
        return (
            f"No call {position} is recorded: this run makes more rows, other shares of labels or other steps than the recorded one "
            "(synth.size, synth.contexts, synth.label_share, synth.self_correct, synth.few_rounds), or rejects other answers."
        )

    def _differences(self, request: Request) -> list[str]:
        """The settings that differ: by the configuration of the recorded run, or by trying what would give a recorded id."""
        if self._settings is None:
            return []
        config = self._folder.parent / "config.yaml" if self._folder else None
        if config and config.is_file():
            changed = changed_answer_keys(_recorded_settings(read_config(config)), _current_settings(self._settings))
            if changed:
                return changed
        step, body, position = request.step, request.body, request.id.rpartition("-")[0]
        position = position.removeprefix(f"{request.task}-{step}-")
        defaults = yaml.safe_load((CONF / "synth" / "default.yaml").read_text(encoding="utf-8"))["sampling"][step]
        model, seed, sampling = body["model"], self._settings.seed, Sampling(*(body[key] for key in defaults))
        models = [model, *sorted({answer.model for answer in self._answers.values()} - {model, ""})]
        seeds = [seed, *(usual for usual in USUAL_SEEDS if usual != seed)]
        samplings = dict.fromkeys([sampling, Sampling(**defaults)])
        for old_model, old_seed, old_sampling in product(models, seeds, samplings):
            sampling_seed = call_seed(old_seed, request.task, step, position)
            candidate = make_request(
                position, request.task, step, old_model, body["messages"], old_sampling, request.schema, sampling_seed
            )
            if candidate.id in self._answers:
                pairs = [("generator.model", old_model, model), ("seed", old_seed, seed)]
                pairs += [
                    (f"synth.sampling.{step}.{key}", old_sampling.body[key], sampling.body[key]) for key in defaults
                ]
                return [f"{key} was {was!r} and is {now!r}" for key, was, now in pairs if was != now]
        return []

    def close(self) -> None:
        """Nothing to free: the recording is in memory."""


def _recorded_files(folder: Path, task: str) -> list[Path]:
    packed = [f"{task}.jsonl.gz", f"{task}.*.jsonl.gz"]
    return [*call_files(folder, task), *(path for pattern in packed for path in visible_paths(folder, pattern))]


def _recorded_settings(config: Json) -> Json:
    """The settings of a recorded run, in the form of `_current_settings`."""
    return {
        "seed": config.get("seed"),
        "generator": {"model": (config.get("generator") or {}).get("model")},
        "synth": config.get("synth"),
    }


def _current_settings(settings: Settings) -> Json:
    return {
        "seed": settings.seed,
        "generator": {"model": settings.generator.model},
        "synth": asdict(settings.synth),
    }


def _recording(settings: Settings) -> LLM:
    folder = Path(settings.generator.path) if settings.generator.path else None
    return Recorded(folder, list(settings.tasks), settings)


def _check(settings: Settings) -> None:
    _recording(settings)


def _make(inputs: BackendInputs) -> LLM:
    return _recording(inputs.settings)


BACKEND = Backend(_make, _check)
