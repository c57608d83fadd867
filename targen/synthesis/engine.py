"""Runs workflows until all are done: requests to the backend, answers to the log, answers to the workflows.

A workflow is a generator. It yields a Request and is sent its Answer, or yields workflows, which run side by side, and is
sent the list of their results. Workflows of all tasks and steps run at once; each continues as soon as its own answer is
there, so no step waits for another and the backend stays busy. Their results never depend on the order of the answers.
"""

import gc
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from targen.llm.call_log import CallLog
from targen.llm.messages import LLM, Answer, AwaitingAnswers, Failure, Request, why_unfinished
from targen.runtime.errors import UserError
from targen.runtime.signals import raise_if_stopped

Result = TypeVar("Result")
Workflow = Generator[Any, Any, Result]
SHARED_STEPS = ("contexts", "instance_seed")  # their calls serve several slots
Observer = Callable[[Request, Answer, bool], None]  # gets each call once; True: just answered, False: from the call log


@dataclass(frozen=True)
class Detachable:
    """Workflows that run side by side, for a parent that can look ahead without their results.

    If no answer can come before the next start (generator=batch), the parent goes on, with None for each workflow that
    waits: what it asks then is answered in the same round. Such a start never ends with the parent's result.
    """

    workflows: Iterable[Workflow[Any]]


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collects cyclic garbage rarely while the body runs: it took a quarter of the time, and a call leaves hardly any."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(500_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@dataclass(eq=False)
class _Group:
    """Workflows that run side by side, created as they are started, and the workflow that waits for them."""

    parent: "_Running | None"
    waiting: Iterator[Workflow[Any]]
    results: list[Any] = field(default_factory=list)
    open: int = 0
    all_started: bool = False
    abandoned: bool = False  # by its parent, which goes on without the results


@dataclass
class _Running:
    workflow: Workflow[Any]
    group: _Group
    position: int  # of its result among the group's


def _task_of(group: _Group) -> int:
    """The position of a group's task; -1 for the group of the tasks, and for one inside a task's group."""
    parent = group.parent
    return parent.position if parent is not None and parent.group.parent is None else -1


@dataclass
class Engine:
    """One run of workflows on one backend."""

    llm: LLM
    calls: CallLog
    observe: Observer
    _shared: set[str] = field(default_factory=set)
    _ready: deque[tuple[_Running, Any]] = field(default_factory=deque)
    _waiters: dict[str, tuple[Request, list[_Running]]] = field(default_factory=dict)
    _groups: deque[_Group] = field(default_factory=deque)
    _detachable: list[_Group] = field(default_factory=list)
    _failures: list[Failure] = field(default_factory=list)

    def run(self, workflows: list[Workflow[Any]]) -> list[Any]:
        """The results of the workflows, in their order; for a workflow that a UserError ended, the error.

        Raises: UserError if calls stay unanswered; AwaitingAnswers if the next start has the answers.
        """
        top = self._spawn(None, workflows)
        while self._advance() or self._waiters:
            if self._waiters:
                try:
                    self._take_answers()
                except AwaitingAnswers:
                    if not self._look_ahead():
                        raise
            raise_if_stopped()  # now that the answers which have arrived are on disk
        if self._failures:
            raise_if_stopped()  # calls that broke off because the engine was told to stop, too
            raise UserError(self._why_ended())
        return top.results

    def _why_ended(self) -> str:
        kinds = Counter(failure.reason.partition(":")[0] for failure in self._failures)
        counts = "; ".join(f"{kind} x {count}" for kind, count in kinds.most_common())
        first = self._failures[0]
        return (
            f"generator: {len(self._failures)} calls got no answer ({counts}); the first, {first.id}: {first.reason}. "
            f"{len(self.calls)} answers are saved. Fix the cause and rerun the command to resume."
        )

    def _spawn(self, parent: _Running | None, workflows: Iterable[Workflow[Any]]) -> _Group:
        """A new group. One inside a task's group goes first, so that a started instance is finished before a new one starts.

        A task's further groups go before those of later tasks, so that replacements of its instances do not wait for the end.
        """
        group = _Group(parent, iter(workflows))
        if parent is not None and parent.group.parent is not None:
            self._groups.appendleft(group)
        else:
            later = (index for index, queued in enumerate(self._groups) if _task_of(queued) > _task_of(group))
            self._groups.insert(next(later, len(self._groups)), group)
        return group

    def _advance(self) -> bool:
        """Runs every workflow as far as it goes; starts new ones while the backend has room. False: nothing is left."""
        moved = False
        while True:
            while self._ready:
                moved = True
                self._step(*self._ready.popleft())
            if not self._groups or len(self._waiters) >= self.llm.window or self._failures:
                return moved
            group = self._groups[0]
            workflow = next(group.waiting, None)
            if workflow is not None:
                self._ready.append((_Running(workflow, group, len(group.results)), None))
                group.results.append(None)
                group.open += 1
            else:
                moved = True
                group.all_started = True
                self._groups.popleft()
                self._close_if_done(group)

    def _step(self, running: _Running, value: Any) -> None:
        """Gives a workflow what it waits for; a UserError of one of its workflows is thrown into it."""
        try:
            workflow = running.workflow
            yielded = workflow.throw(value) if isinstance(value, UserError) else workflow.send(value)
        except StopIteration as stop:
            self._finish(running, stop.value)
            return
        except UserError as err:
            self._fail(running, err)
            return
        if isinstance(yielded, Request):
            self._ask(running, yielded)
        elif isinstance(yielded, Detachable):
            self._detachable.append(self._spawn(running, yielded.workflows))
        else:
            self._spawn(running, yielded)

    def _look_ahead(self) -> bool:
        """Lets the parents of detachable groups go on. False: there is none left."""
        waiting = [group for group in self._detachable if group.open and group.all_started and not group.abandoned]
        self._detachable.clear()
        for group in waiting:
            group.abandoned = True
            assert group.parent is not None
            self._ready.append((group.parent, group.results))
        return bool(waiting)

    def _fail(self, running: _Running, error: UserError) -> None:
        """Ends a workflow. The others of its group are then of no use, except at the top, where each is a task."""
        group = running.group
        if group.parent is None:
            self._finish(running, error)
        elif not group.abandoned:
            group.abandoned = True
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
        elif not self._failures:  # after a failure nothing new is asked; answers under way are still taken
            self._waiters[request.id] = (request, [running])
            self.llm.submit(request)

    def _finish(self, running: _Running, result: Any) -> None:
        group = running.group
        group.results[running.position] = result
        group.open -= 1
        self._close_if_done(group)

    def _close_if_done(self, group: _Group) -> None:
        if group.all_started and group.open == 0 and group.parent is not None and not group.abandoned:
            self._ready.append((group.parent, group.results))

    def _take_answers(self) -> None:
        for outcome in self.llm.collect():
            request, waiters = self._waiters.pop(outcome.id)
            if isinstance(outcome, Answer) and (why := why_unfinished(outcome)) is not None:
                outcome = Failure(outcome.id, why)
            if isinstance(outcome, Answer):
                self.calls.put(request, outcome)
                self._observe_once(request, outcome, True)
                self._ready.extend((running, outcome) for running in waiters)
            else:
                self._failures.append(outcome)

    def _observe_once(self, request: Request, answer: Answer, is_new: bool) -> None:
        """Reports a call; a call that several slots share is reported once."""
        if request.step in SHARED_STEPS:
            if request.id in self._shared:
                return
            self._shared.add(request.id)
        self.observe(request, answer, is_new)
