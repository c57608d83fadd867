"""A data set that others can load: its card, `datasets`, and the way to the Hub."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from targen.dataset.card import card, stats_of_tasks
from targen.generate import generate
from targen.text.markdown import inline_code
from tests.support.commands import LONGEST, PROJECT, TASKS, files, lines, reply, settings

TOKEN = "hf_" + "a1B2c3D4" * 4


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    generate(settings(f"run.dir={folder}"))
    return folder


def front_matter(text: str) -> dict[str, Any]:
    first, matter, _ = text.split("---\n", 2)
    assert first == ""
    return yaml.safe_load(matter)


@pytest.mark.parametrize("name", TASKS)
def test_datasets_loads_every_task(run_dir: Path, tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import List, Value, load_dataset

    synthetic = run_dir / "synthetic"
    rows = lines(synthetic / name / "train.jsonl")
    for arguments in ((str(synthetic), name), (str(synthetic / name),)):
        loaded = load_dataset(*arguments, cache_dir=str(tmp_path))
        assert list(loaded) == ["train"]
        assert list(loaded["train"]) == rows
    features = loaded["train"].features
    assert features["idx"] == Value("int64")
    kinds = {"boolq": "bool", "wic": "bool", "wsc": "bool", "copa": "int64"}
    if name == "record":
        span = {"start": Value("int64"), "end": Value("int64")}
        assert features["passage"] == {"text": Value("string"), "entities": List(span)}
        answers = List(span | {"text": Value("string")})
        assert features["qas"] == List({"query": Value("string"), "answers": answers, "idx": Value("int64")})
    else:
        assert features["label"] == Value(kinds.get(name, "string"))
    if name == "wsc":
        assert features["target"]["span1_index"] == Value("int64")


def test_a_set_that_has_grown_or_changed_is_loaded_anew(tmp_path: Path) -> None:
    from datasets import load_dataset

    synthetic, loaded = tmp_path / "run" / "synthetic", []
    for overrides in (("synth.size=12",), ("synth.size=24",)):
        generate(settings("task=cb", f"run.dir={tmp_path / 'run'}", *overrides))
        loaded.append(list(load_dataset(str(synthetic), "cb", split="train", cache_dir=str(tmp_path / "cache"))))
        assert loaded[-1] == lines(synthetic / "cb" / "train.jsonl")
    assert [len(rows) for rows in loaded] == [12, 24]
    rows = synthetic / "cb" / "train.jsonl"
    changed = rows.read_text().replace("the", "teh", 1)  # as many rows of as many bytes
    rows.write_text(changed)
    (synthetic / "README.md").write_text(card(settings(f"run.dir={tmp_path / 'run'}"), stats_of_tasks(synthetic)))
    reloaded = list(load_dataset(str(synthetic), "cb", split="train", cache_dir=str(tmp_path / "cache")))
    assert reloaded == lines(rows) != loaded[-1]


def test_the_first_task_is_the_default(run_dir: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    loaded = load_dataset(str(run_dir / "synthetic"), cache_dir=str(tmp_path), split="train")
    assert list(loaded) == lines(run_dir / "synthetic" / "axg" / "train.jsonl")


def test_the_card_has_what_stats_and_settings_say(run_dir: Path) -> None:
    text = (run_dir / "synthetic" / "README.md").read_text(encoding="utf-8")
    matter = front_matter(text)
    assert matter["license"] == "other"
    assert [config["config_name"] for config in matter["configs"]] == list(TASKS)
    assert [config.get("default") for config in matter["configs"]] == [True] + [None] * 7
    assert "| `cb` | 24 | `contradiction` 8, `entailment` 8, `neutral` 8 | 50 | 0 | 0 | 1 |" in text
    assert "| `wsc` | 24 | `does_not_refer` 12, `refers` 12 | 50 | 0 | 0 | 1 |" in text
    assert "| generation | 183 | 1.0 | 1.0 | 1024 |" in text
    assert "seedless, in the paper's term" in text and "not seedless" not in text
    for words in ("arXiv", "2310.17876", "1905.00537", "may be false", "No person has checked"):
        assert words in text


def test_each_task_says_itself_how_it_is_balanced_beyond_its_labels(run_dir: Path, tmp_path: Path) -> None:
    text = (run_dir / "synthetic" / "README.md").read_text(encoding="utf-8")
    assert "\nThe position of COPA's right alternative was drawn by the program, never by the model.\n" in text
    assert "\nThe answers of ReCoRD are texts: it has no labels to balance.\n\n## Known limits" in text
    assert "MultiRC" not in text
    generate(settings("task=cb", f"run.dir={tmp_path}"))
    text = (tmp_path / "synthetic" / "README.md").read_text(encoding="utf-8")
    assert "surplus rows were held back.\n\n## Known limits" in text


def test_nothing_that_a_model_wrote_is_in_the_card(run_dir: Path) -> None:
    text = (run_dir / "synthetic" / "README.md").read_text(encoding="utf-8")
    for name in TASKS:
        for record in lines(run_dir / "synthetic" / name / "provenance.jsonl"):
            texts = [record["context"], record["explanation"], *map(str, record["instance_seed"].values())]
            assert not [words for words in texts if len(words) > 12 and words in text]


def test_a_later_start_with_another_task_lists_both_and_order_does_not_matter(tmp_path: Path) -> None:
    for task in ("task=wsc", "task=cb"):
        generate(settings(task, f"run.dir={tmp_path / 'one'}"))
    generate(settings("task=[cb,wsc]", f"run.dir={tmp_path / 'two'}"))
    assert files(tmp_path / "one" / "synthetic") == files(tmp_path / "two" / "synthetic")
    text = (tmp_path / "one" / "synthetic" / "README.md").read_text(encoding="utf-8")
    assert [config["config_name"] for config in front_matter(text)["configs"]] == ["cb", "wsc"]
    assert "Winograd Schema Challenge (WSC)" in text


def test_names_cannot_break_out_of_the_card(run_dir: Path) -> None:
    name = "a`b|c\n---\nlicense: mit\n# 'Mine': \"x\""
    run = settings(f"run.dir={run_dir}")
    hostile = replace(run, name=name, generator=replace(run.generator, model=name))
    text = card(hostile, stats_of_tasks(run_dir / "synthetic"))
    matter = front_matter(text)
    assert matter["license"] == "other"
    assert matter["pretty_name"].startswith(" ".join(name.split()))
    assert "\n# 'Mine'" not in text and "\nlicense: mit" not in text
    assert text.count(inline_code(name)) == 2 and inline_code(name) == "`a'b\\|c --- license: mit # 'Mine': \"x\"`"


def test_a_set_with_seeds_of_the_user_is_not_called_seedless(run_dir: Path) -> None:
    run = settings(f"run.dir={run_dir}")
    from_files = replace(run, synth=replace(run.synth, seed_source="file", seed_dir="seeds"))
    with_examples = replace(run, method=settings("method=few_shot").method)
    for changed in (from_files, with_examples):
        assert "this set is **not seedless**" in card(changed, stats_of_tasks(run_dir / "synthetic"))


def test_the_card_says_how_rows_were_kept_apart(run_dir: Path) -> None:
    run = settings(f"run.dir={run_dir}")
    plain = card(run, stats_of_tasks(run_dir / "synthetic"))
    assert "rows that share `0.8` of their character trigrams" in plain
    assert "| contamination | auto: " in plain and "corrections of a row" not in plain
    assert "| language | English, as requested in the prompts |" in plain
    changed = replace(run.synth, self_correct="vote", votes=7, near_duplicates=None, contamination="filter")
    changed_card = card(replace(run, synth=changed), stats_of_tasks(run_dir / "synthetic"))
    assert "| corrections of a row | `7` |" in changed_card and "only equal rows were replaced" in changed_card
    assert "| contamination | filter: rows were compared with the evaluation split" in changed_card


# --- to the Hub ---


def publish(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / "publish.py"), *map(str, arguments)],
        capture_output=True, text=True, timeout=LONGEST, env=variables | {"HF_HUB_DISABLE_TELEMETRY": "1"} | environment,
    )  # fmt: skip


@pytest.fixture
def run_copy(run_dir: Path, tmp_path: Path) -> Path:
    """A run to damage."""
    for name, content in files(run_dir / "synthetic").items():
        if name.startswith(("README", "cb", "wsc")):
            path = tmp_path / "run" / "synthetic" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return tmp_path / "run"


def test_a_dry_run_says_every_file_and_touches_no_network(run_dir: Path) -> None:
    done = publish(run_dir, "--repo", "me/set", HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    sizes = {line.split()[1]: int(line.split()[0].replace(",", "")) for line in done.stdout.splitlines()[1:-2]}
    uploaded = {"README.md"} | {
        f"{task}/{name}" for task in TASKS for name in ("train.jsonl", "provenance.jsonl", "stats.json")
    }
    assert sizes == {name: (run_dir / "synthetic" / name).stat().st_size for name in uploaded}
    assert "me/set on http://127.0.0.1:9" in done.stdout and "Nothing was uploaded" in done.stdout
    assert "wsc/rejects.jsonl" in publish(run_dir, "--repo", "me/set", "--with-rejects").stdout


@pytest.mark.parametrize("key", [TOKEN, "sk-proj-" + "x" * 30, "AKIA" + "Z" * 16])
def test_what_looks_like_a_key_is_refused_by_file_and_line(run_copy: Path, key: str) -> None:
    path = run_copy / "synthetic" / "cb" / "provenance.jsonl"
    content = path.read_text().splitlines()
    content[4] = content[4].replace('"context": "', f'"context": "{key} ')
    path.write_text("\n".join(content) + "\n")
    done = publish(run_copy, "--repo", "me/set", "--push", HF_TOKEN="another-token-of-mine")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {path}:5: holds what looks like a key") and done.stderr.count("\n") == 1
    assert key not in done.stderr + done.stdout
    assert publish(run_copy, "--repo", "me/set", HF_TOKEN=key).returncode == 2


def test_other_refusals_are_one_line(run_copy: Path, tmp_path: Path) -> None:
    refusals = [
        ((tmp_path / "nowhere", "--repo", "me/set"), "nowhere/synthetic: missing"),
        ((run_copy, "--repo", "justaname"), "--repo: got 'justaname', expected USER/NAME."),
        ((run_copy, "--repo", "me/set", "--push"), "HF_TOKEN: not set"),
    ]
    for arguments, words in refusals:
        done = publish(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert words in done.stderr
    (run_copy / "synthetic" / "wsc" / "stats.json").unlink()
    assert "wsc/stats.json: missing" in publish(run_copy, "--repo", "me/set").stderr
    (run_copy / "synthetic" / "README.md").unlink()
    assert "README.md: missing" in publish(run_copy, "--repo", "me/set").stderr


@pytest.fixture
def hub() -> Iterator[tuple[str, list[tuple[str, str, bytes]], dict[str, int]]]:
    """The Hub's endpoints for an upload, on loopback: its address, (path, authorization, body) of its requests, statuses to answer."""
    requests: list[tuple[str, str, bytes]] = []
    statuses: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            requests.append((self.path, self.headers.get("Authorization", ""), body))
            answer: dict[str, Any] = {}
            if self.path == "/api/repos/create":
                answer = {"url": f"{address}/datasets/me/set"}
            elif self.path == "/api/datasets/me/set":
                answer = {"id": "me/set", "private": statuses.get("private", 1) == 1}
            elif "/preupload/" in self.path:
                mode = {"uploadMode": "regular", "shouldIgnore": False}
                answer = {"files": [{"path": file["path"], **mode} for file in json.loads(body)["files"]]}
            elif "/commit/" in self.path:
                answer = {"commitUrl": f"{address}/datasets/me/set/commit/{'0' * 40}", "commitOid": "0" * 40}
            reply(self, statuses.get(self.path, 200), json.dumps(answer), Content_Type="application/json")

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield address, requests, statuses
    http.shutdown()
    http.server_close()


