"""How fast predictions, statistics and tables are, on this machine.

    python scripts/bench/evaluation.py                  # all
    python scripts/bench/evaluation.py boolq causal     # some; more: encoder, statistics, tables

Predictions are ratios measured in one run on the same rows, models and answers, statistics and tables are seconds of made-up scores.

Rows are the official validation splits below `SUPERGLUE` (`<folder>/BoolQ/val.jsonl`), else this project's few rows again and
again. lm-evaluation-harness gets the same model, the same texts to continue and the same answers, each with its end, through
HFLM.loglikelihood, nothing cut, with the batch size that is best for it on some of the rows. Both begin with texts and end with
log-likelihoods. They take turns and the best of each counts, so that other work on the machine falls on both;
`CPU_TIME=1` counts CPU seconds instead of those on the wall, for a machine that others keep busy (with OMP_NUM_THREADS=1).
"""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedTokenizerFast

from eval.reporting.paper_report import paper_report, write_figures, write_tables
from eval.scoring.metrics import score
from eval.scoring.runs import read_runs
from eval.statistics.comparison_groups import seed_scores
from eval.statistics.prediction_cache import PredictionCache
from eval.statistics.significance import ScoreStatistics
from targen.config.loading import settings_from
from targen.config.required_files import local_file
from targen.config.settings import Settings
from targen.data.original import FIXTURE, read_rows
from targen.runtime.cli import compose
from targen.runtime.randomness import rng
from targen.tasks.encoder_texts import encoder_texts
from targen.tasks.task import Example, Task
from tests.support.scored_runs import SPECS, FakeCell, gold_of, write_run
from tests.support.scored_runs import answers as made_up_answers
from train.data.rendering import answers, cued_prompt, prompt
from train.families.decoder import DecoderFamily
from train.families.encoder import TRUNCATION, EncoderFamily
from train.families.seq2seq import Seq2SeqFamily
from train.inference.batching import ON_CPU
from train.inference.ranking import log_likelihoods
from train.models.loading import Loaded

decoder = DecoderFamily()
encoder = EncoderFamily()
seq2seq = Seq2SeqFamily()

WHOLE = 4096  # tokens: nothing is cut
FIXTURE_ROWS = 200
BATCH_SIZES = (8, 16, 32, 64)  # tried for the harness
TRIED_ON = 64  # rows on which they are
END = "</s>"
MADE_UP_ROWS = 10_000
RECIPES = (  # models and settings of the cells that tables are made of
    ("flan_t5_base", "single"), ("flan_t5_base", "single-instruct"), ("flan_t5_large", "single"),
    ("flan_t5_large", "single-instruct"), ("t5_large", "single"), ("t5_3b", "single"), ("llama2_7b", "single"),
)  # fmt: skip
CLOCK = time.process_time if os.environ.get("CPU_TIME") else time.monotonic
SETTINGS: Settings = settings_from(compose(["+experiment=quickstart"]))


@dataclass(frozen=True)
class Rows:
    """The examples of a task, in the order of the file."""

    task: Task
    examples: list[Example]


def rows_of(name: str, count: int | None = None) -> Rows:
    """The validation rows of a task, at most `count`; the fixture's are repeated."""
    task, folder = SETTINGS.tasks[name], os.environ.get("SUPERGLUE")
    rows = read_rows(local_file(Path(folder) if folder else FIXTURE, task, "val"), task, labelled=True)
    rows = rows if folder else tuple(rows[number % len(rows)] for number in range(FIXTURE_ROWS))
    return Rows(task, [example for row in rows[:count] for example in task.examples(row)])


def tokenizer_for(sources: Sequence[Rows], ends: bool) -> PreTrainedTokenizerFast:
    """A byte-level BPE learnt on these rows; `ends`: every text gets its end, as T5 expects."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4000, special_tokens=["<pad>", END], initial_alphabet=alphabet, show_progress=False
    )
    texts = (prompt(rows.task, example) for rows in sources for example in rows.examples)
    tokenizer.train_from_iterator(texts, trainer)
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[(END, 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token=END)


def small_t5(sources: Sequence[Rows]) -> Loaded:
    tokenizer = tokenizer_for(sources, ends=True)
    sizes = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 4, "num_heads": 4, "decoder_start_token_id": 0}
    config = AutoConfig.for_model("t5", vocab_size=len(tokenizer), pad_token_id=0, eos_token_id=1, **sizes)
    torch.manual_seed(0)
    return Loaded(AutoModelForSeq2SeqLM.from_config(config).eval(), tokenizer)


def small_llama(sources: Sequence[Rows]) -> Loaded:
    tokenizer = tokenizer_for(sources, ends=False)
    sizes = {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 576}
    special = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None, "max_position_embeddings": WHOLE}
    config = AutoConfig.for_model("llama", vocab_size=len(tokenizer), **special, **sizes)
    torch.manual_seed(0)
    return Loaded(AutoModelForCausalLM.from_config(config).eval(), tokenizer)


def ours(module: Any, loaded: Loaded, sources: Sequence[Rows]) -> list[list[float]]:
    """Log-likelihoods of each example's answers, task after task, as the evaluation computes them."""
    scores = []
    for rows in sources:
        encoded = module.encode(loaded, rows.task, rows.examples, WHOLE)
        answer_scores = partial(module.answer_scores, loaded)
        sums = dict(log_likelihoods(answer_scores, encoded, ON_CPU, torch.device("cpu")))
        scores += [sums[index].tolist() for index in range(len(encoded))]
    return scores


