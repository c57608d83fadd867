"""The rows of a run for the page's browser: accepted rows and rejects with all their steps, within a budget of bytes."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from targen.runtime.errors import UserError
from targen.runtime.jsonl import Json, read_jsonl
from targen.runtime.paths import RunPaths
from targen.tasks.task import Row, Task

REPEATS = ("duplicate", "near_duplicate", "repeated_seed", "contamination")  # steps that reject repetitions
# in a script element: markup, line ends of JavaScript, lone surrogates
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
Ask = Callable[[Json, Sequence[Row], Sequence[object]], list[object]]  # (story, rows, texts): see Prompts.of


@dataclass(frozen=True)
class TaskEntries:
    """The entries of a task as JSON, in groups that are kept or left out as a whole.

    `has_seeds`: instance seeds were generated in a step of their own; `is_checked`: self-correction checked the rows.
    """

    task: Task
    groups: tuple["Group", ...]
    has_seeds: bool
    is_checked: bool
    list_prompts: Sequence[object] = ()


@dataclass(frozen=True)
class Group:
    """The entries of an instance (one row, or a pair in AX-g), or a reject."""

    is_reject: bool
    key: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Sample:
    """How many rows and rejects of a task are on the page, and how many the run has."""

    task: Task
    rows: int
    all_rows: int
    rejects: int
    all_rejects: int


@dataclass(frozen=True)
class Browser:
    """`data` is JSON that is safe inside a script element."""

    data: str
    samples: tuple[Sample, ...]

    @property
    def is_complete(self) -> bool:
        """Whether the page has every row, not only a sample."""
        return all((sample.rows, sample.rejects) == (sample.all_rows, sample.all_rejects) for sample in self.samples)


def task_entries(
    paths: RunPaths,
    task: Task,
    number: int,
    analysis: Json | None,
    has_seeds: bool,
    is_checked: bool,
    ask: Ask = lambda *_: [],
) -> TaskEntries:
    """The entries of a task; `number` is its index on the page, `ask` gives the prompts of an attempt.

    Raises: UserError if its files do not match.
    """
    groups = tuple(_groups(paths, number, task, _row_findings(analysis or {}), ask))
    return TaskEntries(task, groups, has_seeds, is_checked)


def browser(tasks: Sequence[TaskEntries], budget: int, prompt_lines: Sequence[str] = ()) -> Browser:
    """The entries of all tasks, and the lines of their prompts; if they exceed `budget` bytes, a uniform sample in which pairs stay complete."""
    kept = groups_within_budget([group for entries in tasks for group in entries.groups], budget)
    samples = []
    for entries in tasks:
        counts = [
            sum(
                len(group.entries)
                for group in entries.groups
                if group.is_reject == is_reject and (count_all or id(group) in kept)
            )
            for is_reject in (False, True)
            for count_all in (False, True)
        ]
        samples.append(Sample(entries.task, *counts))
    heads = [
        {
            "title": entries.task.folder,
            "labels": [label.name for label in entries.task.labels],
            "seeds": entries.has_seeds,
            "checked": entries.is_checked,
            "first": entries.list_prompts,
        }
        for entries in tasks
    ]
    groups = [group for entries in tasks for group in entries.groups if id(group) in kept]
    lines = ",\n".join(text for group in groups for text in group.entries)
    return Browser(
        f'{{"tasks": {script_json(heads)}, "lines": {script_json(list(prompt_lines))}, "entries": [\n{lines}\n]}}',
        tuple(samples),
    )


def groups_within_budget(groups: Sequence[Group], budget: int) -> set[int]:
    """The ids of as many groups as fit, drawn by their keys alone."""
    sizes = [sum(len(text.encode()) + 2 for text in group.entries) for group in groups]
    if sum(sizes) <= budget:
        return {id(group) for group in groups}
    order = sorted(range(len(groups)), key=lambda index: blake2b(groups[index].key.encode(), digest_size=8).digest())
    kept, bytes_left = set(), budget
    for index in order:
        if sizes[index] <= bytes_left:
            kept.add(id(groups[index]))
            bytes_left -= sizes[index]
    return kept


def _groups(paths: RunPaths, number: int, task: Task, findings: Mapping[int, Json], ask: Ask) -> Iterator[Group]:
    folder = paths.synthetic(task.name)
    rows = [row for _, row in read_jsonl(folder / "train.jsonl", surrogates=True)]
    stories = [story for _, story in read_jsonl(folder / "provenance.jsonl", surrogates=True)]
    if len(rows) != len(stories):
        raise UserError(
            f"{folder / 'provenance.jsonl'}: got {len(stories)} lines, expected one for each of {len(rows)} rows. Generate again."
        )
    for start in range(0, len(rows), task.rows_per_slot):
        pairs = zip(rows[start : start + task.rows_per_slot], stories[start : start + task.rows_per_slot], strict=True)
        entries = [{"task": number, **_row(task, row, story), **findings.get(row["idx"], {})} for row, story in pairs]
        entries[0] |= _prompts_json(ask, stories[start], rows[start : start + task.rows_per_slot], entries[0])
        yield Group(False, f"{task.name} {entries[0]['slot']}", tuple(map(script_json, entries)))
    for line, reject in read_jsonl(folder / "rejects.jsonl", surrogates=True):
        slot = reject.get("slot")  # an answer with a list of contexts or instance seeds belongs to no slot
        key = f"{task.name} reject {line}" if slot is None else f"{task.name} {slot} {reject['attempt']}"
        entry = {"task": number, **_reject(task, reject)}
        yield Group(True, key, (script_json(entry | _prompts_json(ask, reject, reject.get("rows") or (), entry)),))


def _prompts_json(ask: Ask, story: Json, rows: Sequence[Row], entry: Json) -> Json:
    """The prompts of an entry, whose own texts are numbered as page.js does it."""
    named_texts = [*entry.get("texts", ()), *(pair for row in entry.get("rows", ()) for pair in row)]
    named_texts += [*entry["seed"], *entry["shown"], *entry["variant"]]
    prompts = ask(story, rows, [text for _, text in named_texts])
    return {"asked": prompts} if prompts else {}


def _row(task: Task, row: Json, story: Json) -> Json:
    """An entry. A text of the instance seed that is also in the row is given by its index in `texts`."""
    texts = plain_fields(task.view(row))
    index_of = {text: index for index, (_, text) in enumerate(texts)}
    seed = [[name, index_of.get(text, text)] for name, text in plain_fields(story["instance_seed"])]
    return {
        "idx": row["idx"],
        "slot": story["slot"],
        "before": story["label_before"],
        "label": story["label_after"],
        "variant": plain_fields(story["variant"]),
        "shown": _context_fields(story),
        "seed": seed,
        "texts": texts,
        "explanation": story["explanation"],
        **({"votes": plain_fields(story["votes"])} if "votes" in story else {}),
    }


def _reject(task: Task, reject: Json) -> Json:
    """An entry with the `rows` of the attempt if it got that far, else its raw answer. Older runs have fewer fields."""
    labels = {"before": reject["label_before"], "label": reject["label_after"]} if "label_after" in reject else {}
    rows = [plain_fields(task.view(row)) for row in reject.get("rows") or ()]
    return {
        "slot": reject.get("slot"),
        "step": reject["step"],
        "reason": reject["reason"],
        "label_asked": reject.get("label"),
        "variant": plain_fields(reject.get("variant") or {}),
        "shown": _context_fields(reject),
        "seed": plain_fields(reject.get("instance_seed") or {}),
        "rows": rows,
        **labels,
        **({"explanation": reject["text"]} if labels and reject["step"] == "self_correction" else {}),
        **({"text": reject["text"]} if not labels else {}),
        **({"near": [reject["reason"]]} if reject["step"] in REPEATS else {}),
    }


def plain_fields(fields: Mapping[str, object]) -> list[list[str]]:
    """Fields as pairs of name and text; nested values as JSON."""
    return [
        [name, "; ".join(map(str, value)) if isinstance(value, list) else str(value)] for name, value in fields.items()
    ]


def _context_fields(story: Json) -> list[list[str]]:
    """The context, or what methods other than TarGEN put into the prompt instead."""
    fields = plain_fields(story.get("attributes") or {})
    if story.get("context"):
        fields.append(["context", story["context"]])
    if "round" in story:
        fields.append(["round", str(story["round"])])
    if "task_instruction" in story:
        fields.append(["instruction", story["task_instruction"]])
    if "demonstrations" in story:
        rows = story["demonstrations"]
        numbers = [f"{key} {', '.join(map(str, rows[key]))}" for key in ("idx", "question", "query") if key in rows]
        fields.append(["demonstrations", "; ".join([f"{rows['task']} {rows['split']}, {numbers[0]}", *numbers[1:]])])
    return fields


def _row_findings(analysis: Json) -> dict[int, Json]:
    """What the analysis says about single synthetic rows, by idx: which original rows they repeat, and their PVI in bits."""
    details = analysis.get("details", {})
    findings: dict[int, Json] = {}
    for repeat in details.get("repeats", {}).get("b", []):
        how = f"similarity {repeat['similarity']:.2f}" if repeat["similarity"] is not None else "a run of words"
        text = f"original {repeat['split']} row {repeat['original']}: {how}"
        findings.setdefault(repeat["idx"], {}).setdefault("near", []).append(text)
    for idx, bits in details.get("pvi", {}).get("b", {}).get("rows", []):
        findings.setdefault(idx, {})["pvi"] = bits
    return findings


def script_json(value: object) -> str:
    """JSON that cannot end its script element or become markup, whatever its texts contain."""
    return UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value, ensure_ascii=False))
