"""The rows of a run for the page's browser: accepted and refused ones, each with its whole story, within so many bytes."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.tasks.task import Task

REPEATS = ("duplicate", "near_duplicate", "repeated_seed", "contamination")  # steps that refuse what is there already
# in a script element: markup, line ends of JavaScript, half characters
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Made:
    """What was made for a task: its entries as JSON, in groups that are kept or left out as a whole.

    `has_seeds`: instance seeds were asked for by themselves; `is_checked`: self-correction looked at the rows.
    """

    task: Task
    groups: tuple["Group", ...]
    has_seeds: bool
    is_checked: bool


@dataclass(frozen=True)
class Group:
    """An instance, a row or a pair (AX-g), or a refused attempt."""

    refused: bool
    key: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """How many rows and refused attempts of a task are on the page, and how many there are."""

    task: Task
    rows: int
    of_rows: int
    refused: int
    of_refused: int


@dataclass(frozen=True)
class Browser:
    """`data` is JSON that can stand in a script element."""

    data: str
    shown: tuple[Shown, ...]

    @property
    def is_whole(self) -> bool:
        return all((one.rows, one.refused) == (one.of_rows, one.of_refused) for one in self.shown)


def made(paths: RunPaths, task: Task, number: int, analysis: Json | None, has_seeds: bool, is_checked: bool) -> Made:
    """All that was made for a task, the `number`th of the page. Raises: UserError where its files do not fit together."""
    return Made(task, tuple(_groups(paths, number, task, _marks(analysis or {}))), has_seeds, is_checked)


def browser(every: Sequence[Made], budget: int) -> Browser:
    """What was made for all tasks; where that is more than `budget` bytes, an even sample in which pairs are whole."""
    kept = _within([group for one in every for group in one.groups], budget)
    shown = []
    for one in every:
        counts = [
            sum(len(group.entries) for group in one.groups if group.refused == refused and (whole or id(group) in kept))
            for refused in (False, True)
            for whole in (False, True)
        ]
        shown.append(Shown(one.task, *counts))
    heads = [
        {
            "title": one.task.folder,
            "labels": [label.name for label in one.task.labels],
            "seeds": one.has_seeds,
            "checked": one.is_checked,
        }
        for one in every
    ]
    entries = ",\n".join(text for one in every for group in one.groups if id(group) in kept for text in group.entries)
    return Browser(f'{{"tasks": {_script_json(heads)}, "entries": [\n{entries}\n]}}', tuple(shown))


def _within(groups: Sequence[Group], budget: int) -> set[int]:
    """The ids of as many as fit, by a draw that depends on nothing but their names."""
    sizes = [sum(len(text.encode()) + 2 for text in group.entries) for group in groups]
    if sum(sizes) <= budget:
        return {id(group) for group in groups}
    drawn = sorted(range(len(groups)), key=lambda place: blake2b(groups[place].key.encode(), digest_size=8).digest())
    kept, left = set(), budget
    for place in drawn:
        if sizes[place] <= left:
            kept.add(id(groups[place]))
            left -= sizes[place]
    return kept


def _groups(paths: RunPaths, number: int, task: Task, marks: Mapping[int, Json]) -> Iterator[Group]:
    folder = paths.synthetic(task.name)
    rows = [row for _, row in read_jsonl(folder / "train.jsonl")]
    stories = [story for _, story in read_jsonl(folder / "provenance.jsonl")]
    if len(rows) != len(stories):
        raise UserError(
            f"{folder / 'provenance.jsonl'}: got {len(stories)} stories, expected one for each of {len(rows)} rows. Generate again."
        )
    for start in range(0, len(rows), task.rows_per_slot):
        pairs = zip(rows[start : start + task.rows_per_slot], stories[start : start + task.rows_per_slot], strict=True)
        own = [{"task": number, **_row(task, row, story), **marks.get(row["idx"], {})} for row, story in pairs]
        yield Group(False, f"{task.name} {own[0]['slot']}", tuple(map(_script_json, own)))
    for _, reject in read_jsonl(folder / "rejects.jsonl"):
        key = f"{task.name} {reject['slot']} {reject['attempt']}"
        yield Group(True, key, (_script_json({"task": number, **_reject(task, reject)}),))


def _row(task: Task, row: Json, story: Json) -> Json:
    """Texts that stand in the row and in its instance seed stand here once: there by their place among `texts`."""
    texts = plain_fields(task.view(row))
    places = {text: place for place, (_, text) in enumerate(texts)}
    seed = [[name, places.get(text, text)] for name, text in plain_fields(story["instance_seed"])]
    return {
        "idx": row["idx"],
        "slot": story["slot"],
        "before": story["label_before"],
        "label": story["label_after"],
        "variant": plain_fields(story["variant"]),
        "shown": _shown(story),
        "seed": seed,
        "texts": texts,
        "explanation": story["explanation"],
        **({"votes": plain_fields(story["votes"])} if "votes" in story else {}),
    }


def _reject(task: Task, reject: Json) -> Json:
    """`rows` of an attempt that came so far, else its raw answer. Runs of an earlier version say less."""
    judged = {"before": reject["label_before"], "label": reject["label_after"]} if "label_after" in reject else {}
    rows = [plain_fields(task.view(row)) for row in reject.get("rows", ())]
    return {
        "slot": reject["slot"],
        "step": reject["step"],
        "reason": reject["reason"],
        "asked": reject.get("label"),
        "variant": plain_fields(reject.get("variant", {})),
        "shown": _shown(reject),
        "seed": plain_fields(reject.get("instance_seed", {})),
        "rows": rows,
        **judged,
        **({"explanation": reject["text"]} if judged and reject["step"] == "self_correction" else {}),
        **({"text": reject["text"]} if not judged else {}),
        **({"near": [reject["reason"]]} if reject["step"] in REPEATS else {}),
    }


def plain_fields(fields: Mapping[str, object]) -> list[list[str]]:
    return [
        [name, "; ".join(map(str, value)) if isinstance(value, list) else str(value)] for name, value in fields.items()
    ]


def _shown(story: Json) -> list[list[str]]:
    """The context, or what other methods than TarGEN show in its place."""
    found = plain_fields(story.get("attributes", {}))
    if story.get("context"):
        found.append(["context", story["context"]])
    if "task_instruction" in story:
        found.append(["instruction", story["task_instruction"]])
    if "demonstrations" in story:
        rows = story["demonstrations"]
        found.append(["demonstrations", f"{rows['task']} {rows['split']}, idx {', '.join(map(str, rows['idx']))}"])
    return found


def _marks(analysis: Json) -> dict[int, Json]:
    """What the analysis says of single synthetic rows, by idx: which original rows they repeat, and their PVI in bits."""
    details = analysis.get("details", {})
    found: dict[int, Json] = {}
    for one in details.get("repeats", {}).get("b", []):
        how = f"{one['similarity']:.2f} alike" if one["similarity"] is not None else "a run of words"
        text = f"original {one['split']} row {one['original']}: {how}"
        found.setdefault(one["idx"], {}).setdefault("near", []).append(text)
    for idx, bits in details.get("pvi", {}).get("b", {}).get("rows", []):
        found.setdefault(idx, {})["pvi"] = bits
    return found


def _script_json(value: object) -> str:
    """JSON that neither ends its script element nor becomes markup, whatever its texts hold."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
