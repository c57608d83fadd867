"""The OpenLLM tasks: scores are the model's own log-likelihoods, kept task by task, from files as they are released."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from eval.openllm import harness as openllm
from eval.openllm.model import check_vllm
from eval.openllm.tasks import TASKS, harness_tasks
from eval.run import evaluate
from eval.scoring.ready_cells import ReadyCell
from targen.config.openllm import subtasks, suite_from_file
from targen.config.required_files import check_openllm_files
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from tests.support.commands import command, lines, settings
from tests.support.openllm_data import NOUNS, arc, gsm8k, hellaswag, mmlu, openllm_files, truthfulqa, winogrande, write
from tests.support.small_data import small_overrides, tiny_overrides
from train.grid.cells import Cell, cells, fingerprint
from train.loop.saving import load_cell
from train.models.loading import Loaded
from train.run import train
from train.runtime.processes import Processes

FAMILIES = ("tiny_decoder", "tiny_seq2seq")


def run_of(folder: Path, *overrides: str, model: str = "tiny_decoder", suite: str = "openllm_6") -> Settings:
    usual = [f"model={model}", "arms=[none]", "task=cb", f"eval.openllm.suite={suite}", "eval.superglue=false"]
    return settings(*usual, f"eval.openllm.data_dir={folder}", f"run.dir={folder / 'run'}", *overrides)


class Loads:
    """Loads the tiny model, always the same, and counts how often."""

    def __init__(self, run: Settings) -> None:
        self.settings, self.count = run, 0

    def __call__(self, cell: Cell) -> Loaded:
        self.count += 1
        torch.manual_seed(1)
        loaded = load_cell(self.settings, cell)
        loaded.model.eval()
        return loaded


def task_rows(run: Settings, load: Any = None) -> dict[str, dict[str, Any]]:
    """Rows by task."""
    ready = [ReadyCell(cell, fingerprint(run, cell)) for cell in cells(run)]
    rows = openllm.score(run, Processes(), ready, load or Loads(run))
    assert {row["benchmark"] for row in rows} == {run.eval.openllm.suite}
    return {row["task"]: row for row in rows}


def log_likelihood(loaded: Loaded, prompt: str, answer: str) -> float:
    """Of the answer's tokens, without its end, by one plain forward pass."""
    begin, end = (loaded.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    with torch.no_grad():
        if hasattr(loaded.model, "get_encoder") and loaded.model.config.is_encoder_decoder:
            prompt_ids = torch.tensor([[*begin, loaded.tokenizer.eos_token_id]])
            logits = loaded.model(input_ids=prompt_ids, labels=torch.tensor([end])).logits[0]
        else:
            logits = loaded.model(input_ids=torch.tensor([begin + end])).logits[0, len(begin) - 1 : -1]
    return float(logits.log_softmax(dim=-1).gather(1, torch.tensor(end).unsqueeze(1)).sum())


def best(scores: list[float]) -> int:
    return max(range(len(scores)), key=scores.__getitem__)


@pytest.mark.parametrize("model", FAMILIES)
def test_scores_are_the_models_own_log_likelihoods(tmp_path: Path, model: str) -> None:
    """Against one plain forward pass per answer, over prompts written here by hand."""
    openllm_files(tmp_path)
    tasks = "eval.openllm.tasks=[arc_challenge,hellaswag,truthfulqa_mc2,winogrande]"
    run = run_of(tmp_path, tasks, "eval.openllm.num_fewshot=0", "eval.openllm.batch_size=3", model=model)
    rows = task_rows(run)
    loaded = Loads(run)(cells(run)[0])

    right = []
    for row in arc(6):
        texts = row["choices"]["text"]
        prompt = f"Question: {row['question']}\nAnswer:"
        likelihoods = [log_likelihood(loaded, prompt, f" {text}") / len(text) for text in texts]
        right.append("ABCD"[best(likelihoods)] == row["answerKey"])
    assert (rows["arc_challenge"]["value"], rows["arc_challenge"]["n"]) == (sum(right) / 6, 6)

    right = []
    for row in hellaswag(6):
        prompt = f"Walking: {row['ctx_a']} She"
        likelihoods = [log_likelihood(loaded, prompt, f" {end}") / len(end) for end in row["endings"]]
        right.append(best(likelihoods) == int(row["label"]))
    assert rows["hellaswag"]["value"] == sum(right) / 6

    right = []
    for number in range(4):
        begins = [f"The {NOUNS[number]} did not fit into the box because the {noun}" for noun in (NOUNS[number], "box")]
        right.append(best([log_likelihood(loaded, begin, " was too large.") for begin in begins]) == 0)
    assert rows["winogrande"]["value"] == sum(right) / 4

    primer = harness_tasks(subtasks(run.eval.openllm)[2:3], str(tmp_path), None)[0].task
    shares = []
    for row in truthfulqa(4):
        prompt = primer.doc_to_text(row)
        assert prompt.startswith("Q: What is human life expectancy") and prompt.endswith(f"Q: {row['question']}\nA:")
        likelihoods = [log_likelihood(loaded, prompt, f" {text}") for text in row["mc2_targets"]["choices"]]
        shares.append(float(torch.tensor(likelihoods).softmax(dim=0)[:2].sum()))
    assert rows["truthfulqa_mc2"]["value"] == pytest.approx(sum(shares) / 4, abs=1e-4)
    assert (rows["arc_challenge"]["shots"], rows["arc_challenge"]["scoring"]) == (0, "harness")
    assert "average" not in rows  # other numbers of examples than the suite's, and not all tasks


@pytest.mark.parametrize("model", FAMILIES)
def test_mmlu_is_the_plain_mean_of_its_subjects_after_five_examples(tmp_path: Path, model: str) -> None:
    openllm_files(tmp_path)
    subjects = suite_from_file("openllm_4").tasks["mmlu"].parts
    assert len(subjects) == 57 == len(list((TASKS / "mmlu/default").glob("mmlu_*.yaml")))
    counts = [3] + 56 * [1]  # rows of each subject
    run = run_of(tmp_path, "eval.openllm.tasks=[mmlu]", model=model, suite="openllm_4")
    row = task_rows(run)["mmlu"]
    loaded = Loads(run)(cells(run)[0])

    def text(row: dict[str, Any]) -> str:
        return (
            row["question"] + "".join(f"\n{c}. {t}" for c, t in zip("ABCD", row["choices"], strict=True)) + "\nAnswer:"
        )

    means = []
    for subject, count in zip(subjects, counts, strict=True):
        header = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        examples = "".join(f"{text(row)} {'ABCD'[row['answer']]}\n\n" for row in mmlu(subject, 5))
        right = [
            best([log_likelihood(loaded, header + examples + text(row), f" {c}") for c in "ABCD"]) == row["answer"]
            for row in mmlu(subject, count)
        ]
        means.append(sum(right) / count)
    assert row["value"] == pytest.approx(sum(means) / 57)
    assert (row["shots"], row["n"], row["rows_in_split"]) == (5, 59, 59)
    by_size = sum(mean * count for mean, count in zip(means, counts, strict=True)) / 59
    assert means[0] != pytest.approx(sum(means) / 57) and row["value"] != pytest.approx(by_size)  # the weights matter


def test_what_was_found_is_not_asked_again(tmp_path: Path) -> None:
    openllm_files(tmp_path)
    overrides = ["eval.openllm.tasks=[arc_challenge,winogrande]", "eval.openllm.num_fewshot=1"]
    run = run_of(tmp_path, *overrides)

    class Killed(Loads):
        """Ends the start at the second task."""

        def __call__(self, cell: Cell) -> Loaded:
            loaded = super().__call__(cell)
            forward, self.calls = loaded.model.forward, 0

            def interrupted(*args: Any, **options: Any) -> Any:
                self.calls += 1
                if (run.paths.root / "predictions").is_dir():
                    raise KeyboardInterrupt
                return forward(*args, **options)

            loaded.model.forward = interrupted
            return loaded

    with pytest.raises(KeyboardInterrupt):
        task_rows(run, Killed(run))
    (path,) = (run.paths.root / "predictions").iterdir()
    assert list(json.loads(path.read_text())) == ["arc_challenge 1-shot"]
    first_load, second_load = Loads(run), Loads(run)
    rows = task_rows(run, first_load)
    assert task_rows(run, second_load) == rows
    assert (first_load.count, second_load.count) == (1, 0)
    saved = json.loads(path.read_text())
    assert len(saved["winogrande 1-shot"]["found"]["documents"]["acc"]) == 4

    limited = run_of(tmp_path, *overrides, "eval.openllm.limit=3")
    limited_load = Loads(limited)
    row = task_rows(limited, limited_load)["arc_challenge"]
    assert (row["n"], row["rows_in_split"], limited_load.count) == (3, 6, 1)
    assert row["origin"] == "ARC-Challenge, test, local files, first 3 documents"
    assert row["evaluated"] != rows["arc_challenge"]["evaluated"]


def test_files_as_they_are_released_are_read_too(tmp_path: Path) -> None:
    hub, released = tmp_path / "hub", tmp_path / "released"
    openllm_files(hub)
    foundry_rows = [
        {
            "query": f"Question: {row['question']}",
            "choices": row["choices"]["text"],
            "gold": "ABCD".index(row["answerKey"]),
        }
        for row in arc(6)
    ]
    write(released / "arc_challenge" / "test.jsonl", foundry_rows)
    texts = [
        {"query": f"Walking: {row['ctx_a']} She", "choices": row["endings"], "gold": int(row["label"])}
        for row in hellaswag(6)
    ]
    write(released / "hellaswag" / "val.jsonl", texts)
    targets = [
        {"question": row["question"], "mc2_targets": dict(zip(*row["mc2_targets"].values(), strict=True))}
        for row in truthfulqa(4)
    ]
    (released / "truthfulqa").mkdir()
    (released / "truthfulqa" / "mc_task.json").write_text(json.dumps(targets))
    overrides = ["eval.openllm.tasks=[arc_challenge,hellaswag,truthfulqa_mc2]", "eval.openllm.num_fewshot=0"]
    hub_rows, released_rows = task_rows(run_of(hub, *overrides)), task_rows(run_of(released, *overrides))
    assert [row["value"] for row in hub_rows.values()] == [row["value"] for row in released_rows.values()]
    assert hub_rows["arc_challenge"]["evaluated"] == released_rows["arc_challenge"]["evaluated"]
    assert hub_rows["truthfulqa_mc2"]["evaluated"] == released_rows["truthfulqa_mc2"]["evaluated"]
    assert released_rows["hellaswag"]["origin"] == "HellaSwag, validation, local files (converted)"


def test_the_average_of_a_whole_suite_and_an_answer_without_a_number(tmp_path: Path) -> None:
    openllm_files(tmp_path, subject_rows=2)  # a subject with a single row has no standard error
    six = ["arc_challenge", "hellaswag", "mmlu", "truthfulqa_mc2", "winogrande", "gsm8k"]
    rows = task_rows(run_of(tmp_path))
    assert list(rows) == [*six, "average"]
    assert [rows[name]["shots"] for name in six] == [25, 10, 5, 0, 5, 5]
    assert [rows[name]["n"] for name in six] == [6, 6, 115, 4, 4, 3]
    assert (rows["gsm8k"]["value"], rows["gsm8k"]["unparsed"]) == (0, 3)  # it knows nothing
    assert rows["average"]["value"] == pytest.approx(sum(rows[name]["value"] for name in six) / 6)
    squares = [rows[name]["stderr"] ** 2 for name in six]
    assert sum(squares) > 0 and rows["average"]["stderr"] == pytest.approx(sum(squares) ** 0.5 / 6)
    assert (rows["average"]["n"], rows["average"]["unparsed"]) == (138, 3)


def test_scores_above_chance_of_the_second_leaderboard(tmp_path: Path) -> None:
    """Chance stands in the suite as the harness's numbers of choices give it; scores are normalised by it."""
    from lm_eval.tasks._yaml_loader import load_yaml

    suite = suite_from_file("openllm_v2")
    bbh = suite.tasks["bbh"]
    assert isinstance(bbh.chance, dict) and len(bbh.parts) == 24 == len(bbh.chance)
    for part in bbh.parts:
        choices = load_yaml(TASKS / bbh.file.format(part=part), resolve_func=False)["doc_to_choice"]
        assert bbh.chance[part] == f"1/{len(choices)}"
    musr = suite.tasks["musr"]
    assert musr.normalised(0.6, "object_placements") == pytest.approx(0.5)  # (0.6 - 0.2) / 0.8
    assert musr.normalised(0.3, "murder_mysteries") == 0
    for part, count in (("murder_mysteries", 2), ("object_placements", 5), ("team_allocation", 3)):
        choices = [f"the {noun}" for noun in NOUNS[:count]]
        rows = [{"narrative": "A tale.", "question": f"Who {n}?", "choices": str(choices), "answer_choice": choices[n % count]}
                for n in range(4)]  # fmt: skip
        write(tmp_path / "musr" / f"{part}.jsonl", rows)
    for part in suite.tasks["gpqa"].parts:
        wrong = {f"Incorrect Answer {n}": NOUNS[n] for n in (1, 2, 3)}
        write(tmp_path / "gpqa" / part / "train.jsonl", [{"Question": f"What {n}?", "Correct Answer": "lamp", **wrong} for n in range(8)])  # fmt: skip
    run = run_of(tmp_path, "eval.openllm.tasks=[gpqa,musr]", suite="openllm_v2")
    rows = task_rows(run)
    saved = json.loads(next((run.paths.root / "predictions").iterdir()).read_text())
    parts = {part: saved[f"musr/{part} 0-shot"]["found"]["values"]["acc_norm,none"] for part in musr.parts}
    assert rows["musr"]["value"] == pytest.approx(sum(parts.values()) / 3)
    assert rows["musr"]["normalised"] == pytest.approx(sum(musr.normalised(v, part) for part, v in parts.items()) / 3)
    assert rows["gpqa"]["normalised"] == pytest.approx(max(0, (rows["gpqa"]["value"] - 0.25) / 0.75))
    first, second = (harness_tasks(subtasks(run.eval.openllm)[:1], str(tmp_path), None)[0] for _ in range(2))
    assert first.evaluated == second.evaluated  # the harness shuffles GPQA's answers when it reads them
    assert len({doc["answer"] for doc in first.task.eval_docs}) > 1


REFUSED = [
    (["model=tiny_encoder", "arms=[original]"], r"eval\.openllm\.suite: got openllm_6 with the encoder tiny_encoder"),
    (
        ["model=tiny_seq2seq", "eval.openllm.backend=vllm"],
        r"got vllm with tiny_seq2seq \(seq2seq\), expected a decoder",
    ),
    (["eval.openllm.tasks=[arc]"], r"eval\.openllm\.tasks: got 'arc', expected tasks of openllm_6"),
    (["eval.openllm.suite=null"], r"eval\.superglue: got false without eval\.openllm\.suite"),
]


@pytest.mark.parametrize(("overrides", "words"), REFUSED)
def test_what_has_no_sense_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        run_of(tmp_path, *overrides)


def test_all_missing_files_are_named_in_one_line_before_a_model_is_loaded(tmp_path: Path) -> None:
    write(tmp_path / "arc_challenge" / "test.jsonl", arc(3))
    write(tmp_path / "truthfulqa" / "validation.jsonl", truthfulqa(3))
    done = command(
        "eval.run", "model=tiny_decoder", "arms=[none]", "task=cb", "eval.superglue=false",
        "eval.openllm.suite=openllm_4", f"eval.openllm.data_dir={tmp_path}", f"run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    for words in (
        "lacks arc_challenge/train.jsonl; hellaswag/validation.jsonl, hellaswag/train.jsonl; mmlu/abstract_algebra/test.jsonl",
        "and 111 more like them",
        "'eval.openllm.tasks=[truthfulqa_mc2]'",
        "'eval.openllm.tasks=[arc_challenge,truthfulqa_mc2]' eval.openllm.num_fewshot=0",
    ):
        assert words in done.stderr
    assert not (tmp_path / "run").exists()


def test_garbled_files_and_too_few_examples_are_told(tmp_path: Path) -> None:
    load = Loads(run_of(tmp_path))
    tasks = ["eval.openllm.tasks=[arc_challenge]"]
    write(tmp_path / "arc_challenge" / "test.jsonl", [arc(1)[0], {"question": "Which?", "answerKey": "A"}])
    with pytest.raises(UserError, match=r"test\.jsonl:2: lacks choices, expected a row of arc_challenge"):
        task_rows(run_of(tmp_path, *tasks, "eval.openllm.num_fewshot=0"), load)
    write(tmp_path / "arc_challenge" / "test.jsonl", [{"query": "Question: Which?", "choices": ["a", "b"], "gold": 5}])
    with pytest.raises(
        UserError, match=r"test\.jsonl:1: got a row that cannot be read .*, expected one of arc_challenge"
    ):
        task_rows(run_of(tmp_path, *tasks, "eval.openllm.num_fewshot=0"), load)
    write(tmp_path / "arc_challenge" / "test.jsonl", arc(3))
    write(tmp_path / "arc_challenge" / "train.jsonl", arc(24))
    with pytest.raises(
        UserError, match=r"arc_challenge shows 25 examples, but there are 24 to choose from \(local files\)"
    ):
        task_rows(run_of(tmp_path, *tasks), load)
    assert load.count == 0


def test_prompts_that_are_cut_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "gsm8k" / "test.jsonl", gsm8k(2))
    write(tmp_path / "winogrande" / "validation.jsonl", winogrande(2))
    write(tmp_path / "winogrande" / "train.jsonl", winogrande(6))
    row = task_rows(run_of(tmp_path, "eval.openllm.tasks=[winogrande]", "eval.openllm.max_length=64"))["winogrande"]
    assert (row["n"], row["cut"]) == (2, 4)  # two prompts for each document
    short = run_of(tmp_path, "eval.openllm.tasks=[gsm8k]", "eval.openllm.max_length=64", "eval.openllm.num_fewshot=0")
    with pytest.raises(UserError, match=r"eval\.openllm\.max_length: got 64, too few tokens for gsm8k"):
        task_rows(short)
    with pytest.raises(UserError, match=r"got 4096, expected at most 2048, the positions of tiny_decoder"):
        task_rows(run_of(tmp_path, "eval.openllm.tasks=[winogrande]", "eval.openllm.max_length=4096"))


