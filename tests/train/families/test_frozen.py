"""A frozen encoder: only a linear layer is trained, to the one best fit, on embeddings that are computed once."""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.linear_model import LogisticRegression

from eval.run import evaluate
from eval.scoring.scores import read_scores
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.tasks.task import Example
from tests.support.commands import lines, settings
from tests.support.small_data import SPECS, examples_of, model_of, small_run, tiny_overrides
from train.families.frozen import BLOCKS, EmbeddedPairs
from train.families.registry import family_of
from train.grid.cells import cells
from train.loop.logistic_regression import STRENGTH
from train.loop.saving import load_cell
from train.plan import lines as lines_of
from train.plan import plan
from train.run import train


def embedded_texts(caplog: pytest.LogCaptureFixture) -> int:
    """How many texts the encoder was asked for, as the log says."""
    matches = (re.search(r"embedding (\d+) texts, once", record.getMessage()) for record in caplog.records)
    return sum(int(match[1]) for match in matches if match)


def frozen_run(folder: Path, *overrides: str, tasks: tuple[str, ...] = ("cb",)) -> Settings:
    return settings(*tiny_overrides(folder, "train.freeze=true", *overrides, tasks=tasks))


def encoded_of(run: Settings, task: str) -> tuple[list[EmbeddedPairs], list[list[float]]]:
    """The examples of a task as the only cell sees them, and the probabilities that it gives."""
    loaded, family = load_cell(run, cells(run)[0]), family_of(run)
    encoded = family.encode(loaded, SPECS[task], examples_of(task), 128)
    return encoded, [np.exp(scores).tolist() for _, scores in family.predict(loaded, encoded, 4)]


def test_labels_are_fitted_as_by_scikit_learn(tmp_path: Path) -> None:
    run = frozen_run(tmp_path)
    train(run)
    encoded, probabilities = encoded_of(run, "cb")
    features, gold = np.concatenate([example.features for example in encoded]), [example.gold for example in encoded]
    reference = LogisticRegression(C=STRENGTH, tol=1e-8, max_iter=5000).fit(features, gold)
    assert probabilities == pytest.approx(reference.predict_proba(features), abs=2e-3)
    weights = load_file(model_of(run) / "model.safetensors")
    assert {name: value.shape for name, value in weights.items()} == {
        "classifier.weight": (3, BLOCKS * 32),
        "classifier.bias": (3,),
    }
    assert not list(model_of(run).glob("checkpoint-*"))
    (entry,) = lines(model_of(run) / "train_log.jsonl")
    gold_probabilities = [distribution[label] for distribution, label in zip(probabilities, gold, strict=True)]
    assert entry["loss"] == pytest.approx(-np.log(gold_probabilities).mean(), abs=1e-4)


def test_of_two_choices_their_difference_decides(tmp_path: Path) -> None:
    """With two choices the softmax of their scores is a logistic regression on the difference, without an intercept."""
    run = frozen_run(tmp_path, tasks=("copa",))
    train(run)
    encoded, probabilities = encoded_of(run, "copa")
    differences = np.array([example.features[1] - example.features[0] for example in encoded])
    gold = [example.gold for example in encoded]
    reference = LogisticRegression(C=STRENGTH, fit_intercept=False, tol=1e-8, max_iter=5000).fit(differences, gold)
    assert probabilities == pytest.approx(reference.predict_proba(differences), abs=2e-3)


def test_features_of_a_pair_by_hand_and_of_an_empty_text(tmp_path: Path) -> None:
    run = frozen_run(tmp_path)
    loaded, family = family_of(run).load_pretrained(run.model, SPECS["cb"]), family_of(run)
    example = examples_of("cb")[0]
    full, half, blank = (
        family.encode(loaded, SPECS["cb"], [variant], 8)[0].features[0].reshape(BLOCKS, -1)
        for variant in (
            example,
            _with_fields(example, hypothesis=""),
            _with_fields(example, premise="", hypothesis=""),
        )
    )
    u, v = full[:2]
    assert np.linalg.norm(u) == pytest.approx(1, abs=1e-3) == np.linalg.norm(v)
    assert full[2:] == pytest.approx(np.stack([abs(u - v), u * v]), abs=1e-6)
    assert half == pytest.approx(np.stack([u, 0 * u, abs(u), 0 * u]), abs=1e-6)
    assert not blank.any()


