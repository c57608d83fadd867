"""The command line: what a user mistypes gets one line and exit code 2, and nothing is written."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from targen.runtime.paths import CONF
from tests.support.commands import LONGEST, command, files

HEAVY = {"torch", "transformers", "accelerate", "peft", "datasets", "pyarrow", "pandas", "scipy", "sklearn", "spacy"}
HEAVY |= {"huggingface_hub", "aiohttp", "jinja2", "matplotlib", "evaluate"}
MISTAKES = [
    (["task=cbb"], "task: got 'cbb', expected a file of conf/task/. Did you mean 'cb'?"),
    (["task=[cb,copaa]"], "task: got 'copaa', expected a file of conf/task/. Did you mean 'copa'?"),
    (["model=minilmm"], "Did you mean 'minilm'?"),
    (["generator=opena"], "Did you mean 'openai'?"),
    (["+experiment=quikstart"], "Did you mean 'quickstart'?"),
    (["synth.sise=3"], "synth.sise: no such key. Did you mean 'synth.size'?"),
    (["generater=recorded"], "generater: no such key. Did you mean 'generator'?"),
    (["synth.size=many"], "synth.size: got 'many', expected a valid integer"),
    (["synth.size=0"], "synth.size: got 0, expected greater than or equal to 1."),
    (["synth.size=25"], "synth.size: got 25, expected a multiple of 2 for axg"),
    (
        ["arms=[orignal]"],
        "arms.0: got 'orignal', expected 'none', 'original', 'synthetic', 'mixed' or 'self_instruct'. Did you mean 'original'?",
    ),
    (["arms=[synthetic,synthetic]"], "arms: got ['synthetic', 'synthetic'], expected each exactly once."),
    (["phases=[generate,trian]"], "Did you mean 'train'?"),
    (["seeds=[-1]"], "seeds.0: got -1"),
    (["task=[]"], "task: got an empty list"),
    (["data.source=hub", "data.dir=/nowhere"], "data.dir: got '/nowhere' with data.source=hub. Set data.source=local"),
    (["data.dir=/nowhere"], "data.dir: got /nowhere, which is no folder"),
    (["data.source=local"], "data.dir: got null, expected a folder with data.source=local."),
    (["data.source=local", "data.dir=/nowhere"], "data.dir: got /nowhere, which is no folder"),
    (["data.source=fixture", "arms=[original]"], "arms: got original with data.source=fixture"),
    (["synth.seed_source=file"], "synth.seed_dir: got null, expected a folder"),
    (["generator=openai"], "generator.model: got nothing, expected a value."),
    (
        ["generator=batch", "generator.model=m", "generator.path=x"],
        "generator.path: the chosen generator has no such key.",
    ),
    (
        ["generator=llama31_8b", "generator.engine.data_parallel_size=2", "shard.count=2"],
        "generator.engine.data_parallel_size: got 2 with shard.count=2, expected one of them",
    ),
    (["foo"], "foo: not an override"),
    (["task=[copa"], "task=[copa: not an override"),
    (
        ["generator=openai", "generator.model=m", "generator.base_url=localhost:8000"],
        "expected http(s)://host:port/v1.",
    ),
    (["generator.path=/nowhere", "phases=[generate]"], "generator.path: got /nowhere, which has no axg.jsonl"),
    (["synth.sampling.generation.temperature=-1"], "greater than or equal to 0"),
]


@pytest.mark.parametrize(("overrides", "words"), MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path: Path, overrides: list[str], words: str) -> None:
    done = command("targen.run", *overrides, f"run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("error: ") == 1
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert files(tmp_path) == {}


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    done = command("targen.run", "synth.size=0", "train.epochs=-1", "arms=[both]", f"run.dir={tmp_path}")
    assert done.returncode == 2
    assert [line.split(":")[1].strip() for line in done.stderr.splitlines()] == ["arms.0", "synth.size", "train.epochs"]


def test_missing_original_files_are_named_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = command(
        "targen.run",
        "task=[cb,axg]",
        "data.source=local",
        f"data.dir={tmp_path / 'data'}",
        f"run.dir={tmp_path / 'run'}",
    )
    assert done.returncode == 2
    assert {line.split(" is missing")[0].rpartition("/data/")[2] for line in done.stderr.splitlines()} == {
        "CB/val.jsonl", "CB/train.jsonl", "AX-g/test.jsonl", "RTE/train.jsonl",
    }  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_phases_alone_without_their_input_say_what_to_run_first(tmp_path: Path) -> None:
    for module, phase in (("train.run", "generate"), ("eval.run", "train")):
        done = command(module, f"run.dir={tmp_path}", "arms=[synthetic]", "data.source=fixture")
        assert done.returncode == 2
        assert f"Run phases=[{phase}] first." in done.stderr
    done = command("eval.report", f"run.dir={tmp_path}")
    assert (done.returncode, "Run the other phases first." in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "module", ["targen.run", "targen.generate", "targen.merge", "train.run", "train.launch", "eval.run", "eval.analyze", "eval.report", "slurm.submit"]
)  # fmt: skip
def test_help_is_there_at_once(module: str) -> None:
    """Nothing heavy is imported, and it takes about half a second of CPU time; wall-clock time depends on the load."""

    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = command(module, "--help", PYTHONPROFILEIMPORTTIME="1")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        assert f"python -m {module}" in done.stdout
        assert "+experiment=" in done.stdout
        imported = _imported(done.stderr)
        assert "targen" in imported
        assert not HEAVY & imported
        if module == "targen.run":
            assert not {"numpy", "hydra", "omegaconf", "pydantic"} & imported
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < (0.5 if module == "targen.run" else 0.8) for _ in range(10))


@pytest.mark.parametrize("module", ["targen.generate", "train.run", "eval.run"])
def test_a_mistake_is_told_before_anything_heavy_is_imported(module: str) -> None:
    done = command(module, "train.epoch=3", PYTHONPROFILEIMPORTTIME="1")
    assert (done.returncode, "Did you mean" in done.stderr) == (2, True)
    assert not HEAVY & _imported(done.stderr)


def _imported(import_times: str) -> set[str]:
    """The packages that an interpreter has imported, by what it prints for PYTHONPROFILEIMPORTTIME."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in import_times.splitlines()}


