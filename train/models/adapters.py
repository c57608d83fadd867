"""LoRA and QLoRA: adapters for frozen weights, saved alone, merged when they are loaded."""

from pathlib import Path
from typing import Any

from targen.config.groups.training import Lora
from targen.runtime.errors import UserError, one_line
from train.models.loading import Loaded

ADAPTER = "adapter_config.json"
BASE = "base"  # folder of a cell: the frozen weights if they exist nowhere else
MERGED = "merged"  # folder of a cell: the model with its adapters merged


def add_adapters(model: Any, lora: Lora, task: str, quantized: bool) -> Any:
    """The model with new fp32 adapters to be trained; a new head is trained as well. Raises: UserError for unknown targets."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    if quantized:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)  # type: ignore[no-untyped-call]
    config = LoraConfig(
        task_type=task,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora),
        modules_to_save=_head(model) if task == "SEQ_CLS" else None,
        fan_in_fan_out=model.config.model_type == "gpt2",  # its layers store their weights transposed
    )
    try:
        return get_peft_model(model, config)
    except ValueError as err:
        reason = one_line(err, 200)
        raise UserError(
            f"train.lora.targets: got {lora.targets} ({reason}). Set all-linear, or names of modules."
        ) from None


def _targets(model: Any, lora: Lora) -> list[str] | str:
    """The modules that peft recommends for the architecture; every linear layer if it knows none."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS

    if lora.targets != "default":
        return lora.targets
    targets = TARGETS.get(model.config.model_type, "all-linear")
    return targets if isinstance(targets, str) else list(targets)


def _head(model: Any) -> list[str]:
    """The modules with weights outside the pretrained body: they are new, and adapters alone would leave them untrained."""
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def has_adapter(folder: Path) -> bool:
    """Whether the folder has saved adapters."""
    return (folder / ADAPTER).is_file()


def merge_adapters(base: Loaded, folder: Path) -> Any:
    """The base model with the folder's adapters merged into its weights."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base.model, str(folder)).merge_and_unload()


def attach_adapters(base: Loaded, folder: Path) -> Any:
    """The base model with the folder's adapters attached: merging into 4-bit weights would lose precision."""
    from peft import PeftModel

    return PeftModel.from_pretrained(base.model, str(folder))
