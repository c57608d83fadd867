"""The weighted losses by hand: the weights, the value of the loss, the checkers that give them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from targen.config.losses import LOSSES
from targen.config.settings import Settings
from targen.runtime.progress import Progress
from targen.runtime.signals import StopRequest
from tests.support.commands import command
from tests.support.small_data import SPECS, examples_of, small_run
from train.families.base import IGNORED, UNWEIGHTED, ExampleLosses
from train.families.decoder import DecoderFamily
from train.families.encoder import EncoderFamily
from train.families.registry import family_named
from train.families.seq2seq import Seq2SeqFamily
from train.grid.cells import cells
from train.grid.checkers import TrainingJob, training_job
from train.grid.pending_jobs import TrainContext
from train.loop.losses import CHECKERS, batch_loss, example_weights, log_probabilities
from train.loop.preparation import prepare
from train.loop.saving import load_cell
from train.loop.trainer import CellTrainer
from train.run import train
from train.runtime.processes import Processes

decoder = DecoderFamily()
encoder = EncoderFamily()
seq2seq = Seq2SeqFamily()


@dataclass
class Outputs:
    logits: torch.Tensor


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor([math.log(probability) for probability in probabilities])


def test_imp_weighs_by_the_ratio_of_the_two_checkers_and_real_rows_by_one() -> None:
    losses = ExampleLosses(torch.tensor([1.0, 2.0, 3.0]), logs(0.5, 0.5, 0.5))
    checked = torch.cat([logs(0.9, 0.2) - logs(0.6, 0.8), torch.tensor([UNWEIGHTED])])
    weights = example_weights(LOSSES["imp"].log_weights, checked, losses)
    assert weights.tolist() == pytest.approx([1.5, 0.25, 1.0])


def test_dimp_weighs_by_the_model_itself_without_a_gradient_through_the_weight() -> None:
    logit = torch.zeros(1, requires_grad=True)
    log_probability = torch.nn.functional.logsigmoid(logit)  # P_theta = 1/2
    losses = ExampleLosses(-log_probability, log_probability)
    weight = example_weights(LOSSES["dimp"].log_weights, logs(0.8), losses)
    assert weight.tolist() == pytest.approx([1.6])
    assert not weight.requires_grad
    (losses.loss * weight).sum().backward()
    assert logit.grad.item() == pytest.approx(-1.6 * 0.5)  # 1.6 times the gradient of cross-entropy


def test_an_answer_without_a_chance_leaves_the_loss_finite() -> None:
    losses = ExampleLosses(torch.tensor([500.0]), torch.tensor([-500.0]))
    assert torch.isfinite(losses.loss * example_weights(LOSSES["dimp"].log_weights, logs(0.9), losses)).all()


def test_the_weighted_loss_of_an_encoder_by_hand() -> None:
    # P = (3/4, 1/4) and (1/2, 1/2); gold 0 and 1; weights 2 and 1/2; over two examples
    outputs = Outputs(torch.tensor([[math.log(3), 0.0], [1.0, 1.0]]))
    labels = torch.tensor([[0, 1, 0, 2], [1, 1, 0, 2]])
    loss = batch_loss(encoder, outputs, labels, log_weights=LOSSES["imp"].log_weights, checkers=logs(2.0, 0.5))
    assert loss.item() == pytest.approx((2 * math.log(4 / 3) + 0.5 * math.log(2)) / 2)
    plain = batch_loss(encoder, outputs, labels, log_weights=LOSSES["imp"].log_weights, checkers=logs(1.0, 1.0))
    assert plain.item() == pytest.approx(batch_loss(encoder, outputs, labels).item())


def test_label_smoothing_is_spread_over_the_examples_own_choices() -> None:
    # three columns, of which the example has two: P = (3/4, 1/4); nothing goes to the third
    outputs = Outputs(torch.tensor([[math.log(3), 0.0, 50.0]]))
    loss = batch_loss(encoder, outputs, torch.tensor([[0, 1, 0, 2]]), smoothing=0.1)
    assert loss.item() == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * (math.log(3 / 4) + math.log(1 / 4)) / 2)


def test_the_weighted_loss_of_answers_by_hand() -> None:
    # two tokens of a vocabulary of two, each with probability 3/4, then one of 1/4; the second answer has one token only
    logits = torch.tensor([[[math.log(3), 0.0], [math.log(3), 0.0]], [[math.log(3), 0.0], [9.0, 0.0]]])
    labels = torch.tensor([[0, 0], [1, IGNORED]])
    losses = seq2seq.example_losses(Outputs(logits), labels, 0.0)
    assert losses.log_probability.exp().tolist() == pytest.approx([9 / 16, 1 / 4])
    # DIMP: P' = 9/10 and 1/10, so weights (9/10)/(9/16) = 1.6 and (1/10)/(1/4) = 0.4; over three tokens
    loss = batch_loss(seq2seq, Outputs(logits), labels, log_weights=LOSSES["dimp"].log_weights, checkers=logs(0.9, 0.1))
    assert loss.item() == pytest.approx((1.6 * -math.log(9 / 16) + 0.4 * -math.log(1 / 4)) / 3)
    behind_a_prompt = torch.cat([torch.full((2, 4), IGNORED), labels], dim=1)
    last = torch.cat([logits, torch.zeros(2, 1, 2)], dim=1)  # with the logits after the last token
    assert batch_loss(
        decoder, Outputs(last), behind_a_prompt, log_weights=LOSSES["dimp"].log_weights, checkers=logs(0.9, 0.1)
    ).item() == pytest.approx(loss.item())


def job_for(run: Settings) -> TrainingJob:
    (cell,) = cells(run)
    job = training_job(run, cell)
    assert job is not None
    return job


def trained_log_weights(run: Settings) -> list[float]:
    """The log-weights that the run's one cell is trained with, in the order of its rows."""
    return [example.checkers for example in prepare(job_for(run)).epoch.encoded]


