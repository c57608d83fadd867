"""Any OpenAI-compatible server. The HTTP library is imported at the first call."""

import os

from targen.config.settings import Settings
from targen.llm.backends.openai.limits import LIMITS, Limits
from targen.llm.messages import LLM
from targen.llm.registry import Backend, BackendInputs


def make(inputs: BackendInputs, limits: Limits = LIMITS) -> LLM:
    """The client of the servers of `generator.base_url`. Raises: UserError as `OpenAIServer` does."""
    from targen.llm.backends.openai.client import OpenAIServer

    generator = inputs.settings.generator
    key = os.environ.get(generator.api_key_env, "").strip() or None
    canary = inputs.settings.paths.calls / f"{inputs.canary}.jsonl"
    return OpenAIServer(generator, key, canary, inputs.calls.models, os.environ, limits)


def check(settings: Settings) -> None:
    """Raises: UserError if the environment names a proxy or certificates that cannot be used."""
    from targen.llm.backends.openai.connection import proxy_for, trusted_certificates

    if settings.plan:
        return
    for url in settings.generator.base_urls:
        proxy_for(url, os.environ)
    if any(url.startswith("https:") for url in settings.generator.base_urls):
        trusted_certificates(os.environ)


BACKEND = Backend(make, check)
