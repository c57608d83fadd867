"""What a run says at its start: its size, and each limit that takes effect."""

from targen.pipeline.start import start_lines
from tests.support.commands import settings


def test_the_start_names_the_size_and_the_limits_that_take_effect() -> None:
    small = settings("task=[cb,copa]", "synth.size=400", "eval.max_rows=64", "run.dir=a")
    (first, *limits) = start_lines(small, small.phases)
    assert first.startswith("run: a: synthetic rows (synth.size): 400 of cb, 400 of copa, by ")
    assert first.endswith("; minilm finetuned on original and on synthetic rows")
    assert limits == [
        "limit: train.max_rows=24: at most 24 training rows a task, of which there would be more (cb 400, copa 400)",
        "limit: eval.max_rows=64: at most 64 evaluation rows a task, of which there would be more (copa 100)",
    ]
    full = settings("+experiment=superglue_flant5", "task=[record,cb]", "run.dir=a")
    assert start_lines(full, ["generate"])[1:] == [
        "limit: synth.max_size=10000: at most 10,000 rows a task, of which there would be more (record 65,709)"
    ]
    assert start_lines(settings("+experiment=superglue_recorded", "task=cb"), ["evaluate"]) == []


def test_training_examples_are_counted_of_the_arms_that_the_run_has() -> None:
    """A question of MultiRC has an example an answer: those of the synthetic ones are an estimate."""

    def limit(*overrides: str) -> list[str]:
        run = settings("+experiment=superglue_full", "task=[multirc,record]", "run.dir=a", *overrides)
        return start_lines(run, ["train"])[1:]

    text = "limit: train.max_rows=10000: at most 10,000 training rows a task, of which there would be more"
    assert limit() == [f"{text} (multirc 27,243, record 100,730)"]
    assert limit("arms=[synthetic]") == limit("train.equal_size=true") == [f"{text} (multirc about 22,950)"]
    assert limit("arms=[synthetic]", "synth.size=20") == limit("arms=[none]") == []
    mixture = limit("arms=[mixed]", "synth.size=20", "train.setting=multi", "train.mixture_cap=100")
    assert [line.split("(")[-1] for line in mixture] == ["multirc about 180)"]
    full = settings("+experiment=superglue_full", "task=[axg,multirc]", "synth.max_size=500")
    assert [line.split("(")[-1] for line in start_lines(full, ["generate"])[1:]] == ["multirc 5,100)"]


def test_limits_on_mixtures_and_documents_are_said_where_they_take_effect() -> None:
    overrides = (
        "model=flan_t5_base",
        "train.setting=multi",
        "train.mixture_cap=100",
        "eval.openllm.suite=openllm_4",
        "eval.openllm.limit=5",
    )
    lines = start_lines(settings("+experiment=superglue_recorded", "task=[cb,axg]", *overrides), ["train", "evaluate"])
    assert [line.split(":")[1].strip() for line in lines[1:]] == ["train.mixture_cap=100", "eval.openllm.limit=5"]
    single = settings("+experiment=superglue_recorded", "task=[cb,axg]", "train.mixture_cap=100")
    assert len(start_lines(single, ["train"])) == 1
