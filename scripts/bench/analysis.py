"""How fast the analyses are: 2 x 10,000 rows as long as RTE's, and Self-BLEU beside NLTK's.

    python scripts/bench/analysis.py              # all
    python scripts/bench/analysis.py self_bleu    # one; the others: rows, page

Words are drawn from RTE's own training rows where `RTE_TRAIN` names a file of them in the official format, else from this
project's few rows; every row is as long as one of those. `rows` is the command as a user types it: everything but
difficulty and embeddings, held against a train, a val and a test split. Named entities are part of it where spaCy and its
model are installed. NLTK is timed on some of the sentences, each against all others, and its time for all is extrapolated from
these; the values are compared on the same sentences. `page` is the report's page with 5,000 ReCoRD rows, in Chromium.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from eval.analysis.measures.self_bleu import SelfBleu
from targen.data.original import FIXTURE
from targen.text.normalise import units

ROWS, BLEU_ROWS, NLTK_ROWS, PAGE_ROWS = 10_000, 1_000, 30, 5_000
SPLITS = {"train": ROWS, "val": 277, "test": 3_000}
PARTS = "[lexical,bias,correctness,contamination]"


def source() -> list[dict[str, str]]:
    """The rows of RTE whose words and lengths are drawn."""
    path = Path(os.environ.get("RTE_TRAIN", FIXTURE / "RTE" / "val.jsonl"))
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def random_rows(count: int, seed: int) -> list[dict[str, object]]:
    """Rows as long as those of the source, of words drawn from it."""
    sources, draws = source(), Random(seed)
    words = [word for row in sources for name in ("premise", "hypothesis") for word in row[name].split()]
    rows: list[dict[str, object]] = []
    for idx in range(count):
        lengths = {
            name: len(text.split()) for name, text in draws.choice(sources).items() if name in ("premise", "hypothesis")
        }
        texts = {name: " ".join(draws.choices(words, k=length)) for name, length in lengths.items()}
        rows.append({**texts, "label": draws.choice(["entailment", "not_entailment"]), "idx": idx})
    return rows


def write(folder: Path, rows: list[dict[str, object]], split: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows() -> None:
    """The whole command, on two cores."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, (split, count) in enumerate(SPLITS.items()):
            write(folder / "a" / "RTE", random_rows(count, seed), split)
        write(folder / "b" / "RTE", random_rows(ROWS, 99), "train")
        arguments = [f"a={folder / 'a'}", f"b={folder / 'b'}", "task=rte", f"analysis.parts={PARTS}"]
        arguments += [f"run.dir={folder / 'out'}"]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1"}
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "eval.analyze", *arguments], env=environment, capture_output=True, text=True
        )
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(done.stderr)
        analysis = json.loads((folder / "out" / "analysis" / "rte.json").read_text(encoding="utf-8"))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    peak, computed = used.ru_maxrss / 1024, used.ru_utime + used.ru_stime
    missing = ", ".join(part["part"] for part in analysis["missing"]) or "nothing"
    print(
        f"rows: 2 x {ROWS:,} rows, {analysis['details']['words']['b']:,} words in b: {seconds:.0f} s ({computed:.0f} s of one core), {peak:.0f} MB at most"
    )
    print(f"      bounds: 120 s on two cores, 2,048 MB; missing: {missing}")


def self_bleu() -> None:
    """All rows against all others, by this project and by NLTK."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu

    texts = [units(f"{row['premise']} {row['hypothesis']}") for row in random_rows(BLEU_ROWS, 7)]
    started = time.monotonic()
    scores = SelfBleu(texts).scores()
    our_seconds = time.monotonic() - started
    smooth = SmoothingFunction().method1
    indices = range(0, BLEU_ROWS, BLEU_ROWS // NLTK_ROWS)
    started = time.monotonic()
    theirs = [
        sentence_bleu(texts[:index] + texts[index + 1 :], texts[index], smoothing_function=smooth) for index in indices
    ]
    nltk_seconds = (time.monotonic() - started) / len(indices) * BLEU_ROWS
    difference = max(abs(scores[index] - score) for index, score in zip(indices, theirs, strict=True))
    print(
        f"self_bleu: {BLEU_ROWS:,} rows: {our_seconds:.2f} s; NLTK {nltk_seconds:.0f} s, from {len(indices)} sentences: {nltk_seconds / our_seconds:,.0f} times"
    )
    print(f"      bounds: at least 10 times, 1e-6; values differ by {difference:.1e} at most")


def page() -> None:
    """The longest rows of all tasks; the best of five tries."""
    from playwright.sync_api import sync_playwright

    from eval.reporting.report import report
    from tests.support.page_runs import filter_times, first_paint, many_rows

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        run = many_rows(Path(name), PAGE_ROWS)
        started = time.monotonic()
        path = report(run)
        seconds, size = time.monotonic() - started, path.stat().st_size / 1e6
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        paint = min(first_paint(chromium, path) for _ in range(5))
        times = filter_times(chromium, path, tries=5)
        chromium.close()
    filters = ", ".join(f"{change} {value:.0f}" for change, value in times.items())
    print(
        f"page: {PAGE_ROWS:,} ReCoRD rows: written in {seconds:.1f} s, {size:.1f} MB, first paint {paint:.0f} ms; filters, ms: {filters}"
    )
    print("      bounds: 15 MB, 2,000 ms, 200 ms")


if __name__ == "__main__":
    chosen = sys.argv[1:] or ["self_bleu", "rows", "page"]
    for name in chosen:
        {"self_bleu": self_bleu, "rows": rows, "page": page}[name]()
