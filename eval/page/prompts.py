"""The prompts of rows, stored compactly: a line of many prompts is stored once, and a text of the row itself is a reference."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from targen.synthesis.item_lists import list_specs
from targen.synthesis.rebuilt_prompts import rebuilt_prompts
from targen.synthesis.recipe import Recipe
from targen.tasks.task import Row

SHORT = 12  # characters; shorter texts of a row are not looked for in its prompts
SHARE = 0.125  # of the bytes for rows that lines of prompts may take
MOST = 2000  # attempts whose prompts are shown; rebuilding them takes some milliseconds each


class Prompts:
    """The lines of the prompts so far. `full`: no further prompts are added."""

    def __init__(self, budget: int) -> None:
        self._ids: dict[str, int] = {}
        self._left = int(SHARE * budget)
        self._attempts = 0
        self.full = False

    @property
    def lines(self) -> list[str]:
        """The lines by their numbers."""
        return list(self._ids)

    def of(self, recipe: Recipe, story: Mapping[str, Any], rows: Sequence[Row], texts: Sequence[object]) -> list[Any]:
        """[step, parts] of every prompt of a line of provenance or of rejects; nothing once there is no more room.

        A part is the number of a line, or -1 - i for text i of `texts`, those of the entry itself.
        """
        self.full = self.full or self._attempts >= MOST
        if self.full:
            return []
        self._attempts += 1
        return [[step, self._parts(prompt, texts)] for step, prompt in rebuilt_prompts(recipe, story, rows)]

    def of_lists(self, recipe: Recipe) -> list[Any]:
        """[name, parts] of the first prompt of each item list, such as the contexts."""
        if self.full:
            return []
        prompts = [(spec.name, spec.prompt(min(spec.per_call, spec.size), [])) for spec in list_specs(recipe)]
        return [[f"{name}, first round", self._parts(messages[-1]["content"], ())] for name, (messages, _) in prompts]

    def _parts(self, prompt: str, texts: Sequence[object]) -> list[int]:
        parts = {text: [-1 - i] for i, text in enumerate(texts) if isinstance(text, str) and len(text) >= SHORT}
        pattern = "|".join(map(re.escape, sorted(parts, key=len, reverse=True)))
        pieces = re.split(f"({pattern})", prompt) if pattern else [prompt]
        return [part for piece in pieces for part in (parts[piece] if piece in parts else self._numbers(piece))]

    def _numbers(self, piece: str) -> list[int]:
        for line in piece.splitlines(keepends=True):
            if line not in self._ids:
                self._left -= len(line.encode(errors="replace")) + 3
                self._ids[line] = len(self._ids)
        self.full = self.full or self._left < 0
        return [self._ids[line] for line in piece.splitlines(keepends=True)]
