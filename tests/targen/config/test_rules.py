"""Each rule about settings that are wrong together is broken by one case here, and says so in the form of the project."""

import copy
import re
from functools import cache
from typing import Any

import pytest

from targen.config.loading import as_values
from targen.config.rules.rule import Rule, broken_rules
from targen.config.rules.submission import SUBMISSION_RULES
from targen.config.rules.table import RULES
from targen.config.settings import Settings
from targen.config.validation import check
from targen.runtime.cli import compose

STEP_SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_tokens": 8}
OPENLLM = {"eval.openllm.suite": "openllm_4"}
INSTRUCTED = {
    "arms": ["synthetic", "self_instruct"], "data.self_instruct": "a/b", "train.setting": "multi", "tasks": "all",
}  # fmt: skip

FROZEN = {"train.freeze": True, "model.family": "encoder"}

LABELS = [
    {"value": name, "name": name, "verbalizer": name, "constraint": "It is."} for name in ("fit", "unusable")
]  # fmt: skip

ROUNDS = {
    "count": 2, "first": 0.5, "students": ["bag_of_words"], "most_rows": 9, "shown": 1, "failures": "{failures}",
}  # fmt: skip

# In the order of the tables: the changes of the settings, and how the first message of a broken rule begins.
CASES: list[tuple[dict[str, Any], str]] = [
    ({"run.dir": " "}, "run.dir: got ' ', expected a folder"),
    ({"synth.correct_refuses": True, "tasks.cb.labels": LABELS, "tasks.cb.label_counts": {}, "tasks.cb.variants": {}}, "synth.correct_refuses: got true with the task cb, which has a label 'unusable'"),
    ({"synth.sampling": {"generation": STEP_SAMPLING}}, "synth.sampling: got ['generation'], expected all of ['contexts',"),
    ({"synth.size": 25, "tasks": "all"}, "synth.size: got 25, expected a multiple of 2 for axg, whose rows come in groups of 2. Set synth.size=26."),
    ({"synth.seed_source": "file"}, "synth.seed_dir: got null, expected a folder"),
    ({"synth.seed_source": "file", "synth.seed_dir": "x", "method.instance_seed": None}, "synth.seed_source: got file with method=targen"),
    ({"synth.seed_dir": "x"}, "synth.seed_dir: got 'x' with synth.seed_source=llm"),
    ({"data.source": "none", "synth.holdout": 0}, "synth.holdout: got 0 with cb, which has no original data, so nothing would be scored."),
    ({"synth.holdout": 0.5, "synth.size": 4}, "synth.size: got 4 rows of cb, of which some are held out for evaluation, expected at least two rows of each label. Set synth.size=6 or more."),
    ({"synth.holdout": 24}, "synth.holdout: got 24 of synth.size=24, expected fewer"),
    ({"synth.holdout": 0.2, "synth.contexts": 1}, "synth.contexts: got 1, with rows held out for evaluation, expected at least two contexts"),
    ({"method.rounds": ROUNDS, "shard.count": 2}, "shard.count: got 2 with method=targen, whose rounds need all rows so far, expected 1."),
    ({"method.rounds": ROUNDS, "generator.backend": "vllm", "generator.engine": {"data_parallel_size": 2}}, "generator.engine.data_parallel_size: got 2 with method=targen, whose"),
    ({"method.rounds": ROUNDS, "synth.spare": 0.05}, "synth.spare: got 0.05 with method=targen, whose later rounds"),
    ({"method.rounds": ROUNDS, "synth.seed_source": "file", "synth.seed_dir": "x"}, "synth.seed_source: got file with method=targen, whose rounds choose contexts"),
    ({"shard.index": 2, "shard.count": 2}, "shard.index: got 2, expected 0 to 1 with shard.count=2."),
    ({"shard.count": 2, "generator.backend": "batch"}, "shard.count: got 2 with generator=batch"),
    ({"generator.backend": "vllm", "generator.engine": {"data_parallel_size": 2}, "shard.count": 2}, "generator.engine.data_parallel_size: got 2 with shard.count=2, expected one of them"),
    ({"shard.count": 2, "synth.pilot": 48}, "synth.pilot: got 48 with shard.count=2"),
    ({"data.source": "local"}, "data.dir: got null, expected a folder"),
    ({"data.source": "hub", "data.dir": "x"}, "data.dir: got 'x' with data.source=hub."),
    ({"data.source": "none", "data.hub": "x"}, "data.hub: got 'x' with data.source=none, expected one of them."),
    ({"data.source": "hub", "tasks.cb.hub": None}, "data.hub: got null with data.source=hub, and cb names no data set"),
    ({"eval.submission": True, "data.source": "fixture"}, "eval.submission: got true with data.source=fixture"),
    ({"data.source": "fixture", "arms": ["original", "mixed"]}, "arms: got original and mixed with data.source=fixture"),
    ({"data.source": "fixture", "train.loss": "imp"}, "train.loss: got imp with data.source=fixture"),
    ({"train.equal_size": True, "arms": ["none", "synthetic"]}, "train.equal_size: got true with the arms ['none', 'synthetic'], expected at least two"),
    ({"train.setting": "multi"}, "train.setting: got multi with one task, cb, expected at least two tasks."),
    ({"train.mixture": "temperature", "train.mixture_temperature": 1}, "train.mixture_temperature: got 1 with"),
    (INSTRUCTED | {"data.self_instruct": None}, "data.self_instruct: got null with the arm self_instruct"),
    (INSTRUCTED | {"train.setting": "single"}, "train.setting: got single with the arm self_instruct"),
    (INSTRUCTED | {"model.family": "encoder"}, "arms: got self_instruct with the encoder minilm"),
    (INSTRUCTED | {"train.instruct": True}, "train.instruct: got true with the arm self_instruct"),
    (INSTRUCTED | {"train.validate_every": 5}, "train.validate_every: got 5 with the arm self_instruct"),
    (INSTRUCTED | {"train.loss": "dimp"}, "train.loss: got dimp with the arm self_instruct"),
    ({"model.family": "decodr"}, "model.family: got 'decodr', expected a family that a file of conf/model/ names. Did you mean 'decoder'?"),
    ({"model.path": None}, "model.path: got neither of model.path and model.config, expected one of them."),
    ({"model.path": None, "model.config": {}}, "model.tokenizer: got null, expected a tokenizer"),
    ({"arms": ["none"], "model.family": "encoder"}, "arms: got none with the encoder minilm"),
    ({"train.instruct": True, "model.family": "encoder"}, "train.instruct: got true with the encoder minilm"),
    ({"train.quantize": "4bit"}, "train.quantize: got 4bit without train.lora"),
    ({"train.attention": "flash_attention_2"}, "train.attention: got flash_attention_2 with train.precision=fp32"),
    ({"train.merge_export": True}, "train.merge_export: got true without train.lora"),
    ({"train.freeze": True}, "train.freeze: got true with minilm (decoder), which answers in words and has no head to train, expected an encoder."),
    (FROZEN | {"train.lora": "default"}, "train.lora.r: got 16 with train.freeze=true"),
    (FROZEN | {"train.loss": "imp"}, "train.loss: got imp with train.freeze=true"),
    (FROZEN | {"train.init_from": "a/b"}, "train.init_from: got a/b with train.freeze=true"),
    (FROZEN | {"train.validate_every": 5}, "train.validate_every: got 5 with train.freeze=true"),
    (FROZEN | {"train.gradient_checkpointing": True}, "train.gradient_checkpointing: got true with train.freeze=true"),
    (FROZEN | {"train.launch": "ddp"}, "train.launch: got 'ddp' with train.freeze=true"),
    ({"train.loss": "imp", "arms": ["original"]}, "train.loss: got imp with the arm original"),
    ({"train.checker_model": "minilm"}, "train.checker_model: got 'minilm' with train.loss=ce"),
    ({"train.loss": "imp", "train.checker_model": "minilmm"}, "train.checker_model: got 'minilmm', expected a file of conf/model/. Did you mean 'minilm'?"),
    ({"train.select_rows": "pvi", "arms": ["original"]}, "train.select_rows: got pvi with the arms ['original'], expected one with synthetic rows. Leave it out."),
    ({"train.select_rows": "pvi", "tasks": "axg"}, "train.select_rows: got pvi with axg, whose rows belong together, expected tasks of single rows"),
    ({"train.select_rows": "checker", "data.source": "fixture"}, "train.select_rows: got checker with data.source=fixture, which has no train split for the checker. Leave it out, or set train.select_rows=pvi."),
    ({"train.select_rows": "pvi", "train.loss": "imp"}, "train.select_rows: got pvi with train.loss=imp, which weights all rows, expected one of them."),
    ({"train.select": "best"}, "train.select: got best without train.validate_every."),
    ({"train.select": "best", "train.validate_every": 5, "train.validate_on": "evaluation"}, "train.validate_on: got evaluation with train.select=best"),
    ({"train.launch": "dddp"}, "train.launch: got 'dddp', expected a file of conf/accelerate/ or a path that ends in .yaml. Did you mean 'ddp'?"),
    ({"eval.scoring": "generate", "model.family": "encoder"}, "eval.scoring: got generate with the encoder minilm"),
    ({"eval.shots": 2}, "eval.shots: got 2 without the arm none"),
    ({"eval.shots": 2, "arms": ["none"], "train.instruct": True}, "eval.shots: got 2 with train.instruct=true"),
    ({"eval.shots": 2, "arms": ["none"], "data.source": "fixture"}, "eval.shots: got 2 for the arm none with data.source=fixture"),
    ({"eval.superglue": False}, "eval.superglue: got false without eval.openllm.suite"),
    (OPENLLM | {"model.family": "encoder"}, "eval.openllm.suite: got openllm_4 with the encoder minilm"),
    (OPENLLM | {"eval.openllm.backend": "vllm", "model.family": "seq2seq"}, "eval.openllm.backend: got vllm with minilm (seq2seq), expected a decoder."),
    (OPENLLM | {"eval.openllm.backend": "vllm", "train.quantize": "4bit", "train.lora": "default"}, "eval.openllm.backend: got vllm with train.quantize"),
    (OPENLLM | {"eval.openllm.tasks": ["mmlu", "hellaswg"]}, "eval.openllm.tasks: got 'hellaswg', expected tasks of openllm_4. Did you mean 'hellaswag'?"),
    ({"generator.backend": "openai", "generator.base_url": "localhost:8000"}, "generator.base_url: got 'localhost:8000', expected http(s)://host:port/v1."),
    ({"generator.backend": "openai", "generator.base_url": ["http://a/v1", "http://a/v1/"]}, "generator.base_url: got ['http://a/v1', 'http://a/v1/'], expected each exactly once."),
    ({"generator.base_url": "http://me:secret@a/v1"}, "generator.base_url: got http://***@a/v1, expected an address without a user, a password or a key"),
    ({"generator.requests_per_minute": 60}, "generator.requests_per_minute: got 60 with generator=recorded, which does not use it."),
    ({"generator.backend": "openai", "generator.base_url": "http://a/v1", "generator.drop": ["seed"], "generator.rename": {"seed": "random_seed"}}, "generator.rename: got seed, which generator.drop leaves out"),
    ({"generator.backend": "openai", "generator.base_url": "http://a/v1", "generator.rename": {"seed": "top_p"}}, "generator.rename: got {'seed': 'top_p'}, expected each field under a name of its own"),
    ({"generator.backend": "openai", "generator.base_url": "http://a/v1", "generator.extra_body": {"temperature": 1.0}}, "generator.extra_body.temperature: got 1.0, a field that requests have already."),
    ({"generator.backend": "batch", "generator.path": "x"}, "generator.path: got 'x' with generator=batch"),
    ({"seeds": [0, 0]}, "seeds: got [0, 0], expected each exactly once."),
    ({"arms": ["synthetic", "synthetic"]}, "arms: got ['synthetic', 'synthetic'], expected each exactly once."),
    ({"phases": ["train", "train"]}, "phases: got ['train', 'train'], expected each exactly once."),
]  # fmt: skip

