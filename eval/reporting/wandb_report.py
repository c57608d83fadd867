"""The report in Weights & Biases: its tables, its figures, and the numbers of each task in the run's summary."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.analysis.results import SIDES
from eval.tables.formats import Table, Value, plain
from targen.config.settings import Settings
from targen.runtime.jsonl import Json
from train.runtime.wandb_run import wandb_run

BOUNDS = {"": "value", "_low": "low", "_high": "high"}
NUMBERS = (*SIDES, "difference")
# labels of a record that tell scores of equal task, metric and level apart
NAMED = ("suite", "model", "setting", "scoring", "arm", "synthetic_rows", "made_rows", "generator", "run")


def log_report(settings: Settings, tables: Sequence[Table], figures: Sequence[Path], analyses: Sequence[Json]) -> None:
    """Logs the tables, the figures (PNG files) and the analyses into one W&B run of the job type `report`.

    Nothing where wandb.mode is `disabled`. The run's id stands in the report's folder: a second report goes on in the same run.
    """
    with wandb_run(settings, settings.report_folder, "report", job_type="report") as run:
        if run is None:
            return
        import wandb

        logged: dict[str, wandb.Table | wandb.Image] = {f"figures/{path.stem}": wandb.Image(path) for path in figures}
        for one in tables:
            lines = [[plain(text) for text in line] for line in one.lines]
            logged[f"tables/{one.name}"] = wandb.Table(columns=[plain(text) for text in one.header], data=lines)
        if records := analysis_records(analyses):
            values = [list(record.values()) for record in records]
            logged["tables/analyses"] = wandb.Table(columns=list(records[0]), data=values)
        if logged:
            run.log(logged)
        run.summary.update(summary(tables, analyses))


def analysis_records(analyses: Sequence[Json]) -> list[dict[str, Value]]:
    """A record for each measure of each task, all with the same columns."""
    return [_record(analysis, one) for analysis in analyses for one in analysis["measures"]]


def _record(analysis: Json, measure: Json) -> dict[str, Value]:
    own: dict[str, Value] = {
        "task": analysis["task"],
        "part": measure["part"],
        "measure": measure["name"],
        "title": plain(measure["title"]),
        "unit": measure["unit"],
    }
    for number in NUMBERS:
        found = measure[number] or {}
        own |= {f"{number}{ending}": found.get(key) for ending, key in BOUNDS.items()}
    for side in SIDES:
        name = analysis["sets"].get(side, {}).get("name")
        own |= {f"set_{side}": name and plain(name), f"size_{side}": measure["size"].get(side)}
    return own | {"authors": measure["theirs"]}


def summary(tables: Sequence[Table], analyses: Sequence[Json]) -> dict[str, float]:
    """The scores of each task as <table>/<task>/<metric>/<level>, the measures as analysis/<task>/<measure>/<a, b or difference>."""
    found = {key: value for table in tables for key, value in _scores(table).items()}
    for analysis in analyses:
        for measure in analysis["measures"]:
            for number in (number for number in NUMBERS if measure[number] is not None):
                found[f"analysis/{analysis['task']}/{measure['name']}/{number}"] = measure[number]["value"]
    return found


def _scores(table: Table) -> dict[str, float]:
    groups: dict[str, list[Mapping[str, Value]]] = defaultdict(list)
    for one in table.records:
        if one.get("kind") == "score" and one.get("level"):
            groups[f"{table.name}/{one['task']}/{one['metric']}/{one['level']}"].append(one)
    found = {}
    for key, own in groups.items():
        differing = [name for name in NAMED if len({one[name] for one in own}) > 1]
        for one in own:
            if isinstance(value := one["value"], float):
                found[plain("/".join([key, *(str(one[name]) for name in differing)]))] = value
    return found
