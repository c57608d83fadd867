"""Runs jobs until all are done: requests to the backend, answers to the log, answers to the jobs.

Jobs of all tasks and steps run at once; a job goes on as soon as its own answer is there, so no step waits for
another and the backend stays full. What the jobs return never depends on the order in which answers come.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from targen.calls import CallLog
from targen.errors import UserError
from targen.llm import LLM, Answer, Failure, Request
from targen.steps import Job

Observer = Callable[[Request, Answer, bool], None]  # each call once; True: asked now, False: on record


@dataclass
class _Group:
    """Jobs that run side by side, and the job that waits for all of them."""

    parent: "_Running | None"
    waiting: Iterator[tuple[int, Job]]  # not started yet
    results: list[Any]
    open: int


@dataclass
class _Running:
    job: Job
    group: _Group
    place: int


@dataclass
class Engine:
    """One drive of jobs over one backend."""

    llm: LLM
    calls: CallLog
    observe: Observer
    _used: set[str] = field(default_factory=set)
    _ready: "deque[tuple[_Running, Any]]" = field(default_factory=deque)
    _waiters: dict[str, tuple[Request, list[_Running]]] = field(default_factory=dict)
    _groups: list[_Group] = field(default_factory=list)
    _failures: list[Failure] = field(default_factory=list)

    def run(self, jobs: list[Job]) -> list[Any]:
        """The results of the jobs, in their order. Raises: UserError when calls stay without an answer."""
        top = self._spawn(None, jobs)
        while self._advance() or self._waiters:
            if self._waiters:
                self._take_answers()
        if self._failures:
            first = self._failures[0]
            raise UserError(
                f"generator: {len(self._failures)} calls got no answer; the first, {first.id}: {first.reason}. "
                f"{len(self.calls)} answers are kept. Mend the cause and start again to go on."
            )
        return top.results

    def _spawn(self, parent: _Running | None, jobs: list[Job]) -> _Group:
        group = _Group(parent, iter(list(enumerate(jobs))), [None] * len(jobs), len(jobs))
        if jobs:
            self._groups.append(group)
        elif parent is not None:
            self._ready.append((parent, []))
        return group

    def _advance(self) -> bool:
        """Runs every job as far as it goes; starts new ones while the backend has room. False: nothing is left."""
        moved = False
        while True:
            while self._ready:
                moved = True
                self._step(*self._ready.popleft())
            if not self._groups or len(self._waiters) >= self.llm.window or self._failures:
                return moved
            group = self._groups[0]
            started = next(group.waiting, None)
            if started is None:
                self._groups.pop(0)
            else:
                self._ready.append((_Running(started[1], group, started[0]), None))

    def _step(self, running: _Running, value: Any) -> None:
        try:
            wanted = running.job.send(value)
        except StopIteration as stop:
            self._finish(running, stop.value)
            return
        if isinstance(wanted, Request):
            self._ask(running, wanted)
        else:
            self._spawn(running, wanted)

    def _ask(self, running: _Running, request: Request) -> None:
        answer = self.calls.get(request)
        if answer is not None:
            self._observe_once(request, answer, False)
            self._ready.append((running, answer))
        elif request.id in self._waiters:
            self._waiters[request.id][1].append(running)
        elif not self._failures:  # after a failure nothing new is asked; what is under way is still taken in
            self._waiters[request.id] = (request, [running])
            self.llm.submit(request)

    def _finish(self, running: _Running, result: Any) -> None:
        group = running.group
        group.results[running.place] = result
        group.open -= 1
        if group.open == 0 and group.parent is not None:
            self._ready.append((group.parent, group.results))

    def _take_answers(self) -> None:
        for done in self.llm.collect():
            request, runnings = self._waiters.pop(done.id)
            if isinstance(done, Answer):
                self.calls.put(request, done)
                self._observe_once(request, done, True)
                self._ready.extend((running, done) for running in runnings)
            else:
                self._failures.append(done)

    def _observe_once(self, request: Request, answer: Answer, asked: bool) -> None:
        if request.id not in self._used:
            self._used.add(request.id)
            self.observe(request, answer, asked)
