"""The body that one server takes: that of the settings, changed where the server refused something."""

import logging
from collections.abc import Awaitable, Callable

from targen.llm.messages import Answer
from targen.llm.provider_body import BodyChanges
from targen.llm.refused_fields import FieldRefused
from targen.runtime.jsonl import Json

log = logging.getLogger(__name__)
Post = Callable[[str, Json], Awaitable[Answer]]  # id and body of a request -> its answer
FORMAT = "response_format"
FINDINGS = {"system": "does not take the role system", "stream": "streams its replies"}
REMEDIES = {
    "system": "Its text is put before the user's",
    "stream": '"stream": false is sent',
    "max_tokens": "It is sent as max_completion_tokens",
}


class Adaptation:
    """The changes of the body that one server needs. A change is kept if it led to an answer."""

    def __init__(self, base_url: str, changes: BodyChanges) -> None:
        self._base_url = base_url
        self.changes = changes
        self.learnt: dict[str, str] = {}  # change -> the server's message
        self.refuses = False  # something was refused, whether or not a change helped

    async def answer(self, post: Post, id: str, body: Json, plain: bool) -> tuple[Answer, dict[str, str]]:
        """The outcome of a request, and the changes that it took, with the server's messages. `plain`: no response_format.

        Raises: whatever `post` raises, but for FieldRefused.
        """
        changes = self.changes.with_change(FORMAT) if plain else self.changes
        applied: dict[str, str] = {}
        before, tried_changes = (changes, applied, ""), set[str]()
        while True:
            try:
                answer = await post(id, changes.body(body))
            except FieldRefused as err:
                self.refuses = True
                if str(err) == before[2]:  # the last change made no difference
                    changes, applied = before[:2]
                untried = (change for change in err.changes(body) if change not in tried_changes)
                change = next((change for change in untried if _matters(change, changes, body)), None)
                if change is None:
                    return err.otherwise(), {}
                before = (changes, applied, str(err))
                tried_changes.add(change)
                changes, applied = changes.with_change(change), applied | {change: str(err)}
            else:
                self.learn({change: words for change, words in applied.items() if change != FORMAT})
                return answer, applied

    def learn(self, changes: dict[str, str]) -> None:
        """Makes these changes from now on, and logs each that is new. `changes`: change -> the server's message."""
        for change, words in changes.items():
            if change in self.learnt:
                continue
            self.learnt[change] = words
            self.changes = self.changes.with_change(change)
            finding, remedy = FINDINGS.get(change, f"does not take {change}"), REMEDIES.get(change, "It is left out")
            log.warning("generate: %s %s (%s). %s", self._base_url, finding, words, remedy)

    def disable_streaming(self) -> None:
        """Asks for replies in one piece from now on, unless the settings have a value for `stream`."""
        if "stream" not in self.changes.extra:
            self.learn({"stream": "a reply came as text/event-stream"})


def _matters(change: str, changes: BodyChanges, body: Json) -> bool:
    return changes.with_change(change).body(body) != changes.body(body)
