"""The page as one HTML file that holds its style, script, pictures and rows; it loads nothing from elsewhere."""

import base64
import hashlib
import re
import shlex
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.analysis.figures.figures import FIGURES as ANALYSIS_FIGURES
from eval.analysis.figures.panels import is_different
from eval.analysis.summary import unit_text
from eval.figures.figures import CAPTIONS as CAPTIONS_OF_SCORES
from eval.page.answers import Answers
from eval.page.arm_colours import arm_colours
from eval.page.findings import Findings, interval_text
from eval.page.funnel import Funnel, counts_table, learnability_table, rounds_table
from eval.page.headline import Headline
from eval.page.rows import Browser
from eval.tables.formats import Table
from targen.config.arms import ARMS
from targen.runtime.jsonl import Json

HERE = Path(__file__).resolve().parent
CAPTIONS = CAPTIONS_OF_SCORES | {name: figure.caption for name, figure in ANALYSIS_FIGURES.items()}


@dataclass(frozen=True)
class Figure:
    """A picture in the page; its size in pixels reserves its space until it is drawn."""

    caption: str
    base64: str
    width: int
    height: int


@dataclass(frozen=True)
class Start:
    """One start of the run by `targen.run`: its command line, and the versions it ran with."""

    command: str
    versions: str
    when: str


@dataclass(frozen=True)
class Page:
    """Everything that the page shows. Any text may come from a model; all text is escaped when the page is written."""

    answer: Sequence[str]  # sentences on the scores
    learnability_sentences: Sequence[str]  # and on what the rows teach small students
    has_real_rows: bool  # whether models were scored on rows that the generator did not write
    title: str
    note: str | None
    warning: str | None
    missing: Sequence[str]
    generator: str
    model: str
    headlines: Sequence[Headline]
    comparisons: Mapping[str, Sequence[str]]
    tables: Sequence[Table]
    figures: Sequence[Figure]
    funnels: Sequence[Funnel]
    analyses: Sequence[Findings]
    not_measured: Mapping[str, Sequence[str]]  # the tasks, by what could not be measured and why
    browser: Browser | None
    answers: Answers | None
    starts: Sequence[Start]
    config: str


def starts(record: Json) -> list[Start]:
    """The starts in run.json, oldest first; empty if the phases were started one at a time."""
    return [_start(start) for start in [*record.get("earlier_starts", []), record] if "overrides" in start]


def _start(record: Json) -> Start:
    libraries = ", ".join(f"{name} {version}" for name, version in record.get("libraries", {}).items())
    seconds = ", ".join(f"{name} {value} s" for name, value in record.get("seconds", {}).items())
    return Start(
        command=shlex.join(["python", "-m", "targen.run", *record["overrides"]]),
        versions=f"commit {record.get('git_commit') or 'unknown'}; Python {record.get('python')}, {libraries}; {record.get('machine')}",
        when=f"{record.get('start')}: {seconds or 'no phase finished'}",
    )


def html(page: Page) -> str:
    """The page as text. Its content security policy allows its own scripts alone, named by their hashes."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval_text, "unit": unit_text}
    environment.tests["different"] = is_different
    scripts = {name: (HERE / f"{name}.js").read_text(encoding="utf-8") for name in ("list", "page", "answers")}
    text = environment.get_template("page.html.j2").render(
        vars(page),
        style=Markup((HERE / "page.css").read_text(encoding="utf-8") + arm_colours()),
        scripts={name: Markup(script) for name, script in scripts.items()},
        script_hashes=Markup(" ".join(map(_hash, scripts.values()))),
        answer_entries=Markup(page.answers.data) if page.answers is not None else "",
        entries=Markup(page.browser.data) if page.browser is not None else "",
        counts=counts_table(page.funnels),
        learnability=learnability_table(page.funnels),
        rounds=rounds_table(page.funnels),
        arm_name=arm_name,
    )
    return re.sub("[\ud800-\udfff]", "\ufffd", text)  # lone surrogates cannot be encoded


def _hash(script: str) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def arm_name(level: str) -> str:
    """The arm of a level such as `none, 5 shots`, as the style sheet names it."""
    arm = level.partition(",")[0]
    return arm if arm in ARMS else "other"


def figure(path: Path) -> Figure:
    """The figure of a PNG file."""
    data = path.read_bytes()
    width, height = struct.unpack(">II", data[16:24])  # of its first chunk. Source: PNG specification, 11.2.1
    caption = CAPTIONS.get(path.stem, path.stem)
    return Figure(caption, base64.b64encode(data).decode("ascii"), width, height)
