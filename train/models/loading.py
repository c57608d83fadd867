"""Loads models: pretrained weights, verified by checksum, or new ones built from a configuration of sizes."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targen.config.groups.training import Model, Precision, Train
from targen.quality.encoder import EmbeddingCache
from targen.runtime.errors import UserError, one_line
from targen.runtime.packages import package_folder
from targen.runtime.paths import visible_paths
from train.models.byte_tokenizer import byte_tokenizer
from train.models.own_head import keep_own_head, shape_own_head
from train.models.weight_files import check_readable, from_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SMALLEST_VOCABULARY = 256  # a tokenizer with fewer tokens that does not know "yes" was made up by transformers
BYTES = "bytes"  # model.tokenizer: a token per byte, built here


@dataclass(frozen=True)
class Loading:
    """How weights are held in memory and how attention is computed. Without `weights` only a model's shapes are read;
    `own_head` says then whether its head is tied to its embeddings (None: its files say so)."""

    precision: Precision = "fp32"
    attention: str | None = None
    quantize: str | None = None
    weights: bool = True
    own_head: bool | None = None


PLAIN = Loading()


@dataclass(frozen=True)
class FamilyTraits:
    """What loading has to know of a family of models."""

    special_tokens: tuple[str, ...]  # those that its tokenizer must have: pad, eos
    ends_texts: bool = False  # the byte tokenizer adds an end token to every text
    pads_with_end: bool = False  # a tokenizer without a pad token pads with its end token
    has_new_head: bool = False  # the head's weights may be missing from the files
    limits_positions: bool = True  # the model has a fixed number of positions


@dataclass(frozen=True)
class Loaded:
    """A model with its tokenizer."""

    model: Any
    tokenizer: Any
    precision: Precision = "fp32"  # of its arithmetic
    embeddings: EmbeddingCache | None = None  # below the linear layer of train.freeze, which has no tokenizer


def loading_of(train: Train) -> Loading:
    """As train.precision, train.attention and train.quantize ask."""
    return Loading(train.precision, train.attention, train.quantize)


def load(auto_class: Any, model: Model, traits: FamilyTraits, loading: Loading, **config: Any) -> Loaded:
    """The model of one of transformers' Auto classes with its tokenizer; `config` overrides entries of its configuration.

    Without weights its config.json is enough, and the tokenizer may be None.
    Raises: UserError if it is missing, its checksum is wrong, or it needs something that was not allowed.
    """
    from safetensors import SafetensorError
    from transformers import AutoConfig

    quiet()
    tokenizer = _tokenizer_for(model, traits, loading)
    options = _options(loading)
    try:
        if model.config is not None:
            sizes = {"vocab_size": len(tokenizer), **special_tokens(tokenizer), **model.config, **config}
            new = auto_class.from_config(AutoConfig.for_model(**sizes), **options)
            return Loaded(new, tokenizer, loading.precision)
        if not loading.weights:
            sizes = AutoConfig.from_pretrained(
                package_folder(model.path or ""), trust_remote_code=model.remote_code, **config
            )
            new = auto_class.from_config(sizes, trust_remote_code=model.remote_code, **options)
            shape_own_head(new, package_folder(model.path or ""), model.pickle, loading.own_head)
            return Loaded(new, tokenizer, loading.precision)
        path = resolve(model)
        if loading.quantize is not None:
            config["quantization_config"] = _four_bits()
        # pickled weights can run code when they are read; transformers reads them with weights_only
        weights = from_files(
            auto_class,
            path,
            new_head=traits.has_new_head,
            use_safetensors=None if model.pickle else True,
            trust_remote_code=model.remote_code,
            **options,
            **config,
        )
    except (OSError, ValueError, ImportError, TypeError, RuntimeError, SafetensorError) as err:
        raise loading_error(model, err) from None
    keep_own_head(weights)
    return Loaded(weights, tokenizer, loading.precision)


def _tokenizer_for(model: Model, traits: FamilyTraits, loading: Loading) -> Any:
    """The tokenizer; None if only shapes are wanted and it is not on this machine."""
    try:
        return load_tokenizer(model, traits)
    except UserError:
        if loading.weights or model.config is not None:
            raise
        return None


def load_folder(auto_class: Any, folder: Path, loading: Loading, has_tokenizer: bool = True) -> Loaded:
    """A model that was trained here, with its tokenizer if it has one. Raises: UserError if it cannot be read."""
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    quiet()
    try:
        tokenizer = _for_rows(AutoTokenizer.from_pretrained(folder)) if has_tokenizer else None
        weights = from_files(auto_class, folder, new_head=False, use_safetensors=True, **_options(loading))
        return Loaded(weights, tokenizer, loading.precision)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
        raise UserError(f"{folder}: cannot be loaded ({one_line(err, 300)}). Remove it to train again.") from None


def quiet() -> None:
    """Without progress bars and warnings of transformers."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()  # a new head is expected, not worth a warning
    transformers_logging.disable_progress_bar()


