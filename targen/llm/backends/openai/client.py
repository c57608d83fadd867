"""Any OpenAI-compatible server: many calls at once, bounded retries, and one clear error if the run cannot continue."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from ssl import SSLContext
from typing import Any, TypeVar

import aiohttp
import uvloop

from targen.config.groups.generation import Generator
from targen.llm.backends.openai.connection import trusted_certificates
from targen.llm.backends.openai.exchange import exchange
from targen.llm.backends.openai.limits import LIMITS, Limits
from targen.llm.backends.openai.pace import pause
from targen.llm.backends.openai.pool import Server, ServerPool
from targen.llm.backends.openai.rate_limit import RateLimit
from targen.llm.backends.openai.refusals import judge_refusal
from targen.llm.backends.openai.replies import FatalError, RefusedError, RetryableError, error_text, outcome_of
from targen.llm.fast_json import encode_json
from targen.llm.messages import Answer, Failure, Request
from targen.llm.refused_fields import FieldRefused, refused_fields
from targen.llm.server_errors import clean_message
from targen.runtime.errors import UserError
from targen.runtime.heartbeat import raise_if_lost
from targen.runtime.jsonl import Json
from targen.runtime.signals import SECONDS_BETWEEN_CHECKS, interrupts_wait, raise_if_stopped

log = logging.getLogger(__name__)
Result = TypeVar("Result")
TRIES_BEFORE_FIRST_CONTACT = 3  # with a server that has never answered
MOST_EXPENSIVE_TRIES = 3  # of a call that timed out or whose reply was too long
SECONDS_BETWEEN_LINES = 10.0
BEFORE_PROBE = 8  # calls sent before the probe is answered; if the server ignores schemas, more would be wasted
SUBMITTED_PER_TURN = 16
ENDING = "not asked: the run was ending"


class OpenAIServer:
    """`POST <base_url>/chat/completions`, up to `concurrency` at a time at each server of `generator.base_url`.

    `models` gave the answers on record. If there are any, the first call goes alone, so that a different model behind the
    same address is noticed before many calls are paid for. `canary` is the file that keeps the answer to the probe.
    `environment` names proxies and certificates.
    Raises: UserError if the key cannot go into an HTTP header, or a proxy or certificates cannot be used.
    """

    def __init__(
        self,
        settings: Generator,
        key: str | None,
        canary: Path,
        models: Iterable[str],
        environment: Mapping[str, str],
        limits: Limits = LIMITS,
    ) -> None:
        if key and not (key.isascii() and key.isprintable()):
            raise UserError(
                f"${settings.api_key_env}: holds characters that are not allowed in an HTTP header. Set it again."
            )
        # Deep, because the calls of a slot run one after another: slots that start late would end alone, with idle places.
        self.window = 8 * settings.concurrency * len(settings.base_urls)
        self._settings, self._key, self._models, self._limits = settings, key, set(models), limits
        self._pool = ServerPool(settings, canary, key, environment)
        self._rate = RateLimit(settings, self._sleep)
        self._done: deque[Answer | Failure] = deque()
        self._fatal: str | None = None
        self._bug: Exception | None = None
        self._logged_at = time.monotonic()
        self._loop = uvloop.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._ending = asyncio.Event()  # no further call is sent
        self._begun = False
        self._since_turn = 0  # requests since the network last had its turn
        self._open = asyncio.Event()  # set once all calls may go, not only the first
        if not self._models:
            self._open.set()
        is_secure = any(url.startswith("https:") for url in settings.base_urls)
        self._session = self._run(self._connect(trusted_certificates(environment) if is_secure else True))

    async def _connect(self, certificates: SSLContext | bool) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            connector=aiohttp.TCPConnector(
                limit=(self._settings.concurrency + 1) * len(self._pool.servers),  # one for the probe
                ssl=certificates,
            ),
        )

    def submit(self, request: Request) -> None:
        """Starts a call. The first request also starts the probe of each server."""
        if not self._begun:
            for server in self._pool.servers:
                self._start(self._probe(server))
        self._start(self._call(request, alone=not self._begun))
        self._begun = True
        self._since_turn += 1
        if self._since_turn >= SUBMITTED_PER_TURN and len(self._done) < self._settings.concurrency:
            self._take_turn()

    def _take_turn(self) -> None:
        """Lets the network go on without waiting for it: many requests are made at once, and no place may be idle meanwhile.

        Not while many answers wait for `collect`: they are on no disk yet.
        """
        self._since_turn = 0
        with interrupts_wait():
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _run(self, work: Coroutine[Any, Any, Result]) -> Result:
        with interrupts_wait():
            return self._loop.run_until_complete(work)

    def collect(self) -> Iterator[Answer | Failure]:
        """Waits until a call is done, then yields all that are.

        Raises: UserError if no call can succeed, after the calls under way had `limits.drain` seconds; Stopped on a stop signal.
        """
        while not self._done and self._fatal is None and self._bug is None:
            with suppress(TimeoutError):
                self._run(asyncio.wait_for(self._news.wait(), SECONDS_BETWEEN_CHECKS))
            if not self._done:  # answers that have arrived go first
                raise_if_stopped()
            self._news.clear()
        if self._bug is not None:
            raise self._bug
        if not self._done and self._fatal is not None:
            end = time.monotonic() + self._limits.drain
            while self._tasks and (remaining := end - time.monotonic()) > 0:  # calls under way may still be answered
                self._run(asyncio.wait(list(self._tasks), timeout=min(remaining, SECONDS_BETWEEN_CHECKS)))
            if not self._done:
                raise UserError(self._fatal)
        while self._done:
            yield self._done.popleft()

    async def _probe(self, server: Server) -> None:
        await self._open.wait()
        if not self._ending.is_set():
            await server.structured.probe(partial(self._post, server))

    async def _call(self, request: Request, alone: bool) -> None:
        if not alone:
            await self._open.wait()
        try:
            outcome = await self._with_retries(request)
            if not isinstance(outcome, Answer):
                self._ending.set()
            if self._fatal is None or isinstance(outcome, Answer):
                self._done.append(outcome)
        except FatalError as err:
            self._fatal = self._fatal or str(err)
            self._ending.set()
        except Exception as err:  # a bug, or a lost lock: `collect` raises it, since it waits for this task
            self._bug = err
        self._open.set()
        self._news.set()

    def _check_model(self, server: Server, answer: Answer) -> None:
        if answer.model and self._models and answer.model not in self._models:
            raise FatalError(
                f"generator.model: {server.base_url} answers as {clean_message(answer.model, self._key)!r}, expected "
                f"{' or '.join(repr(clean_message(name, self._key)) for name in sorted(self._models))}, which gave the answers so far in this run. "
                "Serve that model again, or choose a different run.dir."
            )
        if answer.model:
            self._models.add(answer.model)

    async def _with_retries(self, request: Request) -> Answer | Failure:
        """The answer of one call; a failure after the last try, or as soon as the run is ending."""
        reason, expensive, last_server = ENDING, 0, None
        for attempt in range(self._settings.max_retries + 1):
            server = self._pool.choose(self._loop.time(), last_server)
            if attempt == 0:
                await self._wait_for_probe(server)
            try:
                if (outcome := await self._try_once(server, request, again=attempt > 0)) is None:
                    break
                return outcome
            except RetryableError as err:
                reason, expensive, last_server = str(err), expensive + err.expensive, err.server
                if err.hopeless and not self._pool.reached and attempt + 1 >= self._first_tries:
                    urls = ", ".join(server.base_url for server in self._pool.servers)
                    raise FatalError(f"generator.base_url: got {urls}, {err.hopeless}") from None
                if expensive == MOST_EXPENSIVE_TRIES or attempt == self._settings.max_retries:
                    if err.instead is not None:
                        return err.instead
                    reason += f", after {attempt} retries"
                    break
                if not (err.lost and self._pool.choose(self._loop.time(), last_server) is not last_server):
                    await self._sleep(pause(self._settings.retry_pause, attempt, err.after))
        return Failure(request.id, reason)

    async def _wait_for_probe(self, server: Server) -> None:
        server.unprobed += 1
        if server.unprobed > BEFORE_PROBE:
            await server.structured.wait_for_probe(self._limits.probe_wait)

    async def _try_once(self, server: Server, request: Request, again: bool) -> Answer | Failure | None:
        """One try; None if the run is ending. Raises: RetryableError, FatalError."""
        server.load += 1
        try:
            entered, refused = await server.pace.enter(again), None
        except asyncio.CancelledError:
            server.load -= 1
            raise
        try:
            if self._ending.is_set():
                return None
            if (better := self._pool.better(server, self._loop.time())) is None:
                ask, answers = partial(server.structured.ask, post=partial(self._post, server)), server.answers
                try:
                    outcome = await ask(request)
                except RefusedError as err:
                    return await judge_refusal(server.settings, request, err, server.answers > answers, ask)
                refused = False
                if isinstance(outcome, Answer):
                    server.answers += 1
                    self._check_model(server, outcome)
                return outcome
        except RetryableError as err:
            refused, err.server = err.overloaded, server
            if err.lost:
                server.lose(self._loop.time(), str(err), self._pool.alone)
            self._log_trouble(server, str(err))
            raise
        finally:
            server.pace.leave(entered, refused)
            server.load -= 1
        return await self._try_once(better, request, again=True)

    def _log_trouble(self, server: Server, reason: str) -> None:
        """Logs what is wrong, at most once in SECONDS_BETWEEN_LINES."""
        if time.monotonic() - self._logged_at > SECONDS_BETWEEN_LINES:
            self._logged_at = time.monotonic()
            log.info("generate: %s: %s. Will retry later; %d calls at once", server.url, reason, server.pace.places)

    @property
    def _first_tries(self) -> int:
        return min(TRIES_BEFORE_FIRST_CONTACT * len(self._pool.servers), self._settings.max_retries + 1)

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _post(self, server: Server, id: str, body: Json) -> Answer:
        """The answer to one POST, sent when the rate limit allows it.

        Raises: RetryableError, RefusedError, FatalError, FieldRefused; UserError if another process took the run over.
        """
        expected, answer = await self._rate.enter(body, self._ending.is_set), None
        try:
            if self._ending.is_set():
                raise RetryableError(ENDING)
            raise_if_lost()
            reply = await exchange(self._session, server, encode_json(body), self._key, self._limits)
            otherwise = partial(outcome_of, id, reply, server.settings, self._key, server.reached)
            if fields := refused_fields(reply.status, reply.text):
                raise FieldRefused(error_text(reply, self._key), fields, otherwise)
            answer = otherwise()
        finally:
            self._rate.leave(expected, body, answer)
        server.answered()
        return answer

    def close(self) -> None:
        """Cancels the calls under way and closes the connections."""
        self._loop.set_exception_handler(lambda *_: None)  # after Ctrl-C it would report every call that broke off
        running = asyncio.all_tasks(self._loop)  # also one that Ctrl-C left waiting for news
        for task in running:
            task.cancel()
        if running:
            self._run(asyncio.wait(running))
        self._run(self._session.close())
        self._loop.close()
        self._pool.close()
