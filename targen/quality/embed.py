"""The process of `embed_in_subprocess`: `python -m targen.quality.embed <model path> <texts.json> <vectors.npy>`."""

import json
import sys
from pathlib import Path

import numpy as np

from targen.quality.encoder import mean_embeddings
from targen.runtime.packages import package_folder


def main(path: str, texts_path: str, vectors_path: str) -> None:
    """Embeds the texts of a file. Raises: UserError, OSError or ImportError if the encoder cannot be loaded."""
    folder = package_folder(path)
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = AutoModel.from_pretrained(folder, use_safetensors=True).eval()
    texts = json.loads(Path(texts_path).read_text(encoding="utf-8"))
    np.save(vectors_path, mean_embeddings(network, tokenizer, texts, "cpu"))


if __name__ == "__main__":
    main(*sys.argv[1:])