def harness(module: Any, model: HFLM, sources: Sequence[Rows]) -> list[list[float]]:
    """The same by lm-evaluation-harness."""
    before = " " if module is decoder else ""
    text = cued_prompt if module is decoder else prompt
    scores = []
    for rows in sources:
        questions = [(text(rows.task, example), answers(rows.task, example)) for example in rows.examples]
        requests = [
            Instance("loglikelihood", {}, (context, f"{before}{answer}{END}"), number)
            for context, possible in questions
            for number, answer in enumerate(possible)
        ]
        values = iter(value for value, _ in model.loglikelihood(requests, disable_tqdm=True))
        scores += [[next(values) for _ in possible] for _, possible in questions]
    return scores


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result) of a computation."""
    begun = CLOCK()
    result = compute()
    return CLOCK() - begun, result


def best_harness(loaded: Loaded, backend: Any, module: Any, sources: Sequence[Rows]) -> HFLM:
    """The harness with its fastest batch size, on some rows spread over all."""
    samples = [Rows(rows.task, rows.examples[:: max(1, len(rows.examples) // TRIED_ON)]) for rows in sources]
    by_seconds = {}
    for size in BATCH_SIZES:
        common = {"backend": backend, "tokenizer": loaded.tokenizer, "max_length": WHOLE, "device": "cpu"}
        model = HFLM(pretrained=loaded.model, batch_size=size, **common)
        by_seconds[timed(lambda model=model: harness(module, model, samples))[0]] = model  # type: ignore[misc]
    return by_seconds[min(by_seconds)]


def beside_harness(name: str, module: Any, backend: str, loaded: Loaded, sources: Sequence[Rows], bound: float) -> None:
    """Prints how many times faster ours is, and how far its numbers are from the harness's."""
    model = best_harness(loaded, backend, module, sources)
    times: dict[str, list[float]] = {"ours": [], "harness": []}
    for _ in range(2):
        seconds, our_scores = timed(lambda: ours(module, loaded, sources))
        times["ours"].append(seconds)
        seconds, harness_scores = timed(lambda: harness(module, model, sources))
        times["harness"].append(seconds)
    pairs = list(zip(our_scores, harness_scores, strict=True))
    apart = max(abs(a - b) for scores in pairs for a, b in zip(*scores, strict=True))
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in pairs)
    fast, slow = min(times["ours"]), min(times["harness"])
    print(
        f"{name}: {len(our_scores) / fast:.1f} rows/s, lm-eval {len(our_scores) / slow:.1f} (batch size {model.batch_size}): "
        f"{verdict(slow / fast, bound)}; {same} of {len(our_scores)} predictions the same, log-likelihoods at most {apart:.1e} apart",
        flush=True,
    )


def verdict(ratio: float, bound: float) -> str:
    return f"ratio {ratio:.2f}, at least {bound}: {'holds' if ratio >= bound else 'FAILS'}"