NODE = {"gpus": 4, "cpus": 64, "memory": "400G"}
ON_CLUSTER: list[tuple[dict[str, Any], str]] = [
    *(
        ({f"cluster.{job}.time": "3"}, f"cluster.{job}.time: got 3, expected more than the 180 s of cluster.warn")
        for job in ("generate", "merge", "train", "evaluate", "report")
    ),
    ({"cluster.train.time": "16"}, "cluster.train.time: got 16, expected more than one checkpoint interval (train.save_every=15m) and the 180 s of cluster.warn."),
    ({"generator.backend": "vllm", "generator.engine": {"tensor_parallel_size": 4}}, "cluster.generate.gpus: got 1, expected 4, over which generator.engine spreads the model."),
    ({"generator.backend": "vllm", "generator.engine": {"tensor_parallel_size": 4}}, "cluster.merge.gpus: got 1, expected 4, since the merge asks the generator for replacements"),
    *(
        ({f"cluster.{job}.cpus": None, "cluster.per_gpu": None}, f"cluster.{job}.cpus: got null, expected a number")
        for job in ("generate", "merge", "train", "evaluate", "report")
    ),
    *(
        ({f"cluster.{job}.gpus": 5, "cluster.node": NODE}, f"cluster.{job}.gpus: got 5, expected at most 4, which a node has")
        for job in ("generate", "merge", "train", "evaluate", "report")
    ),
    ({"cluster.per_node": 8, "cluster.node": NODE}, "cluster.per_node: got 8, expected at most 4, the GPUs of a node"),
    ({"cluster.per_node": 2, "cluster.train.nodes": 2}, "cluster.per_node: got 2 with cluster.train.nodes=2, expected 1"),
    ({"cluster.train.processes": 2}, "cluster.train.processes: got 2 without train.launch"),
    ({"cluster.evaluate.gpus": 2}, "cluster.evaluate.gpus: got 2 without eval.launch"),
    ({"cluster.train.nodes": 2}, "cluster.train.nodes: got 2 without train.launch, expected 1."),
    *(
        ({f"cluster.{job}.nodes": 2}, f"cluster.{job}.nodes: got 2, expected 1")
        for job in ("generate", "merge", "evaluate", "report")
    ),
    ({"generator.backend": "vllm", "generator.engine": {"data_parallel_size": 2}}, "generator.engine.data_parallel_size: got 2 with cluster.shards=2, expected one of them"),
    ({"shard.index": 1, "shard.count": 2}, "shard.index: got 1 for a whole grid"),
    ({"cell": "a"}, "cell: got a for a whole grid."),
]  # fmt: skip


