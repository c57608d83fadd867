"""A cell's model as lm-evaluation-harness prompts it."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from eval.openllm.harness_output import quiet
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from train.grid.cells import Cell
from train.models import adapters
from train.models.loading import Loaded, resolve
from train.runtime.processes import Processes

SEQ2SEQ_LENGTH = 2048  # tokens; the harness's own 512 cuts most prompts with examples, and T5's positions are relative
CPU_BATCH = 8  # the harness finds the largest batch size by running out of memory, which on a CPU kills the process


class CellModel(HFLM):  # type: ignore[misc]
    """The harness's model around a loaded one; it also counts the prompts that it truncates."""

    def __init__(self, loaded: Loaded, processes: Processes, **options: Any) -> None:
        super().__init__(pretrained=loaded.model, tokenizer=loaded.tokenizer, softmax_dtype=torch.float32, **options)
        # the texts of truncated prompts; a set, since the harness repeats some to give all processes equally many
        self.cut: set[Any] = set()
        self._rank, self._world_size = processes.index, processes.count
        if processes.count > 1:
            from accelerate import Accelerator

            self.accelerator = Accelerator(cpu=not torch.accelerator.is_available())

    def _loglikelihood_tokens(self, requests: Any, *args: Any, **options: Any) -> Any:
        is_causal = self.backend == "causal"  # then prompt and answer share the positions
        room = self.max_length + 1 if is_causal else self.max_length
        self.cut |= {texts for texts, prompt, answer in requests if len(prompt) + is_causal * len(answer) > room}
        return super()._loglikelihood_tokens(requests, *args, **options)

    def tok_batch_encode(self, strings: Any, *args: Any, left_truncate_len: int | None = None, **options: Any) -> Any:
        """The harness's encoding of prompts to continue; those longer than `left_truncate_len` tokens are counted."""
        if left_truncate_len:
            self.cut |= {text for text in strings if len(self.tok_encode(text)) > left_truncate_len}
        return super().tok_batch_encode(strings, *args, left_truncate_len=left_truncate_len, **options)


def max_length(settings: Settings) -> int | None:
    """The longest prompt in tokens; None: as many as the model has positions for."""
    length = settings.eval.openllm.max_length
    return SEQ2SEQ_LENGTH if length is None and settings.model.family != "decoder" else length


def harness_model(settings: Settings, cell: Cell, processes: Processes, load: Callable[[Cell], Loaded]) -> Any:
    """The cell's model for the harness, a CellModel or vLLM's. Raises: UserError if it has too few positions."""
    openllm = settings.eval.openllm
    if openllm.backend == "vllm":
        return _vllm(settings, cell)
    loaded = load(cell)
    positions = getattr(loaded.model.config, "max_position_embeddings", None)
    if openllm.max_length is not None and positions is not None and openllm.max_length > positions:
        raise UserError(
            f"eval.openllm.max_length: got {openllm.max_length}, expected at most {positions}, the positions of {cell.model}. "
            "Lower it."
        )
    automatic = openllm.batch_size == "auto" and not torch.accelerator.is_available()
    with quiet():
        return CellModel(
            loaded,
            processes,
            backend="seq2seq" if settings.model.family == "seq2seq" else "causal",
            batch_size=CPU_BATCH if automatic else openllm.batch_size,
            max_length=max_length(settings),
            mixed_precision_dtype=None if loaded.precision == "fp32" else torch.bfloat16,
        )


def check_vllm(settings: Settings, cells: list[Cell]) -> None:
    """Raises: UserError if eval.openllm.backend is vllm and vLLM is not installed or cannot load a cell."""
    if settings.eval.openllm.backend != "vllm":
        return
    problems = [problem for cell in cells if (problem := _vllm_problem(settings, cell))]
    if importlib.util.find_spec("vllm") is None:
        problems.append(
            "eval.openllm.backend: got vllm, which is not installed. Run pip install -e '.[vllm]', or set eval.openllm.backend=hf."
        )
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _vllm_problem(settings: Settings, cell: Cell) -> str | None:
    if not cell.trained and settings.model.path is None:
        return f"eval.openllm.backend: got vllm with {cell.model}, which is built from sizes and has no folder. Set eval.openllm.backend=hf."
    folder = settings.paths.model(cell.name)
    if cell.trained and adapters.has_adapter(folder) and not (folder / adapters.MERGED).is_dir():
        return (
            f"eval.openllm.backend: got vllm, but {folder} has adapters only. Run phases=[train] again with "
            "train.merge_export=true, or set eval.openllm.backend=hf."
        )
    return None


def _vllm(settings: Settings, cell: Cell) -> Any:
    from lm_eval.models.vllm_causallms import VLLM

    folder = settings.paths.model(cell.name)
    merged = folder / adapters.MERGED
    path = resolve(settings.model) if not cell.trained else str(merged if merged.is_dir() else folder)
    openllm, model = settings.eval.openllm, settings.model
    return VLLM(
        pretrained=path,
        tokenizer=None if cell.trained else model.tokenizer,
        max_length=openllm.max_length,
        batch_size=openllm.batch_size,
        trust_remote_code=model.remote_code,
    )
