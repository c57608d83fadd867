"""The body of a request as a provider takes it. Ids and hashes are those of the unchanged body: a call stays the same call."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from targen.config.groups.generation import Generator
from targen.runtime.jsonl import Json

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class BodyChanges:
    """What is changed in every body before it is sent."""

    drop: frozenset[str] = frozenset()
    values: frozenset[tuple[str, float]] = frozenset()  # a field is left out where it has this value
    rename: Mapping[str, str] = field(default_factory=dict)
    merges_system: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def body(self, body: Json) -> Json:
        """The body that is sent; the given one stays as it is."""
        if self == UNCHANGED:
            return body
        changed = {
            self.rename.get(name, name): value
            for name, value in body.items()
            if name not in self.drop and not (isinstance(value, int | float) and (name, value) in self.values)
        }
        if self.merges_system:
            changed["messages"] = merge_system(changed["messages"])
        return changed | dict(self.extra)

    def with_change(self, change: str) -> "BodyChanges":
        """These changes and one more: `stream`, `system`, `max_tokens` (renamed), `temperature=0.0` or the name of a field."""
        name, _, value = change.partition("=")
        if change == "stream":
            return replace(self, extra={"stream": False, **self.extra})
        if change == "system":
            return replace(self, merges_system=True)
        if change == "max_tokens":
            return replace(self, rename={"max_tokens": "max_completion_tokens", **self.rename})
        if value:
            return replace(self, values=self.values | {(name, float(value))})
        return replace(self, drop=self.drop | {name})


UNCHANGED = BodyChanges()


def body_changes(settings: Generator) -> BodyChanges:
    """The changes that `generator.drop`, `rename`, `system`, `extra_body` and `chat_template_kwargs` ask for."""
    template = {"chat_template_kwargs": settings.chat_template_kwargs} if settings.chat_template_kwargs else {}
    return BodyChanges(
        drop=frozenset(settings.drop),
        rename={str(name): new_name for name, new_name in settings.rename.items()},
        merges_system=settings.system == "merge",
        extra={**settings.extra_body, **template},
    )


def merge_system(messages: Messages) -> Messages:
    """The messages with the system's text before the first user message."""
    if len(messages) < 2 or messages[0]["role"] != "system":
        return messages
    system, user, *rest = messages
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]