@cache
def base() -> dict[str, Any]:
    return as_values(compose(["+experiment=quickstart", "task=[cb,axg]"]))


def changed(changes: dict[str, Any]) -> Settings:
    """The settings of the quickstart as a decoder, for CB unless `tasks` is `all`, with other values at dotted keys."""
    values = copy.deepcopy(base())
    defaults = {"model.family": "decoder", "tasks": "cb", "arms": ["synthetic"]}
    for key, value in (defaults | changes).items():
        if key == "tasks":
            values["tasks"] = {name: task for name, task in values["tasks"].items() if value in ("all", name)}
            continue
        *groups, last = key.split(".")
        node = values
        for group in groups:
            node = node[group]
        node[last] = value
    return check(Settings, values)


def test_the_settings_that_the_cases_change_break_no_rule() -> None:
    assert broken_rules((*RULES, *SUBMISSION_RULES), changed({})) == []
    assert broken_rules(RULES, changed(INSTRUCTED)) == []
    assert broken_rules(RULES, changed(FROZEN)) == []


PAIRS = [*zip(RULES, CASES, strict=True), *zip(SUBMISSION_RULES, ON_CLUSTER, strict=True)]


@pytest.mark.parametrize(("rule", "case"), PAIRS, ids=[start.split(",")[0] for _, (_, start) in PAIRS])
def test_every_rule_is_broken_by_its_case(rule: Rule, case: tuple[dict[str, Any], str]) -> None:
    changes, start = case
    settings = changed(changes)
    assert rule.broken(settings)
    message = rule.message(settings)
    assert message.startswith(start)
    assert re.fullmatch(r"[a-z][\w.]*: got .+(\.|\?|=\.\.\.)", message)


def test_problems_come_together_in_the_order_of_the_table() -> None:
    settings = changed({"seeds": [1, 1], "train.merge_export": True, "shard.index": 3})
    assert [line.split(":")[0] for line in broken_rules(RULES, settings)] == [
        "shard.index",
        "train.merge_export",
        "seeds",
    ]
