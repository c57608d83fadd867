"""How long intervals, tests and tables take, on this machine.

python scripts/bench/tables.py              # both
python scripts/bench/tables.py statistics   # or: tables
"""

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from scored_runs import SPECS, Made, answers, gold_of, write_run  # noqa: E402

from eval.answers import Archive  # noqa: E402
from eval.blocks import entry  # noqa: E402
from eval.evidence import Evidence  # noqa: E402
from eval.metrics import score  # noqa: E402
from eval.paper_report import paper_report, write_figures, write_tables  # noqa: E402
from eval.results import read_runs  # noqa: E402
from targen.slots import rng  # noqa: E402

ROWS = 10_000
RECIPES = (  # models and settings
    ("flan_t5_base", "single"), ("flan_t5_base", "single-instruct"), ("flan_t5_large", "single"),
    ("flan_t5_large", "single-instruct"), ("t5_large", "single"), ("t5_3b", "single"), ("llama2_7b", "single"),
)  # fmt: skip


def statistics() -> None:
    """Prints the seconds of all metrics and of 10,000 resamples for eight tasks of 10,000 rows, predictions read."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict.fromkeys(SPECS, ROWS)
        (run,) = read_runs([write_run(Path(folder) / "run", [Made(task, "original", 0.7) for task in SPECS], sizes)])
        found = {task: answers(SPECS[task], gold_of(SPECS[task], ROWS), 0.7, rng(0, task)) for task in SPECS}
        begun = time.monotonic()
        for task, predictions in found.items():
            score(SPECS[task], predictions)
        metrics, begun = time.monotonic() - begun, time.monotonic()
        evidence = Evidence(Archive())
        for task in SPECS:
            estimates = evidence.estimates(entry([result for result in run.results if result.score.task == task]))
            assert all(one.bounds is not None for one in estimates.values())
        seconds = time.monotonic() - begun
    print(
        f"statistics: metrics and bootstrap of 10,000 resamples for eight tasks of 10,000 rows: {metrics + seconds:.1f} s "
        f"(under 30), the metrics {metrics:.1f} s of it",
        flush=True,
    )


def tables() -> None:
    """Prints the seconds from the scores and predictions of 500 cells, with evaluation splits of their real sizes, to tables."""
    with tempfile.TemporaryDirectory() as folder:
        cells = [
            Made(task, arm, right, seed, *recipe)
            for recipe in RECIPES
            for task in SPECS
            for arm, right in (("original", 0.7), ("synthetic", 0.72), ("mixed", 0.73))
            for seed in (0, 1, 2)
        ]
        root = write_run(Path(folder) / "run", cells)
        begun, used = time.monotonic(), time.process_time()
        (run,) = read_runs([root])
        whole = paper_report(run.results, list(SPECS))
        write_tables(root / "report" / "tables", whole)
        seconds, used, begun = time.monotonic() - begun, time.process_time() - used, time.monotonic()
        write_figures(root / "report" / "figures", whole)
        figures = time.monotonic() - begun
    print(
        f"tables: from {len(cells)} cells: {seconds:.1f} s (under 10), {used:.1f} s of the processors; their figures {figures:.1f} s",
        flush=True,
    )


def main() -> None:
    for name in sys.argv[1:] or ["statistics", "tables"]:
        {"statistics": statistics, "tables": tables}[name]()


if __name__ == "__main__":
    main()
