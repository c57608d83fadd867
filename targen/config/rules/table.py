"""Settings that are fine alone and wrong together, found before anything starts."""

from urllib.parse import urlsplit

from targen.config.groups.generation import STEPS
from targen.config.rules import evaluation, training
from targen.config.settings import Settings


def contradictions(settings: Settings) -> list[str]:
    """A line each, those of finetuning and of the OpenLLM tasks included."""
    return [
        *_of_synth(settings),
        *_of_shard(settings),
        *_of_data(settings),
        *training.contradictions(settings),
        *evaluation.contradictions(settings),
        *_of_generator(settings),
        *_repeated(settings),
    ]


def _of_synth(settings: Settings) -> list[str]:
    found, synth = [], settings.synth
    if set(synth.sampling) != set(STEPS):
        found.append(f"synth.sampling: got {sorted(synth.sampling)}, expected all of {list(STEPS)}.")
    for task in settings.tasks.values():
        size = synth.size_of(task)
        if size % task.rows_per_slot:
            found.append(
                f"synth.size: got {size}, expected a multiple of {task.rows_per_slot} for {task.name}, whose rows come "
                f"in groups of {task.rows_per_slot}. Take {size + 1}."
            )
    if synth.seed_source == "file" and not synth.seed_dir:
        found.append("synth.seed_dir: got null, expected a folder with synth.seed_source=file. Set synth.seed_dir=...")
    if synth.seed_source == "file" and settings.method.instance_seed is None:
        found.append(
            f"synth.seed_source: got file with method={settings.method.name}, which has no instance seeds. Take method=targen."
        )
    if synth.seed_source == "llm" and synth.seed_dir:
        found.append(f"synth.seed_dir: got {synth.seed_dir!r} with synth.seed_source=llm. Set synth.seed_source=file.")
    return found


def _of_shard(settings: Settings) -> list[str]:
    found, shard = [], settings.shard
    if shard.index >= shard.count:
        found.append(f"shard.index: got {shard.index}, expected 0 to {shard.count - 1} with shard.count={shard.count}.")
    if shard.count > 1 and settings.generator.backend == "batch":
        found.append(
            f"shard.count: got {shard.count} with generator=batch, whose files hold all requests. Leave it out."
        )
    return found


def _of_data(settings: Settings) -> list[str]:
    found, data = [], settings.data
    if data.source == "local" and not data.dir:
        found.append("data.dir: got null, expected a folder with data.source=local. Set data.dir=...")
    if data.source != "local" and data.dir:
        found.append(
            f"data.dir: got {data.dir!r} with data.source={data.source}. Set data.source=local, or leave data.dir out."
        )
    if settings.eval.submission and data.source == "fixture":
        found.append(
            "eval.submission: got true with data.source=fixture, which has no test split. Set data.source=hub, or local with data.dir=..."
        )
    return found


def _of_generator(settings: Settings) -> list[str]:
    found, generator = [], settings.generator
    urls = generator.base_urls
    if generator.backend == "openai":
        found += [
            f"generator.base_url: got {url!r}, expected http(s)://host:port/v1." for url in urls if not _is_http(url)
        ]
        if len({url.rstrip("/") for url in urls}) < len(urls):
            found.append(f"generator.base_url: got {urls}, expected each only once.")
    if generator.backend not in ("recorded", "vllm", "transformers") and generator.path:
        found.append(
            f"generator.path: got {generator.path!r} with generator={generator.backend}. Only generator=recorded reads it."
        )
    return found


def _repeated(settings: Settings) -> list[str]:
    every = (("seeds", settings.seeds), ("arms", settings.arms), ("phases", settings.phases))
    return [
        f"{name}: got {values}, expected each only once." for name, values in every if len(set(values)) < len(values)
    ]


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False