def encoders(name: str, count: int) -> None:
    """Prints the ratio to loops over batches in the file's order: padded to the full length, and to the batch's longest."""
    rows, length = rows_of(name, count), SETTINGS.train.max_length
    torch.manual_seed(0)
    loaded = encoder.load_pretrained(SETTINGS.model, rows.task)
    loaded.model.eval()
    size = ON_CPU

    def sorted_batches() -> list[int]:
        encoded = encoder.encode(loaded, rows.task, rows.examples, length)
        scores = dict(encoder.predict(loaded, encoded, size))
        return [scores[index].index(max(scores[index])) for index in range(len(encoded))]

    def plain(padding: str) -> list[int]:
        predictions: list[int] = []
        pairs = [pair for example in rows.examples for pair in encoder_texts(rows.task, example)]
        cut = TRUNCATION[rows.task.encoder.truncate]
        for start in range(0, len(pairs), size):
            first, second = zip(*pairs[start : start + size], strict=True)
            texts = (list(first), list(second))
            batch = loaded.tokenizer(*texts, truncation=cut, padding=padding, max_length=length, return_tensors="pt")
            with torch.inference_mode():
                predictions += loaded.model(**batch).logits.argmax(dim=1).tolist()
        return predictions

    makers = {
        "ours": sorted_batches,
        "full length": lambda: plain("max_length"),
        "longest of its batch": lambda: plain("longest"),
    }
    best = dict.fromkeys(makers, float("inf"))
    for _ in range(2):
        answered = {}
        for kind, make in makers.items():
            seconds, answered[kind] = timed(make)
            best[kind] = min(best[kind], seconds)
    for kind, bound in (("full length", 1.5), ("longest of its batch", 1.0)):
        same = sum(a == b for a, b in zip(answered["ours"], answered[kind], strict=True))
        print(
            f"encoder {name}: {len(rows.examples) / best['ours']:.1f} rows/s, a loop padded to the {kind} "
            f"{len(rows.examples) / best[kind]:.1f}: {verdict(best[kind] / best['ours'], bound)}; {same} of "
            f"{len(rows.examples)} predictions the same",
            flush=True,
        )


def statistics() -> None:
    """Prints the seconds of all metrics and of 10,000 resamples for eight tasks of 10,000 rows, predictions read."""
    with tempfile.TemporaryDirectory() as folder:
        sizes = dict.fromkeys(SPECS, MADE_UP_ROWS)
        (run,) = read_runs(
            [write_run(Path(folder) / "run", [FakeCell(task, "original", 0.7) for task in SPECS], sizes)]
        )
        predictions_of_tasks = {
            task: made_up_answers(SPECS[task], gold_of(SPECS[task], MADE_UP_ROWS), 0.7, rng(0, task)) for task in SPECS
        }
        begun = time.monotonic()
        for task, predictions in predictions_of_tasks.items():
            score(SPECS[task], predictions)
        metrics, begun = time.monotonic() - begun, time.monotonic()
        statistics_of_scores = ScoreStatistics(PredictionCache())
        for task in SPECS:
            scores = [scored for scored in run.scores if scored.score.task == task]
            estimates = statistics_of_scores.estimates(seed_scores(scores))
            assert all(estimate.bounds is not None for estimate in estimates.values())
        seconds = time.monotonic() - begun
    print(
        f"statistics: metrics and bootstrap of 10,000 resamples for eight tasks of 10,000 rows: {metrics + seconds:.1f} s "
        f"(under 30), the metrics {metrics:.1f} s of it",
        flush=True,
    )


def tables() -> None:
    """Prints the seconds from the scores and predictions of 500 cells, with evaluation splits of their real sizes, to tables."""
    with tempfile.TemporaryDirectory() as folder:
        cells = [
            FakeCell(task, arm, right, seed, *recipe)
            for recipe in RECIPES
            for task in SPECS
            for arm, right in (("original", 0.7), ("synthetic", 0.72), ("mixed", 0.73))
            for seed in (0, 1, 2)
        ]
        root = write_run(Path(folder) / "run", cells)
        begun, used = time.monotonic(), time.process_time()
        (run,) = read_runs([root])
        report = paper_report(run.scores, SPECS)
        write_tables(root / "report" / "tables", report)
        seconds, used, begun = time.monotonic() - begun, time.process_time() - used, time.monotonic()
        write_figures(root / "report" / "figures", report)
        figures = time.monotonic() - begun
    print(
        f"tables: from {len(cells)} cells: {seconds:.1f} s (under 10), {used:.1f} s of the processors; their figures {figures:.1f} s",
        flush=True,
    )


def boolq() -> None:
    sources = [rows_of("boolq")]
    beside_harness("T5, BoolQ", seq2seq, "seq2seq", small_t5(sources), sources, 1.5)


def causal() -> None:
    sources = [rows_of(task) for task in ("cb", "copa", "rte", "wsc")]
    beside_harness("Llama, CB COPA RTE WSC", decoder, "causal", small_llama(sources), sources, 1.2)


def small_encoder() -> None:
    encoders("rte", 128)
    encoders("boolq", 96)


MEASURED = {"boolq": boolq, "causal": causal, "encoder": small_encoder, "statistics": statistics, "tables": tables}


def main() -> None:
    logging.disable(logging.WARNING)
    for name in sys.argv[1:] or MEASURED:
        MEASURED[name]()


if __name__ == "__main__":
    main()
