"""Embeddings of texts by a frozen encoder, kept on disk so that no text is embedded twice.

The embedding is the mean of the last layer over tokens, of length 1, as in sentence-transformers.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from targen.config.groups.training import Model
from targen.runtime.jsonl import write_text
from targen.runtime.paths import visible_paths
from targen.runtime.subprocesses import python_path

Numbers = NDArray[np.float64]
Embed = Callable[[Sequence[str]], Numbers]
BATCH = 32  # texts
MAX_TOKENS = 256  # as sentence-transformers truncates for MiniLM
DIGITS = 4  # of a kept embedding
KEPT_AT_ONCE = 2048  # new texts after which embeddings are kept, so that a killed process loses little


class NoEncoder(Exception):
    """The encoder cannot embed; the message says why."""


def mean_embeddings(network: Any, tokenizer: Any, sentences: Sequence[str], device: str) -> Numbers:
    """The embeddings `(sentences, dimensions)` of a transformers model in memory."""
    import torch

    positions = getattr(network.config, "max_position_embeddings", MAX_TOKENS)
    order = sorted(range(len(sentences)), key=lambda index: (-len(sentences[index]), index))
    vectors: list[Numbers] = [np.empty(0)] * len(sentences)
    for start in range(0, len(order), BATCH):
        indices = order[start : start + BATCH]
        batch = tokenizer(
            [sentences[index] for index in indices],
            padding=True,
            truncation=True,
            max_length=min(MAX_TOKENS, positions),
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state.float()
        mask = batch["attention_mask"].unsqueeze(-1).float()
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)
        unit = torch.nn.functional.normalize(means, dim=1).cpu().numpy().astype(np.float64)
        for index, vector in zip(indices, unit, strict=True):
            vectors[index] = vector
    return np.stack(vectors)


class EmbeddingCache:
    """The embeddings of one encoder in one file; `compute` embeds the texts that it lacks."""

    def __init__(self, folder: Path, model: Model, compute: Embed) -> None:
        identity = hashlib.sha256(json.dumps(_model_identity(model)).encode()).hexdigest()[:12]
        self.path = folder / f"{model.name.replace('/', '_')}-{identity}.npz"
        self._compute = compute
        self._vectors: dict[str, NDArray[np.float32]] = {}
        if self.path.is_file():
            with np.load(self.path, allow_pickle=False) as stored:
                self._vectors = dict(zip(stored["keys"].tolist(), stored["vectors"], strict=True))

    def embed(self, texts: Sequence[str]) -> Numbers:
        """The embeddings `(texts, dimensions)`; new ones are computed and stored. Raises: NoEncoder if that is impossible."""
        keys = [_text_key(text) for text in texts]
        new = list({key: text for key, text in zip(keys, texts, strict=True) if key not in self._vectors}.items())
        while new:
            count = max(KEPT_AT_ONCE, len(self._vectors) // 4)  # a growing part, as the whole file is written each time
            part, new = dict(new[:count]), new[count:]
            vectors = np.round(self._compute(list(part.values())), DIGITS).astype(np.float32)
            self._vectors |= dict(zip(part, vectors, strict=True))
            self._save()
        return np.stack([self._vectors[key] for key in keys]).astype(np.float64)

    def _save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.path.parent, suffix=".npz", delete=False) as file:
            np.savez(file, keys=np.array(list(self._vectors)), vectors=np.stack(list(self._vectors.values())))
        Path(file.name).replace(self.path)


def _model_identity(model: Model) -> list[Any]:
    """What embeddings depend on. A local folder without a checksum is identified by size and time of its weights."""
    values: list[Any] = [model.path, model.sha256]
    if model.config is not None or model.tokenizer is not None:
        values += [model.config, model.tokenizer]
    if model.path is not None and model.sha256 is None:
        files = ((path.name, path.stat()) for path in visible_paths(Path(model.path), "*.safetensors"))
        values += [[name, stat.st_size, stat.st_mtime_ns] for name, stat in files]
    return values


def _text_key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def embed_in_subprocess(model: Model, texts: Sequence[str]) -> Numbers:
    """The embeddings, computed by a child process on the CPU: the caller does not load torch, and memory is freed afterwards.

    Raises: NoEncoder with the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        texts_path, vectors_path = Path(folder) / "texts.json", Path(folder) / "vectors.npy"
        write_text(texts_path, json.dumps(list(texts)))
        assert model.path is not None
        command = [sys.executable, "-m", "targen.quality.embed", model.path, str(texts_path), str(vectors_path)]
        environment = os.environ | python_path() | {"CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if process.returncode:
            raise NoEncoder((process.stderr.strip().splitlines() or ["it was killed"])[-1][:300])
        vectors: Numbers = np.load(vectors_path, allow_pickle=False)
        return vectors
