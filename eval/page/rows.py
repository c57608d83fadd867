"""The rows of a run for the page's browser: accepted and refused ones, each with its whole story, within so many bytes."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from targen.jsonl import Json, read_jsonl
from targen.paths import RunPaths
from targen.task import TaskSpec

REPEATS = ("duplicate", "near_duplicate", "repeated_seed", "contamination")  # steps that refuse what is there already
# in a script element: markup, line ends of JavaScript, half characters
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Browser:
    """`data` is JSON that can stand in a script element; counts by task: [rows here, in the set, refused here, in all]."""

    data: str
    counts: dict[str, tuple[int, int, int, int]]

    @property
    def is_whole(self) -> bool:
        return all((rows, refused) == (of, of_refused) for rows, of, refused, of_refused in self.counts.values())


def browser(paths: RunPaths, tasks: Sequence[TaskSpec], analyses: Mapping[str, Json], budget: int) -> Browser:
    """All that was made for the tasks; where that is more than `budget` bytes, an even sample in which pairs are whole."""
    groups = [group for number, task in enumerate(tasks) for group in _groups(paths, number, task, analyses)]
    kept = _within(groups, budget)
    counts = {}
    for number, task in enumerate(tasks):
        found = [
            sum(len(group.entries) for group in some if group.task == number and group.refused == refused)
            for refused in (False, True)
            for some in (kept, groups)
        ]
        counts[task.name] = (found[0], found[1], found[2], found[3])
    heads = [{"title": task.folder, "labels": [label.name for label in task.labels]} for task in tasks]
    entries = ",\n".join(text for group in kept for text in group.entries)
    return Browser(f'{{"tasks": {_script_json(heads)}, "entries": [\n{entries}\n]}}', counts)


@dataclass(frozen=True)
class _Group:
    """The entries of one instance, a row or a pair (AX-g), or of one refused attempt, as JSON."""

    task: int
    refused: bool
    key: str
    entries: tuple[str, ...]


def _within(groups: Sequence[_Group], budget: int) -> list[_Group]:
    """As many as fit, by a draw that depends on nothing but their names; in their order."""
    sizes = [sum(len(text.encode()) + 2 for text in group.entries) for group in groups]
    if sum(sizes) <= budget:
        return list(groups)
    drawn = sorted(range(len(groups)), key=lambda place: blake2b(groups[place].key.encode(), digest_size=8).digest())
    kept, left = set(), budget
    for place in drawn:
        if sizes[place] <= left:
            kept.add(place)
            left -= sizes[place]
    return [group for place, group in enumerate(groups) if place in kept]


def _groups(paths: RunPaths, number: int, task: TaskSpec, analyses: Mapping[str, Json]) -> Iterator[_Group]:
    folder, marks = paths.synthetic(task.name), _marks(analyses.get(task.name, {}))
    rows = (row for _, row in read_jsonl(folder / "train.jsonl"))
    stories = (story for _, story in read_jsonl(folder / "provenance.jsonl"))
    pending: list[str] = []
    for row, story in zip(rows, stories, strict=True):
        entry = {"task": number, **_row(task, row, story), **marks.get(row["idx"], {})}
        pending.append(_script_json(entry))
        if len(pending) == task.rows_per_slot:
            yield _Group(number, False, f"{task.name} {story['slot']}", tuple(pending))
            pending = []
    for _, reject in read_jsonl(folder / "rejects.jsonl"):
        key = f"{task.name} {reject['slot']} {reject['attempt']}"
        yield _Group(number, True, key, (_script_json({"task": number, **_reject(reject)}),))


def _row(task: TaskSpec, row: Json, story: Json) -> Json:
    """Texts that stand in the row and in its instance seed stand here once: there by their place among `texts`."""
    texts = [[name, text] for name, text in task.code.view(task, row).items()]
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


def _reject(reject: Json) -> Json:
    """Runs of an earlier version say less of what was refused."""
    judged = {"before": reject["label_before"], "label": reject["label_after"]} if "label_after" in reject else {}
    return {
        "slot": reject["slot"],
        "step": reject["step"],
        "reason": reject["reason"],
        "text": reject["text"],
        "asked": reject.get("label"),
        "variant": plain_fields(reject.get("variant", {})),
        "shown": _shown(reject),
        "seed": plain_fields(reject.get("instance_seed", {})),
        **judged,
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