def test_help_prints_the_settings_of_a_group() -> None:
    train, openai = command("targen.run", "--help=train"), command("targen.run", "--help=generator/openai")
    assert (train.returncode, openai.returncode) == (0, 0)
    assert "warmup_ratio: 0.1        # Fraction of the steps used for learning rate warmup." in train.stdout
    assert openai.stdout == (CONF / "generator" / "openai.yaml").read_text(encoding="utf-8")
    unknown = command("targen.run", "--help=trian")
    assert (unknown.returncode, unknown.stderr) == (
        2, "error: --help: got 'trian', expected a file of conf/. Did you mean 'train'?\n",
    )  # fmt: skip


def test_the_server_path_of_generation_does_not_import_torch(tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv[1:] = ['generator=openai', 'generator.model=m', 'generator.base_url=http://127.0.0.1:9/v1',"
        f" 'run.dir={tmp_path}', 'phases=[generate]']\n"
        "import runpy\n"
        "try: runpy.run_module('targen.generate', run_name='__main__')\n"
        "except SystemExit as end: assert end.code == 2\n"
        "assert 'aiohttp' in sys.modules\n"
        "assert not {'torch', 'transformers', 'datasets', 'sklearn'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr


def test_hydra_shows_the_composed_configuration() -> None:
    done = command("targen.run", "--cfg", "job")
    assert done.returncode == 0
    assert "name: quickstart" in done.stdout


def test_a_task_without_an_experiment_inherits_nothing_of_the_quickstart() -> None:
    done = command("targen.run", "--cfg", "job", "--resolve", "task=[rte,cb]")
    assert done.returncode == 0
    assert "name: rte_cb" in done.stdout and "dir: outputs/rte_cb" in done.stdout and "folder: CB" in done.stdout
    assert "  size: 200" in done.stdout and done.stdout.count("max_rows: null") == 2
    assert "fallback: null" in done.stdout and "quickstart" not in done.stdout