def test_a_cell_with_adapters_is_scored_beside_its_superglue_rows(tmp_path: Path) -> None:
    openllm_files(tmp_path / "files")
    suite = [
        "eval.openllm.suite=openllm_4", f"eval.openllm.data_dir={tmp_path / 'files'}", "eval.openllm.num_fewshot=0",
        "eval.openllm.tasks=[arc_challenge]",
    ]  # fmt: skip
    usual = tiny_overrides(tmp_path, "train.lora.r=4", model="tiny_decoder")
    run = settings(*usual, *suite)
    train(run)
    evaluate(run)
    rows = lines(run.paths.scores)
    assert {(row["benchmark"], row["task"]) for row in rows} == {("superglue", "rte"), ("openllm_4", "arc_challenge")}
    (row,) = [row for row in rows if row["benchmark"] == "openllm_4"]
    assert (row["setting"], row["arm"], row["train_rows"], row["method"]) == ("single-lora", "synthetic", 10, "targen")
    cell = cells(run)[0]
    loaded = load_cell(run, cell)
    right = []
    for document in arc(6):
        prompt, texts = f"Question: {document['question']}\nAnswer:", document["choices"]["text"]
        likelihoods = [log_likelihood(loaded, prompt, f" {text}") / len(text) for text in texts]
        right.append("ABCD"[best(likelihoods)] == document["answerKey"])
    assert row["value"] == sum(right) / 6
    evaluate(settings(*usual, *suite, "eval.superglue=false"))
    assert lines(run.paths.scores) == rows  # those of the other benchmark stay
    with pytest.raises(
        UserError, match=r"has adapters only\. Run phases=\[train\] again with train\.merge_export=true"
    ):
        check_vllm(settings(*usual, *suite, "eval.openllm.backend=vllm"), [cell])


