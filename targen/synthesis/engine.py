"""Runs jobs until all are done: requests to the backend, answers to the log, answers to the jobs.

Jobs of all tasks and steps run at once; a job goes on as soon as its own answer is there, so no step waits for
another and the backend stays full. What the jobs return never depends on the order in which answers come.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from targen.llm.call_log import CallLog
from targen.llm.messages import LLM, Answer, Failure, Request
from targen.runtime.errors import UserError
from targen.runtime.signals import raise_if_stopped
from targen.synthesis.recipe import Job

SHARED_STEPS = ("contexts", "instance_seed")  # their calls serve several slots
Observer = Callable[[Request, Answer, bool], None]  # each call once; True: asked now, False: on record


@dataclass(eq=False)
class _Group:
    """Jobs that run side by side, made one by one as they are started, and the job that waits for all of them."""

    parent: "_Running | None"
    waiting: Iterator[Job]
    results: list[Any] = field(default_factory=list)
    open: int = 0
    all_started: bool = False
    failed: bool = False


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
    _shared: set[str] = field(default_factory=set)
    _ready: deque[tuple[_Running, Any]] = field(default_factory=deque)
    _waiters: dict[str, tuple[Request, list[_Running]]] = field(default_factory=dict)
    _groups: deque[_Group] = field(default_factory=deque)
    _failures: list[Failure] = field(default_factory=list)

    def run(self, jobs: list[Job]) -> list[Any]:
        """The results of the jobs, in their order; of a job that a UserError ended, the error.

        Raises: UserError when calls stay without an answer.
        """
        top = self._spawn(None, jobs)
        while self._advance() or self._waiters:
            raise_if_stopped()
            if self._waiters:
                self._take_answers()
        if self._failures:
            raise UserError(self._why_ended())
        return top.results

    def _why_ended(self) -> str:
        kinds = Counter(failure.reason.partition(":")[0] for failure in self._failures)
        counts = "; ".join(f"{kind} x {count}" for kind, count in kinds.most_common())
        first = self._failures[0]
        return (
            f"generator: {len(self._failures)} calls got no answer ({counts}); the first, {first.id}: {first.reason}. "
            f"{len(self.calls)} answers are kept. Mend the cause and start the same command again to go on."
        )

    def _spawn(self, parent: _Running | None, jobs: Iterable[Job]) -> _Group:
        """A new group; one within a task's group goes first, for a started instance is finished before a new one."""
        group = _Group(parent, iter(jobs))
        if parent is not None and parent.group.parent is not None:
            self._groups.appendleft(group)
        else:
            self._groups.append(group)
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
            job = next(group.waiting, None)
            if job is not None:
                self._ready.append((_Running(job, group, len(group.results)), None))
                group.results.append(None)
                group.open += 1
            else:
                moved = True
                group.all_started = True
                self._groups.popleft()
                self._close_if_done(group)

    def _step(self, running: _Running, value: Any) -> None:
        """Gives a job what it waits for; a UserError of one of its jobs is thrown into it."""
        try:
            wanted = running.job.throw(value) if isinstance(value, UserError) else running.job.send(value)
        except StopIteration as stop:
            self._finish(running, stop.value)
            return
        except UserError as err:
            self._fail(running, err)
            return
        if isinstance(wanted, Request):
            self._ask(running, wanted)
        else:
            self._spawn(running, wanted)

    def _fail(self, running: _Running, error: UserError) -> None:
        """Ends a job; the others of its group, but for the jobs of the tasks, are of no use then."""
        group = running.group
        if group.parent is None:
            self._finish(running, error)
        elif not group.failed:
            group.failed = True
            if group in self._groups:
                self._groups.remove(group)
            self._ready.append((group.parent, error))

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
        self._close_if_done(group)

    def _close_if_done(self, group: _Group) -> None:
        if group.all_started and group.open == 0 and group.parent is not None and not group.failed:
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
        """Reports a call; those that several slots use, only once."""
        if request.step in SHARED_STEPS:
            if request.id in self._shared:
                return
            self._shared.add(request.id)
        self.observe(request, answer, asked)