def _with_fields(example: Example, **fields: str) -> Example:
    return replace(example, fields=example.fields | fields)


def test_arms_seeds_and_evaluation_share_the_embeddings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run = frozen_run(tmp_path, "arms=[original,synthetic,mixed]", "seeds=[0,1]", "train.max_rows=8")
    train(run)
    evaluate(run)
    assert embedded_texts(caplog) == 2 * len(examples_of("cb"))  # each text once
    assert len(list(run.paths.embeddings.iterdir())) == 1
    assert {(score.arm, score.seed) for score in read_scores(run.paths.scores)} == {
        (arm, seed) for arm in ("original", "synthetic", "mixed") for seed in (0, 1)
    }
    for path in run.paths.root.glob("models/*/done.json"):
        path.unlink()  # as after a kill
    weights = {path: path.read_bytes() for path in run.paths.root.glob("models/*/model.safetensors")}
    train(run)
    assert {path: path.read_bytes() for path in weights} == weights
    assert embedded_texts(caplog) == 2 * len(examples_of("cb"))


def test_where_no_row_is_drawn_seeds_give_the_same_layer(tmp_path: Path) -> None:
    run = frozen_run(tmp_path, "seeds=[0,1]")
    train(run)
    first, second = (run.paths.model(cell.name) / "model.safetensors" for cell in cells(run))
    assert first.read_bytes() == second.read_bytes()


def test_a_mixture_gives_what_a_layer_per_task_gives(tmp_path: Path) -> None:
    mixture = frozen_run(tmp_path / "both", "train.setting=multi", tasks=("cb", "copa"))
    train(mixture)
    for task in ("cb", "copa"):
        single = frozen_run(tmp_path / task, tasks=(task,))
        train(single)
        alone, together = encoded_of(single, task)[1], encoded_of(mixture, task)[1]
        assert np.array(together) == pytest.approx(np.array(alone), abs=5e-3)


def test_frozen_cells_lie_beside_finetuned_ones_and_older_runs_go_on(tmp_path: Path) -> None:
    usual = settings(*tiny_overrides(tmp_path, tasks=("cb",)))
    train(usual)
    marker = json.loads((model_of(usual) / "done.json").read_text())
    assert "freeze" not in marker["fingerprint"]["train"]  # as in runs from before there was the key
    run = frozen_run(tmp_path)
    train(run)
    names = sorted(path.name for path in (tmp_path / "run" / "models").iterdir())
    assert names == ["tiny_encoder-single-cb-synthetic-s0", "tiny_encoder-single-frozen-cb-synthetic-s0"]
    train(frozen_run(tmp_path, "train.learning_rate=0.5", "train.epochs=9"))  # they play no part
    with pytest.raises(UserError, match=r"train\.label_smoothing was 0\.0 and is 0\.1"):
        train(frozen_run(tmp_path, "train.label_smoothing=0.1"))
    with pytest.raises(UserError, match=r"was trained with train\.freeze=true and has a linear layer only"):
        train(small_run(tmp_path, "model=tiny_encoder", "arms=[synthetic]", f"train.init_from={names[1]}"))


def test_a_damaged_layer_is_one_line(tmp_path: Path) -> None:
    run = frozen_run(tmp_path)
    train(run)
    (model_of(run) / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot be loaded .* Remove it to train again"):
        load_cell(run, cells(run)[0])


def test_the_plan_names_the_layer(tmp_path: Path) -> None:
    run = frozen_run(tmp_path)
    cell = cells(run)[0].name
    header, line, _ = lines_of(run, plan(run))
    assert header.endswith("fp32, only a linear layer")
    assert line == f"{cell}: to train, {len(examples_of('cb'))} rows, a linear layer on kept embeddings"
    assert not run.paths.embeddings.exists()
    train(run)
    assert plan(run)[0].state == "done"