@pytest.mark.parametrize("model", ["tiny_encoder", "tiny_seq2seq", "tiny_decoder"])
def test_checkers_are_trained_once_named_and_asked(tmp_path: Path, model: str) -> None:
    small = [f"model={model}", "arms=[synthetic]", "train.checker_rows=6"]
    run = small_run(tmp_path, "train.loss=imp", *small)
    train(run)
    (cell,) = cells(run)
    assert cell.name == f"{model}-single-imp-cb-synthetic-s0"
    marker = json.loads((run.paths.model(cell.name) / "done.json").read_text())
    original, synthetic = marker["checkers"]
    assert original.startswith(f"{model}-checker-single-cb-original-s0-")
    assert synthetic.startswith(f"{model}-checker-single-cb-synthetic-s0-")
    assert (marker["rows"], marker["real_rows"]) == (10, 6)
    jobs = job_for(run).checkers
    family = family_named(run.model.family)
    log_p, log_q = (
        log_probabilities(family, loaded, family.encode(loaded, SPECS["cb"], examples_of("cb"), 128), 4)
        for loaded in (load_cell(job.settings, job.cell) for job in jobs)
    )
    assert trained_log_weights(run) == pytest.approx([p - q for p, q in zip(log_p, log_q, strict=True)], abs=1e-4)
    assert len(set(log_p)) > 5
    before = (run.paths.model(original) / "model.safetensors").stat().st_mtime_ns
    other = small_run(tmp_path, "train.loss=dimp", *small)
    train(other)
    assert (run.paths.model(original) / "model.safetensors").stat().st_mtime_ns == before  # P' serves both
    assert trained_log_weights(other) == pytest.approx(log_p, abs=1e-4)
    dimp = json.loads((run.paths.model(cells(other)[0].name) / "done.json").read_text())
    assert dimp["checkers"] == [original]


def test_the_weights_reach_the_trainers_loss_and_those_of_real_rows_are_one(tmp_path: Path) -> None:
    small = ["model=tiny_encoder", "arms=[mixed]", "train.mixed_original=3", "train.checker_rows=6", "train.max_rows=9"]
    run = small_run(tmp_path, "train.loss=imp", "train.learning_rate=0.05", "train.epochs=4", *small)
    train(run)
    job = job_for(run)
    prepared = prepare(job)
    log_weights = [example.checkers for example in prepared.epoch.encoded]
    assert [math.isnan(log_weight) for log_weight in log_weights] == [True] * 3 + [False] * 9
    batch, model = prepared.collate(list(prepared.epoch.encoded)), prepared.loaded.model.eval()
    with Progress("test", "steps", 0) as progress:
        trainer = CellTrainer(TrainContext(Processes(), StopRequest(), progress), job, prepared)
    weighted_loss = trainer.compute_loss(model, dict(batch))
    del batch[CHECKERS]
    labels = batch.pop("labels")
    single = encoder.example_losses(model(**batch), labels, 0.0).loss
    weights = [1.0 if math.isnan(log_weight) else math.exp(log_weight) for log_weight in log_weights]
    by_hand = sum(weight * loss for weight, loss in zip(weights, single.tolist(), strict=True)) / 12
    assert weighted_loss.item() == pytest.approx(by_hand, rel=1e-5)
    assert weighted_loss.item() != pytest.approx(single.mean().item(), rel=1e-4)


def test_a_checker_of_another_model_and_a_changed_one(tmp_path: Path) -> None:
    small = ["model=tiny_decoder", "train.loss=dimp", "arms=[synthetic]", "train.checker_model=tiny_encoder"]
    run = small_run(tmp_path, *small, "train.checker_rows=5")
    (job,) = job_for(run).checkers
    assert job.settings.model.family == "encoder"
    assert [len(part.rows) for part in job.rows] == [5]
    counts = [sum(row["label"] == label.value for row in job.rows[0].rows) for label in SPECS["cb"].labels]
    assert max(counts) - min(counts) <= 1  # the fixture has 3, 3 and 4 of them
    (more,) = job_for(small_run(tmp_path, *small, "train.checker_rows=8")).checkers
    assert more.cell.name != job.cell.name


MISTAKES = [
    (["train.loss=imp"], "train.loss: got imp with the arm original, whose rows need no weights."),
    (["train.loss=imp", "arms=[synthetic]", "data.source=fixture"], "train.loss: got imp with data.source=fixture"),
    (["train.checker_model=minilm"], "train.checker_model: got 'minilm' with train.loss=ce"),
    (["train.loss=imp", "arms=[synthetic]", "train.checker_model=minilmm"], "Did you mean 'minilm'?"),
    (["train.loss=impp"], "Did you mean 'imp'?"),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_what_has_no_sense_is_refused(tmp_path: Path, overrides: list[str], words: str) -> None:
    done = command("train.run", *overrides, f"run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