def test_an_untrained_model_is_scored_once_for_all_tasks(tmp_path: Path) -> None:
    openllm_files(tmp_path / "files")
    overrides = small_overrides(tmp_path, "model=tiny_decoder", "arms=[none]", tasks=("cb", "rte"))
    suite = ["eval.openllm.suite=openllm_4", "eval.openllm.num_fewshot=0", "eval.openllm.tasks=[arc_challenge]"]
    run = settings(*overrides, *suite, f"eval.openllm.data_dir={tmp_path / 'files'}", "eval.superglue=false")
    check_openllm_files(run)
    assert len(cells(run)) == 2
    evaluate(run)
    (row,) = lines(run.paths.scores)
    assert (row["arm"], row["n"], row["train_rows"]) == ("none", 6, None)


@pytest.mark.slow
def test_two_processes_score_as_one_does(tmp_path: Path) -> None:
    """Three and six documents: one share is the smaller."""
    openllm_files(tmp_path / "files")
    usual = ["model=tiny_decoder", "arms=[none]", "task=cb", "data.source=fixture", "eval.superglue=false"]
    tasks = ["eval.openllm.tasks=[arc_challenge,gsm8k]", "eval.openllm.num_fewshot=0", "eval.openllm.max_length=300"]
    suite = ["eval.openllm.suite=openllm_6", f"eval.openllm.data_dir={tmp_path / 'files'}"]
    evaluate(settings(*usual, *suite, *tasks, f"run.dir={tmp_path / 'one'}"))
    launcher = ["--multi_gpu", "--num_processes=2", "--module", "eval.run"]
    done = command("accelerate.commands.launch", *launcher, *usual, *suite, *tasks, f"run.dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    single, double = (lines(tmp_path / name / "scores.jsonl") for name in ("one", "two"))
    assert single == double
    assert {row["task"]: (row["n"], row["cut"]) for row in single} == {"arc_challenge": (6, 0), "gsm8k": (3, 3)}
