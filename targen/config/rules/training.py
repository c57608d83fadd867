"""Settings of finetuning and of predictions that are fine alone and wrong together."""

from targen.config.groups.training import Train, launch_file
from targen.config.original_data import shows_original
from targen.config.settings import Settings
from targen.runtime.errors import did_you_mean
from targen.runtime.paths import CONF


def contradictions(settings: Settings) -> list[str]:
    """Settings of finetuning and of predictions that are fine alone and wrong together, a line each."""
    train = settings.train
    return [
        *_of_data(settings),
        *_of_instruction_data(settings),
        *_of_model(settings),
        *_of_losses(settings),
        *_of_the_course(train),
        *_of_predictions(settings),
    ]


def _of_predictions(settings: Settings) -> list[str]:
    found = []
    asked, model = settings.eval, settings.model
    if asked.scoring != "rank" and model.family == "encoder":
        found.append(
            f"eval.scoring: got {asked.scoring} with the encoder {model.name}, which has a head over the labels and writes no "
            "words. Leave it out."
        )
    if asked.shots and "none" not in settings.arms:
        found.append(
            f"eval.shots: got {asked.shots} without the arm none; finetuned models are shown no solved examples. Add none to "
            "arms, or leave it out."
        )
    if asked.shots and settings.train.instruct:
        found.append(
            f"eval.shots: got {asked.shots} with train.instruct=true, whose layout shows train.instruct_examples examples. "
            "Leave one of them out."
        )
    if settings.data.source == "fixture" and shows_original(settings):
        key = "eval.shots" if asked.shots else "train.instruct_examples"
        count = asked.shots or settings.train.instruct_examples
        found.append(
            f"{key}: got {count} for the arm none with data.source=fixture, which has no train split to show rows of. "
            f"Set {key}=0, or data.source=local data.dir=..."
        )
    return found


def _of_data(settings: Settings) -> list[str]:
    found = []
    train, arms, fixture = settings.train, settings.arms, settings.data.source == "fixture"
    real = [arm for arm in arms if arm in ("original", "mixed")]
    if fixture and real:
        found.append(
            f"arms: got {' and '.join(real)} with data.source=fixture, which has no train split. Set 'arms=[synthetic]'."
        )
    if fixture and train.loss != "ce":
        found.append(
            f"train.loss: got {train.loss} with data.source=fixture, which has no train split for its checker."
        )
    if train.equal_size and len({*arms} - {"none"}) == 1:
        found.append(
            f"train.equal_size: got true with the arms {arms}, expected at least two that are trained. Name them in arms."
        )
    if train.setting == "multi" and len(settings.tasks) == 1:
        found.append(
            f"train.setting: got multi with the one task {next(iter(settings.tasks))}, expected at least two. Add tasks, "
            "or set train.setting=single."
        )
    if train.mixture == "temperature" and train.mixture_temperature == 1:
        found.append(
            "train.mixture_temperature: got 1 with train.mixture=temperature, which is proportional. Take more than 1."
        )
    return found


def _of_instruction_data(settings: Settings) -> list[str]:
    if "self_instruct" not in settings.arms:
        return []
    train, source = settings.train, settings.data.self_instruct
    with_it = "with the arm self_instruct"
    found = []
    if source is None:
        found.append(
            f"data.self_instruct: got null {with_it}, expected a file or a data set on the Hub. Set data.self_instruct=..."
        )
    if train.setting == "single":
        found.append(f"train.setting: got single {with_it}, whose rows belong to no task. Set train.setting=multi.")
    if settings.model.family == "encoder":
        found.append(
            f"arms: got self_instruct with the encoder {settings.model.name}, which answers in no words. Leave it out."
        )
    if train.instruct:
        found.append(
            f"train.instruct: got true {with_it}, whose rows are instructions already and have no examples to show. Set "
            "train.instruct=false."
        )
    if train.validate_every is not None:
        found.append(
            f"train.validate_every: got {train.validate_every} {with_it}, whose rows have one answer each, which says nothing. "
            "Set train.validate_every=null."
        )
    if train.loss != "ce":
        found.append(f"train.loss: got {train.loss} {with_it}, whose rows no checker knows. Set train.loss=ce.")
    return found


def _of_model(settings: Settings) -> list[str]:
    found = []
    train, model = settings.train, settings.model
    if (model.path is None) == (model.config is None):
        both = "neither" if model.path is None else "both"
        found.append(f"model.path: got {both} of model.path and model.config, expected one. Name a folder or a Hub id.")
    if model.config is not None and model.tokenizer is None:
        found.append("model.tokenizer: got null, expected one with model.config. Name a folder, a Hub id or `bytes`.")
    if "none" in settings.arms and model.family == "encoder":
        found.append(
            f"arms: got none with the encoder {model.name}, whose head is untrained and answers at random. Leave none out."
        )
    if train.instruct and model.family == "encoder":
        found.append(
            f"train.instruct: got true with the encoder {model.name}, which reads no instructions. Set train.instruct=false."
        )
    if train.quantize and train.lora is None:
        found.append("train.quantize: got 4bit without train.lora; quantised weights are frozen. Set train.lora.r=16.")
    if train.merge_export and train.lora is None:
        found.append("train.merge_export: got true without train.lora, so there is nothing to merge. Leave it out.")
    return found


def _of_losses(settings: Settings) -> list[str]:
    found = []
    train = settings.train
    if train.loss != "ce" and "original" in settings.arms:
        found.append(
            f"train.loss: got {train.loss} with the arm original, whose rows need no weights. Set 'arms=[synthetic]'."
        )
    if train.checker_model is not None:
        known = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
        if train.loss == "ce":
            found.append("train.checker_model: got a model with train.loss=ce, which has no checker. Leave it out.")
        elif train.checker_model not in known:
            found.append(
                f"train.checker_model: got {train.checker_model!r}, expected a file of conf/model/. "
                f"{did_you_mean(train.checker_model, known)}"
            )
    return found


def _of_the_course(train: Train) -> list[str]:
    found = []
    if train.select == "best" and train.validate_every is None:
        found.append("train.select: got best, expected train.validate_every with it. Set train.validate_every=STEPS.")
    if train.select == "best" and train.validate_on == "evaluation":
        found.append(
            "train.validate_on: got evaluation with train.select=best, which would choose the weights on the rows that "
            "are reported. Set train.validate_on=held_out."
        )
    if train.launch is not None and not launch_file(train.launch).is_file():
        known = sorted(path.stem for path in (CONF / "accelerate").glob("*.yaml"))
        found.append(
            f"train.launch: got {train.launch!r}, expected a file of conf/accelerate/ or a path that ends in .yaml. "
            f"{did_you_mean(train.launch, known)}"
        )
    return found
