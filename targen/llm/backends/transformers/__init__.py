"""transformers in this process, for machines without vLLM. The libraries are imported when the model is loaded."""

from targen.llm.messages import LLM
from targen.llm.registry import Backend, BackendInputs


def _make(inputs: BackendInputs) -> LLM:
    from targen.llm.backends.transformers.model import Transformers

    return Transformers(inputs.settings.generator, inputs.shortest_requests())


BACKEND = Backend(_make)