def _options(loading: Loading) -> dict[str, Any]:
    import torch

    # T5's activations overflow in fp16; fp32 weights, with bf16 arithmetic where train.precision asks for it
    options = {"dtype": torch.bfloat16 if loading.precision == "bf16_weights" else torch.float32}
    return options | ({"attn_implementation": loading.attention} if loading.attention else {})


def config_of(model: Model, weights: bool = True) -> "PretrainedConfig":
    """The model's configuration. Raises: UserError if it is not available, nor the `weights` beside it."""
    from transformers import AutoConfig

    try:
        if model.config is not None:
            return AutoConfig.for_model(**model.config)
        path = resolve(model) if weights else package_folder(model.path or "")
        return AutoConfig.from_pretrained(path, trust_remote_code=model.remote_code)
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise loading_error(model, err) from None


def load_tokenizer(model: Model, traits: FamilyTraits) -> "PreTrainedTokenizerBase":
    """The tokenizer, with the special tokens that its family needs. Raises: UserError if one is missing."""
    from transformers import AutoTokenizer

    source = model.tokenizer or model.path
    assert source is not None  # the settings' rules ensure it
    if source == BYTES:
        return _for_rows(byte_tokenizer(traits.ends_texts))
    try:
        tokenizer = AutoTokenizer.from_pretrained(package_folder(source), trust_remote_code=model.remote_code)
    except (OSError, ValueError, ImportError, KeyError) as err:
        raise loading_error(model, err) from None
    _for_rows(tokenizer)
    ids = tokenizer("yes", add_special_tokens=False)["input_ids"]
    # made by transformers of its special tokens alone
    if not ids or (len(tokenizer) < SMALLEST_VOCABULARY and tokenizer.unk_token_id in ids):
        raise UserError(
            f"model.path: {source} has no tokenizer, expected a tokenizer.json or a vocabulary. Name one: model.tokenizer=..."
        )
    if traits.pads_with_end and tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding is masked, and the end of an answer is learnt by its id
    missing = [name for name in traits.special_tokens if getattr(tokenizer, f"{name}_token") is None]
    if missing:
        raise UserError(
            f"model.path: the tokenizer of {model.name} has no {' and no '.join(missing)} token, expected one for the family "
            f"{model.family}. Set it in its tokenizer_config.json, or choose another model."
        )
    return tokenizer


def _for_rows(tokenizer: Any) -> Any:
    """The tokenizer, set to read a special token that a row contains (</s>, [SEP], ...) as text. It is not saved so."""
    tokenizer.split_special_tokens = True
    return tokenizer


def special_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int | None]:
    """The ids of the special tokens as a model's configuration names them."""
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}


def resolve(model: Model) -> str:
    """The local directory or Hub id of a model; `package:<package>/<folder>` is looked up among installed packages.

    Raises: UserError if the package is missing, a directory has no weights that may be read or has adapters, or the checksum
    of model.safetensors differs from the configuration's.
    """
    from transformers.utils import find_adapter_config_file

    assert model.path is not None
    path = package_folder(model.path)
    if find_adapter_config_file(path) is not None:  # transformers would put them into the model, or into its base model
        raise UserError(
            f"model.path: {path} has adapters (adapter_config.json), expected whole weights alone. Merge the adapters into "
            "their base model, or name the base model."
        )
    if model.sha256 is not None:
        _check_sha256(path, model.sha256)
    folder = Path(path)
    check_readable(folder)
    if folder.is_dir() and not visible_paths(folder, "*.safetensors"):
        if not visible_paths(folder, "pytorch_model*.bin"):
            raise UserError(f"model.path: {path} has no weights, expected model.safetensors. Check the path.")
        if not model.pickle:
            raise UserError(
                f"model.path: {path} has pickled weights only, which can run code when they are read. Convert them to "
                "safetensors, or allow them: +model.pickle=true."
            )
    return path


def _check_sha256(path: str, sha256: str) -> None:
    weights = Path(path) / "model.safetensors"
    if not weights.is_file():
        raise UserError(
            f"model.path: {path} has no model.safetensors, expected one with model.sha256. Set model.sha256=null for a Hub id."
        )
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if digest != sha256:
        raise UserError(
            f"model.sha256: {weights} has {digest}, expected {sha256}. These are not the weights that the configuration names: do not use them."
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


def loading_error(model: Model, err: Exception) -> UserError:
    """The error for a model that cannot be loaded."""
    message = one_line(err)
    reason = message[:300]
    if "trust_remote_code" in message:
        return UserError(
            f"model.path: {model.path} needs its own program code, which does not run unless you allow it. Read it, then set "
            "+model.remote_code=true."
        )
    if "attn_implementation" in reason or "attention implementation" in reason:
        return UserError(
            f"train.attention: {model.name} does not support this attention ({reason}). Set train.attention=null."
        )
    if "no file named model.safetensors" in reason:
        return UserError(
            f"model.path: {model.path} has no model.safetensors ({reason}). If it has pickled weights, which can run code when "
            "they are read, convert them, or allow them: +model.pickle=true."
        )
    return UserError(f"model.path: {model.path} cannot be loaded ({reason}). Check the path, or fetch the model first.")
