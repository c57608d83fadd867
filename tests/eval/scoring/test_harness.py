"""SuperGLUE as we score it, held against lm-evaluation-harness: one model, the same rows, the same answers and scores.

Both ways: our scorer is given the prompts and answers of the harness's own tasks, and the harness those of ours.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from lm_eval.evaluator import evaluate
from lm_eval.tasks._yaml_loader import load_yaml

from eval.openllm.model import CellModel
from eval.openllm.tasks import TASKS, ReadOnce
from eval.scoring.baseline import gold_of, options_of
from eval.scoring.metrics import Prediction, score
from targen.config.required_files import local_file
from targen.data.original import FIXTURE, evenly_spread, read_rows
from targen.tasks.task import Example, Row, Task
from tests.support.commands import ORIGINALS, settings
from tests.support.small_data import SPECS
from train.data.rendering import CUE, answers, prompt
from train.families.registry import text_family_named
from train.families.text import EncodedContinuation, EncodedText
from train.grid.cells import cells
from train.loop.saving import load_cell
from train.models.loading import Loaded
from train.runtime.processes import Processes

NAMES = ("boolq", "cb", "copa", "record", "rte", "wic", "wsc")
FAMILIES = ("decoder", "seq2seq")
ROWS = 10  # of a task; of ReCoRD, whose passages have several queries with many answers, three
METRICS = {"cb": {"acc": "accuracy", "f1": "f1_macro"}, "record": {"f1": "record_f1", "em": "record_em"}}


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest) -> tuple[str, Loaded, Any]:
    """(family, model, the harness's view of it)."""
    positions = ["model.config.max_position_embeddings=16384"] if request.param == "decoder" else []
    run = settings(f"model=tiny_{request.param}", "arms=[none]", "task=cb", *positions)
    torch.manual_seed(3)
    model = load_cell(run, cells(run)[0])
    model.model.eval()
    backend = {"decoder": "causal", "seq2seq": "seq2seq"}[request.param]
    return request.param, model, CellModel(model, Processes(), backend=backend, batch_size=3, max_length=16000)


def rows_of(name: str, folder: Path) -> Sequence[Row]:
    task = SPECS[name]
    return evenly_spread(
        read_rows(local_file(folder, task, task.eval_split), task, labelled=True), 3 if name == "record" else ROWS
    )


def examples_of(task: Task, rows: Sequence[Row]) -> list[Example]:
    return [example for row in rows for example in task.examples(row)]


def documents(task: Task, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as the Hub's mirror has them, which the harness reads: labels are numbers, a document is a query."""
    if task.name == "record":
        return [
            {
                "passage": row["passage"]["text"],
                "query": query["query"],
                "entities": task.label_options(row),
                "answers": [answer["text"] for answer in query["answers"]],
            }
            for row in rows
            for query in row["qas"]
        ]
    names = [label.name for label in task.labels]
    mirror_rows = []
    for row in rows:
        label = row["label"] if not isinstance(row["label"], str) else names.index(row["label"])
        texts = {**row, **row.get("target", {}), "label": int(label)}
        mirror_rows.append({key: value for key, value in texts.items() if key != "target"})
    return mirror_rows


def harness_task(name: str, docs: list[dict[str, Any]], **changes: Any) -> ReadOnce:
    config = load_yaml(TASKS / "super_glue" / name / "default.yaml", resolve_func=True)
    config = {key: value for key, value in config.items() if key != "tag"} | changes
    data = datasets.DatasetDict({"validation": datasets.Dataset.from_list(docs)})
    splits = {"training_split": None, "custom_dataset": lambda **_: data, "num_fewshot": 0}
    return ReadOnce(config=config | splits)


def harness_results(task: ReadOnce, model: Any) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """The harness's scores, and its samples in the order of the documents."""
    out = evaluate(model, {"tasks": {task.task_name: task}})
    results = {key.split(",")[0]: value for key, value in out["results"][task.task_name].items() if "," in key}
    return results, sorted(out["samples"][task.task_name], key=lambda sample: sample["doc_id"])


def best(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


def compare_with_the_harness_prompts(name: str, folder: Path, kind: str, model: Loaded, lm: Any) -> int:
    """Our scorer on what the harness asks; the number of documents."""
    task, rows = SPECS[name], rows_of(name, folder)
    results, samples = harness_results(harness_task(name, documents(task, rows)), lm)
    encoded_type = {"decoder": EncodedContinuation, "seq2seq": EncodedText}[kind]
    encoded = []
    for sample in samples:
        pairs = [lm._encode_pair(context, answer) for context, answer in sample["arguments"]]
        encoded.append(encoded_type(pairs[0][0], tuple(answer for _, answer in pairs), gold=-1))
    predicted = dict(text_family_named(kind).predict(model, encoded, 4))
    for index, sample in enumerate(samples):
        expected = torch.tensor([response[0] for response in sample["filtered_resps"]]).log_softmax(dim=0)
        assert torch.allclose(torch.tensor(predicted[index]), expected, atol=1e-3)
    assert len(samples) == sum(len(row.get("qas", [0])) for row in rows)
    if name != "record":
        right = [best(predicted[index]) == sample["target"] for index, sample in enumerate(samples)]
        if name == "copa":  # its target is a text
            right = [best(predicted[index]) == sample["doc"]["label"] for index, sample in enumerate(samples)]
        assert results["acc"] == sum(right) / len(right)
    return len(samples)


def compare_with_our_prompts(name: str, folder: Path, kind: str, model: Loaded, lm: Any) -> dict[str, float]:
    """The harness, with its own metrics, on what we ask; our scores."""
    task, rows = SPECS[name], rows_of(name, folder)
    examples, end = examples_of(task, rows), model.tokenizer.eos_token
    cue, blank = (f"\n{CUE}", " ") if kind == "decoder" else ("", "")
    docs = [
        {
            **document,
            "ours": prompt(task, example) + cue,
            "options": [blank + answer + end for answer in answers(task, example)],  # the end counts, as we count it
            **({"entities": list(example.choices)} if name == "record" else {"right": example.gold[0]}),
        }
        for document, example in zip(documents(task, rows), examples, strict=True)
    ]
    changes = {"doc_to_text": "{{ours}}", "doc_to_choice": "options", "target_delimiter": "", "process_docs": None}
    target = 0 if name == "record" else "right"  # ReCoRD's metric reads the answers themselves
    model.tokenizer.split_special_tokens = False  # the harness gets the end as text
    results, samples = harness_results(harness_task(name, docs, doc_to_target=target, **changes), lm)
    model.tokenizer.split_special_tokens = True

    ours = dict(text_family_named(kind).predict(model, text_family_named(kind).encode(model, task, examples, 16000), 4))
    predictions = []
    for index, (example, sample) in enumerate(zip(examples, samples, strict=True)):
        theirs = torch.tensor([response[0] for response in sample["filtered_resps"]])
        assert torch.allclose(torch.tensor(ours[index]), theirs.log_softmax(dim=0), atol=1e-3)
        assert best(ours[index]) == best(theirs.tolist())  # row by row
        options = options_of(task, example)
        predictions.append(Prediction(example.id, gold_of(task, example), options[best(ours[index])], {}))
    scores = score(task, predictions)
    for their_name, our_name in METRICS.get(name, {"acc": "accuracy"}).items():
        assert scores[our_name] == pytest.approx(results[their_name]), our_name
    return scores


@pytest.mark.parametrize("name", NAMES)
def test_our_scorer_answers_the_prompts_of_the_harness_as_it_does(name: str, loaded: tuple[str, Loaded, Any]) -> None:
    assert compare_with_the_harness_prompts(name, FIXTURE, *loaded) >= 3


@pytest.mark.parametrize("name", NAMES)
def test_the_harness_scores_our_prompts_as_we_do(name: str, loaded: tuple[str, Loaded, Any]) -> None:
    assert compare_with_our_prompts(name, FIXTURE, *loaded)


@pytest.mark.slow
@pytest.mark.skipif(not ORIGINALS.is_dir(), reason=f"needs the official SuperGLUE files in {ORIGINALS}")
@pytest.mark.parametrize("name", NAMES)
def test_both_on_official_rows(name: str, loaded: tuple[str, Loaded, Any]) -> None:
    compare_with_the_harness_prompts(name, ORIGINALS, *loaded)
    compare_with_our_prompts(name, ORIGINALS, *loaded)