def test_a_push_uploads_the_files_and_nothing_else(run_copy: Path, hub) -> None:
    address, requests, statuses = hub
    done = publish(run_copy, "--repo", "me/set", "--push", "--private", HF_ENDPOINT=address, HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{address}/datasets/me/set"
    assert TOKEN not in done.stdout + done.stderr
    bodies = {path: body for path, key, body in requests if key == f"Bearer {TOKEN}"}
    created = json.loads(bodies["/api/repos/create"])
    assert created == {"organization": "me", "name": "set", "type": "dataset", "visibility": "private"}
    commit = [json.loads(line) for line in bodies["/api/datasets/me/set/commit/main"].splitlines()]
    uploaded = {
        line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in commit if line["key"] == "file"
    }
    expected = {name: content for name, content in files(run_copy / "synthetic").items() if "rejects" not in name}
    assert uploaded == expected and len(expected) == 7
    assert "uploaded" not in done.stdout
    requests_before = len(requests)
    statuses["private"] = 0
    public = publish(run_copy, "--repo", "me/set", "--push", "--private", HF_ENDPOINT=address, HF_TOKEN=TOKEN)
    assert (public.returncode, "me/set already exists and is public" in public.stderr) == (2, True)
    assert not any("commit" in path for path, _, _ in requests[requests_before:])
    statuses |= {"/api/repos/create": 403, "/api/datasets/me/set": 404}
    refused = publish(run_copy, "--repo", "me/set", "--push", HF_ENDPOINT=address, HF_TOKEN=TOKEN)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
    assert "the Hub refused the upload" in refused.stderr and TOKEN not in refused.stderr
