"""A rule about settings that are fine alone and wrong together, and the check of a table of rules."""

import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import Any

from targen.config.settings import Settings

Text = str | Callable[[Settings], str]  # "{train.loss}" stands for the value of that key


@dataclass(frozen=True)
class Rule:
    """Its message is `key: got ..., expected .... What to do`; `expected` is left out where `got` already says it."""

    key: Text
    broken: Callable[[Settings], bool]
    got: Text
    expected: Text = ""
    what_to_do: Text = ""

    def message(self, settings: Settings) -> str:
        """The error for settings that break the rule: key, value, what is expected, what to do."""
        key, got, expected, what_to_do = (
            _filled(text, settings) for text in (self.key, self.got, self.expected, self.what_to_do)
        )
        return f"{key}: got {got}{expected and f', expected {expected}'}. {what_to_do}".rstrip()


def broken_rules(rules: Iterable[Rule], settings: Settings) -> list[str]:
    """The message of each broken rule, in the order of the table."""
    return [rule.message(settings) for rule in rules if rule.broken(settings)]


class _Formatter(string.Formatter):
    """Fills in values as YAML writes them: null, true, false."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        return str(super().format_field(value, format_spec))


def _filled(text: Text, settings: Settings) -> str:
    if callable(text):
        return text(settings)
    return _Formatter().vformat(text, (), {field.name: getattr(settings, field.name) for field in fields(settings)})
