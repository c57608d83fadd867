"""Any OpenAI-compatible server: many calls at once, bounded retries, and one clear end when it cannot go on."""

import asyncio
import json
import logging
import random
from collections import deque
from collections.abc import Iterator

import aiohttp

from targen.config import Generator
from targen.errors import UserError
from targen.jsonl import Json
from targen.llm import Answer, Failure, Request, answer_from_completion, refusal

log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds before a retry
TRIES_BEFORE_FIRST_CONTACT = 3  # a server that was never there is not waited for
MESSAGE_LENGTH = 300
JSON = {"Content-Type": "application/json"}


class _Fatal(Exception):
    """No call can succeed; the text is for the user."""


class _Again(Exception):
    """This call may succeed later."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class OpenAIServer:
    """`POST <base_url>/chat/completions`, `concurrency` at a time."""

    def __init__(self, settings: Generator, key: str | None) -> None:
        self.window = 2 * settings.concurrency  # the next ones are at hand when a place falls free
        self._settings, self._key = settings, key
        self._url = settings.base_url.rstrip("/") + "/chat/completions"
        self._done: deque[Answer | Failure] = deque()
        self._fatal: str | None = None
        self._bug: Exception | None = None
        self._reached = False
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._places = asyncio.Semaphore(settings.concurrency)
        self._session = self._loop.run_until_complete(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=self._settings.timeout),
            connector=aiohttp.TCPConnector(limit=self._settings.concurrency),
        )

    def submit(self, request: Request) -> None:
        task = self._loop.create_task(self._call(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def collect(self) -> Iterator[Answer | Failure]:
        if not self._done and self._fatal is None and self._bug is None:
            self._loop.run_until_complete(self._news.wait())
        self._news.clear()
        if self._bug is not None:
            raise self._bug
        if not self._done and self._fatal is not None:
            if running := list(self._tasks):  # what is under way may still be answered
                self._loop.run_until_complete(asyncio.wait(running))
            if not self._done:
                raise UserError(self._fatal)
        while self._done:
            yield self._done.popleft()

    async def _call(self, request: Request) -> None:
        async with self._places:
            try:
                if self._fatal is None:
                    self._done.append(await self._with_retries(request))
            except _Fatal as err:
                self._fatal = self._fatal or self._without_key(str(err))
            except (
                Exception
            ) as err:  # a bug: shown by the next collect, for a task that dies unseen is waited for forever
                self._bug = err
            self._news.set()

    async def _with_retries(self, request: Request) -> Answer | Failure:
        pause = FIRST_PAUSE
        for attempt in range(self._settings.max_retries + 1):
            try:
                answer = await self._post(request)
                self._reached = True
                return answer
            except _Again as err:
                reason, after = str(err), err.after
            except aiohttp.ClientConnectorError as err:
                reason, after = f"cannot connect ({err.os_error or err})", None
                if not self._reached and attempt + 1 >= TRIES_BEFORE_FIRST_CONTACT:
                    raise _Fatal(
                        f"generator.base_url: got {self._settings.base_url}, where no server answers ({err.os_error or err}), "
                        "expected an OpenAI-compatible server. Start it, or correct the address."
                    ) from None
            except (TimeoutError, aiohttp.ClientError) as err:
                reason, after = f"{type(err).__name__}: {err}".rstrip(": "), None
            if attempt < self._settings.max_retries:
                await asyncio.sleep(after if after is not None else pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
        return Failure(request.id, self._without_key(f"{reason}, after {self._settings.max_retries} retries"))

    async def _post(self, request: Request) -> Answer | Failure:
        async with self._session.post(self._url, data=request.payload, headers=JSON) as response:
            text = await response.text(errors="replace")
            status = response.status
            if status == 200:
                try:
                    return answer_from_completion(request.id, json.loads(text))
                except (ValueError, RecursionError) as err:
                    raise _Again(f"status 200 without a chat completion ({err})") from None
            said = f"status {status}: {_message(text)}"
            if status == 401 or (status == 403 and not self._reached):
                name = self._settings.api_key_env
                have = f"the key of ${name} is not accepted" if self._key else f"no key is set in ${name}"
                raise _Fatal(
                    f"generator.base_url: {self._settings.base_url} answers {said}; {have}. Put the key in the environment."
                )
            if status == 404:
                raise _Fatal(
                    f"generator.base_url: {self._settings.base_url} answers {said}, expected a server that has the model "
                    f"{self._settings.model!r}. Correct generator.base_url or generator.model."
                )
            if status in (408, 409, 425, 429) or status >= 500:
                raise _Again(said, _seconds(response.headers.get("Retry-After")))
            if (refused := refusal(request.id, _error(text), self._settings.model)) is not None:
                return refused
            return Failure(request.id, self._without_key(said))

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def close(self) -> None:
        running = list(self._tasks)  # a copy: tasks leave the set as they end
        for task in running:
            task.cancel()
        if running:
            self._loop.run_until_complete(asyncio.wait(running))
        self._loop.run_until_complete(self._session.close())
        self._loop.close()


def _error(text: str) -> Json:
    """The error object of an answer; its `message` is the whole text where there is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {"message": text}
    error = found.get("error", found) if isinstance(found, dict) else found
    return error if isinstance(error, dict) else {"message": error}


def _message(text: str) -> str:
    """What the server said, on one line."""
    return " ".join(str(_error(text).get("message", text)).split())[:MESSAGE_LENGTH]


def _seconds(header: str | None) -> float | None:
    try:
        return min(max(float(header), 0.0), LONGEST_PAUSE) if header is not None else None
    except ValueError:
        return None  # a date: our own pause serves
