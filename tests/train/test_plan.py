"""The plan agrees with what training then does and takes."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.support.commands import command, files, lines, settings
from tests.support.small_data import model_of, small_overrides, tiny_overrides
from train.grid.cells import cells
from train.plan import lines as lines_of
from train.plan import plan
from train.run import train

MIB = 2**20
WITHIN = 1.4  # of what the process takes at its peak, libraries included


def parameters(path: Path) -> int:
    with safe_open(path, framework="pt") as file:
        return sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118


def trainable(folder: Path) -> int:
    return parameters(folder / "adapter_model.safetensors")


@pytest.mark.parametrize("model", ["tiny_encoder", "tiny_seq2seq", "tiny_decoder"])
def test_parameters_steps_and_tokens_are_those_of_the_training(model: str, tmp_path: Path) -> None:
    limit = 64 if model == "tiny_encoder" else 300  # some of the rows are longer
    shape = ["train.epochs=2", f"train.max_length={limit}", "train.device_batch_size=2", "train.group_by_length=false"]
    run = settings(*tiny_overrides(tmp_path, *shape, model=model))
    before = files(tmp_path)
    (planned,) = plan(run)
    assert files(tmp_path) == before
    train(run)
    log = lines(model_of(run) / "train_log.jsonl")
    assert planned.size is not None
    assert planned.size.parameters == planned.size.trainable == parameters(model_of(run) / "model.safetensors")
    assert planned.rows == 10
    assert planned.steps == log[-1]["step"] == 6
    assert 0 < planned.truncated < 10
    assert planned.tokens is not None and planned.padding is not None
    assert 2 * 10 * 20 < planned.tokens <= 2 * 10 * (limit + 4)
    assert plan(run)[0].state == "done"


def test_adapters_of_a_weighted_mixture_are_planned_with_their_checkers(tmp_path: Path) -> None:
    weighted = [
        "train.setting=multi",
        "train.mixture=equal",
        "train.loss=imp",
        "train.lora.r=4",
        "train.checker_rows=6",
    ]
    run = settings(*tiny_overrides(tmp_path, *weighted, "train.max_length=64", tasks=("cb", "copa")))
    planned = plan(run)
    train(run)
    (cell,) = cells(run)
    folders = {path.name: path for path in (tmp_path / "run" / "models").iterdir()}
    assert set(folders) == {entry.cell for entry in planned}
    assert [entry.rows for entry in planned] == [12, 20, 20]  # P', Q, and the cell
    for entry in planned:
        marker = json.loads((folders[entry.cell] / "done.json").read_text())
        assert entry.size is not None
        trained, memory = entry.size.trainable, entry.size.memory
        assert (entry.rows, entry.steps, trained) == (marker["rows"], marker["steps"], trainable(folders[entry.cell]))
        assert memory.gradients == 4 * trained and memory.optimizer == 8 * trained
        assert memory.weights == 4 * entry.size.parameters > 100 * memory.gradients
    assert cell.name == planned[-1].cell


def test_rows_that_are_not_generated_yet_are_planned_by_their_number(tmp_path: Path) -> None:
    arguments = ["task=cb", "arms=[synthetic]", "data.source=fixture", f"run.dir={tmp_path / 'run'}"]
    done = command("train.run", *arguments, "plan=true", "synth.size=24", "train.epochs=2", "train.max_rows=null")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"to train once its rows are generated, 22\.7M parameters, .* 24 rows, 4 steps, tokens unknown, 8 sequences at once; per device",
        done.stdout,
    )
    assert not (tmp_path / "run").exists()


def test_examples_of_rows_that_are_not_generated_yet_are_planned_about(tmp_path: Path) -> None:
    """A question of MultiRC gets one to three right answers and one to four wrong ones; an article of ReCoRD one query."""
    small = ["model=tiny_encoder", "data.source=fixture", "arms=[synthetic]", "synth.size=20", "train.epochs=2"]
    run = settings(*small, "task=[multirc,record]", "train.max_rows=null", f"run.dir={tmp_path}")
    planned = plan(run)
    assert [(entry.rows, entry.steps, entry.about) for entry in planned] == [(90, 12, True), (20, 4, False)]
    assert ", about 90 rows, about 12 steps, " in "\n".join(lines_of(run, planned))
    cut = plan(settings(*small, "task=multirc", "train.max_rows=50", f"run.dir={tmp_path}"))
    assert [(entry.rows, entry.about) for entry in cut] == [(50, False)]


def test_without_network_rows_are_those_published_and_a_configuration_gives_the_memory(tmp_path: Path) -> None:
    hub = [
        "task=[cb,axg]",
        "data.source=hub",
        "data.fallback=null",
        "arms=[original,mixed,synthetic]",
        "synth.size=100",
    ]
    hub += ["train.max_rows=null", "train.epochs=1", f"run.dir={tmp_path / 'run'}"]
    without_model = plan(settings(*hub, "model=flan_t5_base"))
    assert [(entry.rows, entry.steps, entry.size) for entry in without_model[:3]] == [
        (250, 16, None),
        (200, 13, None),
        (100, 7, None),
    ]
    assert without_model[3].rows == 2490  # AX-g's original arm trains on RTE
    text = "\n".join(lines_of(settings(*hub, "model=flan_t5_base"), without_model))
    assert "cb-original-s0: to train, 250 rows, 16 steps, tokens unknown, parameters and memory unknown" in text
    assert re.search(r"^missing: data.hub: got aps/super_glue, whose cb cannot be loaded", text, re.MULTILINE)
    assert re.search(r"^missing: model.path: google/flan-t5-base cannot be loaded", text, re.MULTILINE)
    sizes = {"model_type": "bert", "architectures": ["BertModel"], "vocab_size": 100, "hidden_size": 32}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(sizes))
    plans = plan(settings(*hub, "model=bert_large", f"model.path={tmp_path / 'model'}"))
    assert all(entry.size is not None and entry.size.memory.weights == 4 * entry.size.parameters > 0 for entry in plans)
    assert plans[0].missing[1] == f"model.tokenizer: {tmp_path / 'model'} has none on this machine."


def test_cells_whose_original_rows_fall_back_to_the_fixture_are_skipped(tmp_path: Path) -> None:
    run = settings(
        "task=cb",
        "data.source=hub",
        "data.fallback=fixture",
        "arms=[original]",
        "model=tiny_encoder",
        f"run.dir={tmp_path}",
    )
    assert [entry.state for entry in plan(run)] == ["skipped, for its original rows are not available"]


@pytest.mark.slow
def test_the_estimate_is_near_what_a_process_takes(tmp_path: Path) -> None:
    shape = ["train.epochs=2", "train.max_length=192", "train.batch_size=8", "arms=[synthetic]", "model=minilm"]
    arguments = small_overrides(tmp_path, *shape, tasks=("boolq",))
    output = command("train.run", *arguments, "plan=true").stdout
    libraries = float(re.findall(r"here ([\d,]+) MiB", output)[0].replace(",", ""))
    (planned,) = plan(settings(*arguments))
    done = command("train.run", *arguments)
    assert done.returncode == 0, done.stderr
    assert planned.size is not None
    memory = planned.size.memory.total / MIB
    measured = max(entry.get("peak_rss_mib", 0) for entry in lines(model_of(settings(*arguments)) / "train_log.jsonl"))
    estimated = libraries + memory
    assert measured / WITHIN < estimated < measured * WITHIN, (libraries, memory, measured)
    assert (measured - libraries) / 2 < memory < (measured - libraries) * 2  # beside the libraries
