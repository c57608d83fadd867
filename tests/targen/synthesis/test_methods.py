"""The methods to compare with: rows, balance, budget and resuming are as TarGEN's, for every task."""

import json
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from eval.page.rows import browser
from eval.page.rows import task_entries as entries_of
from eval.statistics import axes
from targen.config.group_files import task_from_file
from targen.config.required_files import local_file
from targen.data.original import FIXTURE, read_rows
from targen.generate import generate
from targen.runtime.errors import RowError, UserError
from targen.runtime.paths import RunPaths
from targen.text.normalise import rouge_l, words
from tests.support.commands import ALL_TASKS, PROJECT, Server, command, files, lines, settings
from tests.support.fake_model import FakeModel, served_by

ALL = f"task=[{','.join(ALL_TASKS)}]"
SPECS = settings(ALL).tasks
ALL_METHODS = sorted(path.stem for path in (PROJECT / "conf" / "method").glob("*.yaml"))
METHODS = [
    method for method in ALL_METHODS if method != "targen_hard"
]  # needs more rows, for a student: test_hard_cases.py
SMALL = ("synth.contexts=24", "synth.seeds_per_context=2", "synth.size=24")
WITHOUT_STEPS = ("zero_shot", "one_shot", "few_shot", "paraphrase")  # before the one answer
OWN = {"attrprompt": "attributes", "self_instruct": "task_instruction", "one_shot": "demonstrations"}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the official layout: as train split 30 rows of every label, made of the fixture's, as val the fixture's own."""
    folder = tmp_path_factory.mktemp("originals")
    for name in ALL_TASKS:
        task = task_from_file(name)
        rows = read_rows(local_file(FIXTURE, task, task.eval_split), task)
        splits = {task.eval_split: rows}
        if name not in ("axb", "axg"):
            splits["train"] = [_changed(row, number) for number in range(15) for row in rows]
        (folder / task.folder).mkdir()
        for split, split_rows in splits.items():
            numbered = [_numbered(task.with_idx(row, idx)) for idx, row in enumerate(split_rows)]
            text = "".join(json.dumps(row) + "\n" for row in numbered)
            (folder / task.folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


def _numbered(row: Any) -> Any:
    """The row; the queries of ReCoRD have numbers of their own, as in the original."""
    if "qas" not in row:
        return row
    return row | {"qas": [query | {"idx": 2 * row["idx"] + number} for number, query in enumerate(row["qas"])]}


def _changed(row: Any, number: int) -> Any:
    """The row with a mark at the end of its longest text, which identifies prompts that show it."""
    if "passage" in row and isinstance(row["passage"], dict):
        return row | {"passage": row["passage"] | {"text": f"{row['passage']['text']} Train {number}."}}
    longest = max((name for name, text in row.items() if isinstance(text, str)), key=lambda name: len(row[name]))
    return row | {longest: f"{row[longest]} Train {number}."}


def specs_of(method: str) -> dict[str, Any]:
    """The tasks of a method: AX-g and AX-b have no row of their own to rewrite."""
    return {name: task for name, task in SPECS.items() if method != "paraphrase" or not task.original_train}


def run(folder: Path, server: Server, originals: Path, method: str, *overrides: str) -> None:
    base = served_by(server.url, folder)
    data = ["data.source=local", f"data.dir={originals}", f"method={method}"]
    names_tasks = any(override.startswith("task=") for override in overrides)
    tasks = [] if names_tasks else [f"task=[{','.join(specs_of(method))}]"]
    generate(settings(*tasks, *base, *data, *SMALL, *overrides))


def prompts(server: Server, step: str) -> list[str]:
    bodies = [b for b in server.bodies if b["response_format"]["json_schema"]["name"] == step]
    return [body["messages"][-1]["content"] for body in bodies]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, originals: Path, serve) -> dict[str, tuple[Path, Server]]:
    """A run of every method, with a model of which some answers are unusable."""
    runs = {}
    for method in METHODS:
        folder, server = tmp_path_factory.mktemp(method), serve(FakeModel(error_rate=0.1))
        run(folder, server, originals, method)
        runs[method] = (folder, server)
    return runs


def test_tables_know_the_order_of_all_methods() -> None:
    assert set(ALL_METHODS) == set(axes.METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_size_and_balance_are_exact_and_rows_official(runs, method: str) -> None:
    folder, _ = runs[method]
    for name, task in specs_of(method).items():
        rows = lines(folder / "synthetic" / name / "train.jsonl")
        stories = lines(folder / "synthetic" / name / "provenance.jsonl")
        assert [row["idx"] for row in rows] == list(range(24))
        for row in rows:
            task.check_format(row)
        crossed = [key for key, _ in task.label_cells[0].variant]
        cells = Counter((story["label_before"], *map(story["variant"].get, crossed)) for story in stories)
        if task.labels:
            assert len(cells) == len(task.label_cells)
            assert set(cells.values()) == {24 // len(task.label_cells)}
        assert len({task.duplicate_key(row) for row in rows}) == 24


@pytest.mark.parametrize("method", METHODS)
def test_calls_and_tokens_are_counted_per_step_and_a_second_start_asks_nothing(runs, originals, method: str) -> None:
    folder, server = runs[method]
    calls_before, before = len(server.bodies), files(folder)
    usage: Counter[str] = Counter()
    for name in specs_of(method):
        stats = json.loads((folder / "synthetic" / name / "stats.json").read_text())
        usage.update({step: counts["calls"] for step, counts in stats["calls"].items()})
        assert stats["calls"]["generation"]["completion_tokens"] > 0
        assert stats["checked"] == 0 or method == "targen"
    steps = {"generation"}
    steps |= {"contexts"} if method not in WITHOUT_STEPS else set()
    steps |= {"instance_seed", "self_correction"} if method == "targen" else set()
    assert {step for step, count in usage.items() if count} == steps
    assert sum(usage.values()) == calls_before
    run(folder, server, originals, method)
    assert len(server.bodies) == calls_before
    assert files(folder) == before


@pytest.mark.parametrize("method", [method for method in METHODS if method != "zero_shot"])
def test_no_two_prompts_are_the_same(runs, method: str) -> None:
    """Except for later attempts, which draw anew."""
    folder, server = runs[method]
    generation_prompts = prompts(server, "generation")
    calls = [call["id"] for name in specs_of(method) for call in lines(folder / "calls" / f"{name}.jsonl")]
    retried = sum("-generation-" in call and "-a0-" not in call for call in calls)
    assert len(generation_prompts) >= 180
    assert len(set(generation_prompts)) >= len(generation_prompts) - retried >= 150


def test_zero_shot_has_one_prompt_a_label_and_variant_and_a_seed_a_call(runs) -> None:
    _, server = runs["zero_shot"]
    copa = 2  # its two labels are positions, of which the prompt knows nothing
    cells = sum(copa if name == "copa" else len(task.label_cells) for name, task in SPECS.items())
    assert len(set(prompts(server, "generation"))) == cells
    assert len({body["seed"] for body in server.bodies}) == len(server.bodies)


@pytest.mark.parametrize("method", ["zero_shot_topic", "attrprompt", "self_instruct"])
def test_what_is_dealt_goes_evenly_with_all_labels(tmp_path: Path, serve, originals: Path, method: str) -> None:
    run(tmp_path, serve(FakeModel()), originals, method, "task=[cb,rte,wic]", "synth.size=48", "synth.contexts=4")
    for name in ("cb", "rte", "wic"):
        labels: dict[str, Counter[str]] = defaultdict(Counter)
        for story in lines(tmp_path / "synthetic" / name / "provenance.jsonl"):
            items = story.get(OWN.get(method, "context"), story["context"])
            for item in items.items() if isinstance(items, dict) else [items]:
                labels[str(item)][story["label_before"]] += 1
        assert len(labels) >= 4
        for counts in labels.values():
            assert set(counts) == {label.name for label in SPECS[name].labels}
            assert len(set(counts.values())) == 1


def test_every_prompt_of_attrprompt_shows_a_value_of_each_attribute_as_provenance_has_it(runs) -> None:
    folder, server = runs["attrprompt"]
    generation_prompts = prompts(server, "generation")
    for name, task in SPECS.items():
        assert 3 <= len(task.attributes) <= 5
        for story in lines(folder / "synthetic" / name / "provenance.jsonl"):
            assert list(story["attributes"]) == list(task.attributes)
            block = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in story["attributes"].items())
            assert any(block in prompt for prompt in generation_prompts)
        values = json.loads((folder / "synthetic" / name / "stats.json").read_text())["pools"]
        assert values == {f"attributes.{key}": 10 for key in task.attributes}


def test_instructions_grow_in_rounds_and_near_copies_are_dropped(tmp_path: Path, serve, originals: Path) -> None:
    class Repeats(FakeModel):
        """Gives every instruction three times, twice with one word changed."""

        def complete(self, body):
            completion = super().complete(body)
            message = completion["choices"][0]["message"]
            answer = json.loads(message["content"])
            if "instructions" in answer:
                first_three = answer["instructions"][:3]
                again = [f"Please {text}" for text in first_three]
                message["content"] = json.dumps({"instructions": [*first_three, *again, *first_three]})
            return completion

    server = serve(Repeats())
    run(tmp_path, server, originals, "self_instruct", "task=rte", "synth.contexts=14")
    list_prompts = prompts(server, "contexts")
    assert "already" not in list_prompts[0] and "already" in list_prompts[1]
    assert max(prompt.count("\n- ") for prompt in list_prompts) == 8
    stories = lines(tmp_path / "synthetic" / "rte" / "provenance.jsonl")
    instructions = sorted({story["task_instruction"] for story in stories})
    assert len(instructions) == 12
    assert all(rouge_l(words(first), words(second)) < 0.7 for first, second in combinations(instructions, 2))


def test_the_report_tells_what_was_shown(runs) -> None:
    names = {"targen": ["context"], "self_instruct": ["instruction"], "attrprompt": list(SPECS["axg"].attributes)}
    for method, names_shown in (names | {"zero_shot": [], "one_shot": ["demonstrations"]}).items():
        task_entries = entries_of(RunPaths(runs[method][0]), SPECS["axg"], 0, None, has_seeds=True, is_checked=True)
        entries = json.loads(browser([task_entries], 10**7).data)["entries"]
        assert all(list(dict(entry["shown"])) == names_shown for entry in entries)
    assert dict(entries[0]["shown"])["demonstrations"].startswith("rte train, idx ")


def test_rouge_l() -> None:
    assert rouge_l(words("police killed the gunman"), words("police kill the gunman")) == pytest.approx(0.75)
    assert rouge_l(words("a b c d"), words("d c b a")) == pytest.approx(0.25)
    assert rouge_l(words("a b"), words("a b")) == 1.0
    assert rouge_l([], []) == 0.0


@pytest.mark.parametrize(("method", "count"), [("one_shot", 1), ("few_shot", 5), ("paraphrase", 1)])
def test_demonstrations_are_rows_of_the_train_split_with_the_label_that_is_asked_for(
    runs, originals: Path, method: str, count: int
) -> None:
    folder, server = runs[method]
    generation_prompts = prompts(server, "generation")
    for name, task in specs_of(method).items():
        source = SPECS["rte"] if task.original_train else task
        split = read_rows(local_file(originals, source, "train"), source)
        train = [demonstration for row in split for demonstration in source.demonstrations(row)]
        held_out = read_rows(local_file(originals, task, task.eval_split), task)
        for story in lines(folder / "synthetic" / name / "provenance.jsonl"):
            shown = story["demonstrations"]
            names = [name for name in shown if name not in ("task", "split")]
            numbers = [
                dict(zip(names, values, strict=True)) for values in zip(*(shown[name] for name in names), strict=True)
            ]
            rows = [row for row in train if source.demonstration_numbers(row) in numbers]
            assert (shown["task"], shown["split"], len(rows)) == (source.name, "train", count)
            texts = [source.instance.format(**source.view(row)) for row in rows]
            assert any(all(text in prompt for text in texts) for prompt in generation_prompts)
            if task.labels:
                assert {source.label_of(row) for row in rows} == {story["label_before"]}
            if name == "copa":
                assert {row["question"] for row in rows} == {story["variant"]["question"]}
        for row in held_out:
            text = task.instance.format(**task.view(row))
            assert not any(f"{text}\nLabel: " in prompt for prompt in generation_prompts)
    if method == "paraphrase":
        return
    stand_ins = [prompt for prompt in generation_prompts if "Task: Winogender" in prompt]
    assert stand_ins and all("for a related task with the same labels, Recognizing" in prompt for prompt in stand_ins)


def test_paraphrase_takes_each_row_once_before_any_twice_and_refuses_copies(
    tmp_path: Path, serve, originals: Path
) -> None:
    """With a model that returns half of the rows unchanged."""
    train = {
        task.instance.format(**task.view(row)): row
        for task in [SPECS["rte"]]
        for row in read_rows(local_file(originals, task, "train"), task)
    }

    class Copies(FakeModel):
        def _answer(self, body: Mapping[str, Any], rng: Random) -> Any:
            prompt = body["messages"][-1]["content"]
            source = next((row for text, row in train.items() if f"{text}\nLabel: " in prompt), None)
            if source is None:  # the request with which a run tries its server
                return super()._answer(body, rng)
            copy = {"premise": source["premise"].upper(), "hypothesis": source["hypothesis"]}
            return copy if rng.random() < 0.5 else super()._answer(body, rng)

    server = serve(Copies())
    run(tmp_path, server, originals, "paraphrase", "task=rte", "synth.size=24")
    stories = lines(tmp_path / "synthetic" / "rte" / "provenance.jsonl")
    rejects = Counter(row["reason"] for row in lines(tmp_path / "synthetic" / "rte" / "rejects.jsonl"))
    assert rejects["repeats a row that its prompt showed"] > 5
    assert len(stories) == 24
    first = [story["demonstrations"]["idx"][0] for story in stories if "-a0-" in story["call_ids"][0]]
    assert len(set(first)) == len(first) > 0


def test_every_question_of_a_passage_is_rewritten_and_one_with_its_answers_in_another_order_is_a_copy(
    tmp_path: Path, serve
) -> None:
    task, data = SPECS["multirc"], tmp_path / "data" / "MultiRC"
    data.mkdir(parents=True)
    shutil.copy(local_file(FIXTURE, task, "val"), data / "train.jsonl")
    first, *others = lines(data / "train.jsonl")
    (data / "val.jsonl").write_text(json.dumps(_changed(first, 0)) + "\n", encoding="utf-8")
    questions = {
        (row["idx"], question["idx"]): (row["passage"]["text"], question)
        for row in (first, *others)
        for question in row["passage"]["questions"]
    }

    class Copies(FakeModel):
        """Returns half of the questions unchanged."""

        def _answer(self, body: Mapping[str, Any], rng: Random) -> Any:
            prompt = body["messages"][-1]["content"]
            matches = [pair for pair in questions.values() if f"\nQuestion: {pair[1]['question']}\n" in prompt]
            if not matches or rng.random() < 0.5:
                return super()._answer(body, rng)
            ((text, question),) = matches
            right, wrong = ([a["text"] for a in question["answers"] if a["label"] == label] for label in (1, 0))
            return {"paragraph": text, "question": question["question"], "right": right[::-1], "wrong": wrong[::-1]}

    server = serve(Copies())
    run(tmp_path / "run", server, data.parent, "paraphrase", "task=multirc", f"synth.size={len(questions)}")
    folder = tmp_path / "run" / "synthetic" / "multirc"
    attempts = [*lines(folder / "provenance.jsonl"), *lines(folder / "rejects.jsonl")]
    demonstrations = [story["demonstrations"] for story in attempts if story["attempt"] == 0]
    assert Counter((*rows["idx"], *rows["question"]) for rows in demonstrations) == dict.fromkeys(questions, 1)
    copies = [reject for reject in attempts if reject.get("reason") == "repeats a row that its prompt showed"]
    assert len(copies) > 5
    originals = {question["question"] for _, question in questions.values()}
    assert not any(row["passage"]["questions"][0]["question"] in originals for row in lines(folder / "train.jsonl"))
    entries = entries_of(RunPaths(tmp_path / "run"), task, 0, None, has_seeds=True, is_checked=True)
    (entry, *_) = json.loads(browser([entries], 10**7).data)["entries"]
    assert re.fullmatch(r"multirc train, idx \d+; question \d+", dict(entry["shown"])["demonstrations"])


def test_every_query_of_a_passage_is_shown(tmp_path: Path, serve) -> None:
    task, data = SPECS["record"], tmp_path / "data" / "ReCoRD"
    data.mkdir(parents=True)
    shutil.copy(local_file(FIXTURE, task, "val"), data / "train.jsonl")
    passages = lines(data / "train.jsonl")
    text = passages[0]["passage"]["text"]
    other = {**passages[0], "passage": {**passages[0]["passage"], "text": f"{text} More."}}
    (data / "val.jsonl").write_text(json.dumps(other) + "\n", encoding="utf-8")
    queries = {
        (row["idx"], query["idx"]): (query["query"], query["answers"][0]["text"])
        for row in passages
        for query in row["qas"]
    }
    assert len(queries) == 18 > len(passages)
    server = serve(FakeModel())
    run(tmp_path / "run", server, data.parent, "one_shot", "task=record", f"synth.size={len(queries)}")
    folder = tmp_path / "run" / "synthetic" / "record"
    attempts = [*lines(folder / "provenance.jsonl"), *lines(folder / "rejects.jsonl")]
    demonstrations = [story["demonstrations"] for story in attempts if story["attempt"] == 0]
    assert Counter((*rows["idx"], *rows["query"]) for rows in demonstrations) == dict.fromkeys(queries, 1)
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    for query, answer in queries.values():
        assert any(query in prompt and answer in prompt.partition(query)[2] for prompt in prompts)


def test_paraphrase_refuses_a_task_without_rows_of_its_own(tmp_path: Path, serve, originals: Path) -> None:
    server = serve(FakeModel())
    with pytest.raises(
        UserError, match=r"method: got paraphrase with the task axg, which has no train split of its own"
    ):
        run(tmp_path / "run", server, originals, "paraphrase", "task=[axg,rte]")
    assert not server.bodies


def test_a_missing_train_split_is_refused_in_one_line_before_any_call(tmp_path: Path, serve, originals: Path) -> None:
    server = serve(FakeModel())
    empty = tmp_path / "empty"
    (empty / "COPA").mkdir(parents=True)
    with pytest.raises(UserError) as error:
        run(tmp_path / "run", server, empty, "few_shot", "task=[boolq,copa]")
    problems = str(error.value).splitlines()
    assert [line.partition(" is missing")[0] for line in problems] == [
        f"data.dir: {empty / folder / 'train.jsonl'}" for folder in ("BoolQ", "COPA")
    ]
    assert "a method without demonstrations" in problems[0]
    with pytest.raises(UserError, match=r"method: got one_shot, which shows rows of RTE's train split, .*fixture"):
        run(
            tmp_path / "run", server, originals, "one_shot", "task=axg",
            "data.source=fixture", "data.dir=null", "arms=[synthetic]",
        )  # fmt: skip
    with pytest.raises(UserError, match=r"demonstrations.count: got 500, expected at most \d+, the rows of CB"):
        run(tmp_path / "run", server, originals, "few_shot", "task=cb", "method.demonstrations.count=500")
    assert not server.bodies
    assert not (tmp_path / "run").exists()


def test_templates_of_the_methods_are_checked_before_the_first_call(tmp_path: Path, serve, originals: Path) -> None:
    server = serve(FakeModel())
    with pytest.raises(UserError) as error:
        run(
            tmp_path, server, originals, "attrprompt", "task=[copa,rte,record]",
            "tasks.copa.whole.instruction='Two alternatives for {premise}.'", "~tasks.record.whole.fields.answer",
            "tasks.rte.labels.0.constraint='It follows from {premise}.'",
            "method.generation='{instruction} {constraint} {label} {format}'", "method.attributes.known='{value}'",
        )  # fmt: skip
    for part in (
        "tasks.copa.whole.instruction: got the field {premise}",
        "tasks.copa.whole.instruction: got no field {question}",
        "tasks.record.whole.fields: got [], expected ['answer']",
        "tasks.rte.labels.entailment.constraint: got the field {premise}, which is not known before",
        "method.generation: got the field {label}, expected one of attributes, constraint",
        "method.generation: got no field {attributes}",
        "method.attributes.known: got the field {value}, expected one of values",
    ):
        assert part in str(error.value)
    assert not server.bodies


def test_an_answer_that_is_none_of_the_entities_is_refused() -> None:
    task = SPECS["record"]
    seed = {"article": "Anna met Bo and Cem.", "entities": ["Anna", "Bo", "Cem"]}
    with pytest.raises(RowError, match="the answer 'Dan' is none of the article's entities"):
        task.build_rows(task.label_cells[0], seed, {"answer": "Dan"}, {"query": "@placeholder left."}, None)


def test_a_whole_instance_is_asked_for_in_the_order_in_which_it_is_written(runs) -> None:
    _, server = runs["zero_shot"]
    orders = {tuple(b["response_format"]["json_schema"]["schema"]["properties"]) for b in server.bodies}
    assert ("premise", "hypothesis") in orders
    assert ("premise", "probable", "improbable") in orders
    assert ("article", "entities", "answer", "query") in orders


def test_self_correction_is_the_methods_own_choice_and_can_be_set(tmp_path: Path, serve, originals: Path) -> None:
    server = ("generator=openai", "generator.model=m")
    defaults = {method: settings(*server, f"method={method}").synth.self_correct for method in ALL_METHODS}
    assert defaults == {method: "paper" if method.startswith("targen") else "off" for method in ALL_METHODS}
    run(tmp_path, serve(FakeModel(flip_rate=0.5)), originals, "few_shot", "task=[axg,rte]", "synth.self_correct=paper")
    for name in ("axg", "rte"):
        stats = json.loads((tmp_path / "synthetic" / name / "stats.json").read_text())
        assert stats["flips"] > 0
        assert set(stats["rows_per_label"].values()) == {12}


def test_another_method_over_a_run_and_a_seed_file_without_seeds_are_refused(tmp_path: Path) -> None:
    base = [
        "synth.learnability_rows=0",
        "generator=batch",
        "generator.model=m",
        "task=rte",
        f"run.dir={tmp_path / 'run'}",
    ]
    assert command("targen.generate", *base).returncode == 75
    refused = command("targen.generate", *base, "method=zero_shot")
    assert refused.returncode == 2
    assert "method.name was 'targen' and is 'zero_shot'" in refused.stderr
    with pytest.raises(UserError, match=r"synth.seed_source: got file with method=zero_shot, which has no instance"):
        settings("method=zero_shot", "synth.seed_source=file", f"synth.seed_dir={tmp_path}")


@dataclass(frozen=True)
class SilentAtFirst(FakeModel):
    """Its answer to the first call for each list is no list."""

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        completion = super().complete(body)
        is_list = body["response_format"]["json_schema"]["name"] == "contexts"
        if is_list and "already" not in body["messages"][-1]["content"].lower() and body["seed"] % 2:
            completion["choices"][0]["message"]["content"] = "I would rather not."
        return completion


def test_an_unreadable_list_is_among_the_rejects(tmp_path: Path, serve, originals: Path) -> None:
    """Nothing that was paid for is lost: an answer that holds no list is kept with its reason, text and call."""
    server = serve(SilentAtFirst())
    run(tmp_path, server, originals, "attrprompt", "task=[cb]")
    refused = {
        call["id"]: call["text"]
        for call in lines(tmp_path / "calls" / "cb.jsonl")
        if call["text"] == "I would rather not."
    }
    assert refused
    folder = tmp_path / "synthetic" / "cb"
    rejects = [line for line in lines(folder / "rejects.jsonl") if line["step"] == "contexts"]
    assert {line["call_ids"][0]: line["text"] for line in rejects} == refused
    assert all(
        (line["slot"], line["label"], line["reason"]) == (None, None, "answer holds no JSON object") for line in rejects
    )
    stats = json.loads((folder / "stats.json").read_text())
    assert stats["rejects_per_reason"]["contexts: answer holds no JSON object"] == len(rejects)
