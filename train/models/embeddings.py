"""Embeddings of texts by an encoder as it is."""

from collections.abc import Sequence

from targen.config.groups.training import Model
from targen.quality.encoder import Numbers, mean_embeddings
from train.models.loading import PLAIN, FamilyTraits, load

TRAITS = FamilyTraits(special_tokens=("pad",), has_new_head=True)  # of all encoders


def embeddings(model: Model, texts: Sequence[str]) -> Numbers:
    """Vectors of length 1, `(texts, dimensions)`: the mean of the last layer over tokens, as in sentence-transformers.

    New weights of a model that is built from its sizes are always the same.
    Raises: UserError if the model is missing, lacks weights, or its checksum is wrong.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    with torch.random.fork_rng():
        torch.manual_seed(0)
        # as a classifier, since loading then says if weights below its head are missing
        loaded = load(AutoModelForSequenceClassification, model, TRAITS, PLAIN)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    body = loaded.model.base_model.to(device).eval()
    return mean_embeddings(body, loaded.tokenizer, texts, device)
