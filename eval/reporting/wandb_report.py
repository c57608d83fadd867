"""The report in Weights & Biases: its tables, its figures, and the scores of each task in the run's summary."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval.analysis.results import SIDES
from eval.tables.formats import Table, Value, plain_text
from targen.config.settings import Settings
from targen.runtime.jsonl import Json
from train.runtime.wandb_run import wandb_run

BOUNDS = {"": "value", "_low": "low", "_high": "high"}
NUMBERS = (*SIDES, "difference")
# labels of a record that distinguish scores of the same task, metric and level
LABELS = ("suite", "model", "setting", "scoring", "arm", "synthetic_rows", "made_rows", "generator", "run")


def log_report(settings: Settings, tables: Sequence[Table], figures: Sequence[Path], analyses: Sequence[Json]) -> None:
    """Logs the tables, the figures (PNG files) and the analyses into one W&B run of the job type `report`.

    Does nothing if wandb.mode is `disabled`. The run's id is stored in the report's folder: a second report continues the same run.
    """
    with wandb_run(settings, settings.report_folder, "report", job_type="report") as run:
        if run is None:
            return
        import wandb

        logged: dict[str, wandb.Table | wandb.Image] = {f"figures/{path.stem}": wandb.Image(path) for path in figures}
        for table in tables:
            lines = [[plain_text(text) for text in line] for line in table.lines]
            logged[f"tables/{table.name}"] = wandb.Table(
                columns=[plain_text(text) for text in table.header], data=lines
            )
        if records := analysis_records(analyses):
            values = [list(record.values()) for record in records]
            logged["tables/analyses"] = wandb.Table(columns=list(records[0]), data=values)
        if logged:
            run.log(logged)
        run.summary.update(summary(tables, analyses))


def analysis_records(analyses: Sequence[Json]) -> list[dict[str, Value]]:
    """A record for each measure of each task, all with the same columns."""
    return [_record(analysis, measure) for analysis in analyses for measure in analysis["measures"]]


def _record(analysis: Json, measure: Json) -> dict[str, Value]:
    record: dict[str, Value] = {
        "task": analysis["task"],
        "part": measure["part"],
        "measure": measure["name"],
        "title": plain_text(measure["title"]),
        "unit": measure["unit"],
    }
    for number in NUMBERS:
        values = measure[number] or {}
        record |= {f"{number}{ending}": values.get(key) for ending, key in BOUNDS.items()}
    for side in SIDES:
        name = analysis["sets"].get(side, {}).get("name")
        record |= {f"set_{side}": name and plain_text(name), f"size_{side}": measure["size"].get(side)}
    return record | {"authors": measure["theirs"]}


def summary(tables: Sequence[Table], analyses: Sequence[Json]) -> dict[str, float]:
    """The scores of each task as <table>/<task>/<metric>/<level>, the measures as analysis/<task>/<measure>/<a, b or difference>."""
    values = {key: value for table in tables for key, value in _scores(table).items()}
    for analysis in analyses:
        for measure in analysis["measures"]:
            for number in (number for number in NUMBERS if measure[number] is not None):
                values[f"analysis/{analysis['task']}/{measure['name']}/{number}"] = measure[number]["value"]
    return values


def _scores(table: Table) -> dict[str, float]:
    """The scores of a table; labels that differ between scores of the same key become part of it."""
    by_key: dict[str, list[Mapping[str, Value]]] = defaultdict(list)
    for record in table.records:
        if record.get("kind") == "score" and record.get("level"):
            by_key[f"{table.name}/{record['task']}/{record['metric']}/{record['level']}"].append(record)
    scores = {}
    for key, records in by_key.items():
        differing = [name for name in LABELS if len({record[name] for record in records}) > 1]
        for record in records:
            if isinstance(value := record["value"], float):
                scores[plain_text("/".join([key, *(str(record[name]) for name in differing)]))] = value
    return scores
