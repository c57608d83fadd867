"""Any OpenAI-compatible server: many calls at once, bounded retries, and one clear end when it cannot go on."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import aiohttp

from targen.backends.pace import Pace, pause
from targen.backends.replies import Again, Fatal, Reply, meaning, said
from targen.backends.structured import StructuredOutputs
from targen.config import Generator
from targen.errors import UserError
from targen.llm import Answer, Failure, Request
from targen.stop import SECONDS_BETWEEN_LOOKS, stop_if_told

log = logging.getLogger(__name__)
TRIES_BEFORE_FIRST_CONTACT = 3  # a server that was never there is not waited for
MOST_DEAR_TRIES = 3  # of a call that took all its time, or more memory than any answer has
MOST_BYTES = 16 * 2**20  # of a reply
SECONDS_BETWEEN_LINES = 10.0
BEFORE_PROBE = 8  # calls that go out beside the probe; more could be paid for in vain where a server ignores schemas
PROBE_WAIT = 5.0  # seconds that the others wait for it at most
DRAIN = 30.0  # seconds that calls under way have when the run cannot go on
JSON = {"Content-Type": "application/json"}


class OpenAIServer:
    """`POST <base_url>/chat/completions`, up to `concurrency` at a time.

    `models` are those whose answers are on record: where there are any, the first call goes alone, so that another
    model behind the same address is found before it is paid for. The probe's answer is kept in `canary`.
    """

    def __init__(self, settings: Generator, key: str | None, canary: Path, models: Iterable[str]) -> None:
        if key and not (key.isascii() and key.isprintable()):
            raise UserError(f"${settings.api_key_env}: holds characters that no HTTP header can have. Set it anew.")
        # Deep: a slot that begins late ends late, with its calls one after the other and the other places empty.
        self.window = 8 * settings.concurrency
        self._settings, self._key, self._models = settings, key, set(models)
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._done: deque[Answer | Failure] = deque()
        self._fatal: str | None = None
        self._bug: Exception | None = None
        self._reached = False
        self._said = time.monotonic()
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._ending = asyncio.Event()  # nothing is asked any more
        self._begun = False
        self._open = asyncio.Event()  # for all calls, not only the first
        if not self._models:
            self._open.set()
        self._pace = Pace(settings.concurrency)
        self._unprobed = 0  # calls let past the probe
        self._structured = StructuredOutputs(settings.base_url, settings.model, canary)
        self._session = self._loop.run_until_complete(self._connect())

    async def _connect(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency + 1),  # one for the probe
        )

    def submit(self, request: Request) -> None:
        if not self._begun:
            self._start(self._probe())
        self._start(self._call(request, alone=not self._begun))
        self._begun = True

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def collect(self) -> Iterator[Answer | Failure]:
        while not self._done and self._fatal is None and self._bug is None:
            with suppress(TimeoutError):
                self._loop.run_until_complete(asyncio.wait_for(self._news.wait(), SECONDS_BETWEEN_LOOKS))
            if not self._done:  # what has come is given first
                stop_if_told()
            self._news.clear()
        if self._bug is not None:
            raise self._bug
        if not self._done and self._fatal is not None:
            if running := list(self._tasks):  # what is under way may still be answered
                self._loop.run_until_complete(asyncio.wait(running, timeout=DRAIN))
            if not self._done:
                raise UserError(self._fatal)
        while self._done:
            yield self._done.popleft()

    async def _probe(self) -> None:
        await self._open.wait()
        if not self._ending.is_set():
            await self._structured.probe(self._post)

    async def _call(self, request: Request, alone: bool) -> None:
        if not alone:
            await self._open.wait()
        self._unprobed += 1
        if self._unprobed > BEFORE_PROBE:
            await self._structured.known(PROBE_WAIT)
        try:
            done = await self._with_retries(request)
            if isinstance(done, Answer):
                self._check_model(done)
            else:
                self._ending.set()
            if self._fatal is None or isinstance(done, Answer):
                self._done.append(done)
        except Fatal as err:
            self._fatal = self._fatal or str(err)
            self._ending.set()
        except Exception as err:  # a bug: shown by the next collect, for a task that dies unseen is waited for forever
            self._bug = err
        self._open.set()
        self._news.set()

    def _check_model(self, answer: Answer) -> None:
        if answer.model and self._models and answer.model not in self._models:
            raise Fatal(
                f"generator.model: {self._settings.base_url} answers as {said(answer.model, self._key)!r}, expected "
                f"{' or '.join(repr(said(name, self._key)) for name in sorted(self._models))}, which gave the answers that this run has. "
                "Serve that model again, or take another run.dir."
            )
        if answer.model:
            self._models.add(answer.model)

    async def _with_retries(self, request: Request) -> Answer | Failure:
        """The answer of one call; a failure when all tries are spent, or as soon as the run is ending."""
        reason, dear = "not asked: the run was ending", 0
        for attempt in range(self._settings.max_retries + 1):
            try:
                if (done := await self._once(request, again=attempt > 0)) is None:
                    break
                return done
            except Again as err:
                reason, dear = str(err), dear + err.dear
                if err.unreachable and not self._reached and attempt + 1 >= self._first_tries:
                    raise Fatal(
                        f"generator.base_url: got {self._settings.base_url}, where no server answers ({err.unreachable}), "
                        "expected an OpenAI-compatible server. Start it, or correct the address."
                    ) from None
                if dear == MOST_DEAR_TRIES or attempt == self._settings.max_retries:
                    reason += f", after {attempt} retries"
                    break
                await self._rest(pause(self._settings.retry_pause, attempt, err.after))
        return Failure(request.id, reason)

    async def _once(self, request: Request, again: bool) -> Answer | Failure | None:
        """One try, None when the run is ending. Raises: Again, Fatal."""
        entered, refused = await self._pace.enter(again), None
        try:
            if self._ending.is_set():
                return None
            done = await self._structured.ask(request, self._post)
            refused = False
            return done
        except Again as err:
            refused = err.overloaded
            self._say(str(err))
            raise
        finally:
            self._pace.leave(entered, refused)

    def _say(self, reason: str) -> None:
        """What is wrong, for whoever watches; not more often than he can read."""
        if time.monotonic() - self._said > SECONDS_BETWEEN_LINES:
            self._said = time.monotonic()
            log.info("generate: %s: %s. Tried again later; %d calls at once", self._url, reason, self._pace.places)

    @property
    def _first_tries(self) -> int:
        return min(TRIES_BEFORE_FIRST_CONTACT, self._settings.max_retries + 1)

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ending.wait()

    async def _post(self, id: str, payload: str) -> Answer | Failure:
        """What one POST gives. Raises: Again, Fatal, SchemaRefused."""
        try:
            async with self._session.post(self._url, data=payload, headers=JSON, allow_redirects=False) as response:
                reply = Reply(response.status, response.headers, await _text(response))
        except aiohttp.ClientConnectorError as err:
            why = said(str(getattr(err, "os_error", None) or err), self._key)
            raise Again(f"cannot connect: {why}", overloaded=True, unreachable=why) from None
        except TimeoutError:
            limit = self._settings.timeout
            raise Again(f"timeout: no whole answer in {limit:g} s (generator.timeout)", dear=True) from None
        except aiohttp.ClientError as err:
            lost = isinstance(err, aiohttp.ClientConnectionError)
            raise Again(f"{type(err).__name__}: {said(str(err), self._key)}", overloaded=lost) from None
        done = meaning(id, reply, self._settings, self._key, self._reached)
        self._reached = True
        return done

    def close(self) -> None:
        running = list(self._tasks)  # a copy: tasks leave the set as they end
        for task in running:
            task.cancel()
        if running:
            self._loop.run_until_complete(asyncio.wait(running))
        self._loop.run_until_complete(self._session.close())
        self._loop.close()
        self._structured.close()


async def _text(response: aiohttp.ClientResponse) -> str:
    body = bytearray()
    async for block in response.content.iter_any():
        body += block
        if len(body) > MOST_BYTES:
            raise Again(f"reply too long: more than {MOST_BYTES} bytes", dear=True)
    return body.decode("utf-8", errors="replace")
