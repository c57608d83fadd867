"""Rules for the settings of generation and shards."""

import math
from collections.abc import Sequence
from typing import get_args
from urllib.parse import urlsplit

from targen.config.groups.generation import COPIES, STEPS, UNUSABLE, BodyField
from targen.config.rules.rule import Rule
from targen.config.settings import Settings
from targen.runtime.credentials import holds_credentials, without_credentials


def _tasks_with_split_instances(settings: Settings) -> list[str]:
    """Tasks whose rows come in groups that the size would split."""
    return [name for name, task in settings.tasks.items() if settings.synth.size_of(task) % task.rows_per_slot]


def _rows_per_instance(settings: Settings) -> int:
    return math.lcm(*(settings.tasks[name].rows_per_slot for name in _tasks_with_split_instances(settings)))


def _next_whole_size(settings: Settings) -> int:
    group_size = math.lcm(*(task.rows_per_slot for task in settings.tasks.values()))
    size = settings.synth.size
    assert size != "original", "is rounded down to whole instances"
    largest = max(size.values()) if isinstance(size, dict) else size
    return math.ceil(largest / group_size) * group_size


def _wrong_urls(settings: Settings) -> list[str]:
    return [url for url in settings.generator.base_urls if not _is_http(url)]


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _has_repeated_urls(settings: Settings) -> bool:
    urls = [url.rstrip("/") for url in settings.generator.base_urls]
    return len(set(urls)) < len(urls)


def _urls_with_credentials(settings: Settings) -> list[str]:
    return [url for url in settings.generator.base_urls if holds_credentials(url)]


NO_SERVER = ("recorded", "transformers", "vllm")
UNUSED = {  # a setting, and the backends that take no notice of it
    **dict.fromkeys(("extra_body", "drop", "rename", "system"), NO_SERVER),
    **dict.fromkeys(("requests_per_minute", "tokens_per_minute"), (*NO_SERVER, "batch")),
    "chat_template": ("openai", "batch"),
}


def _unused_settings(settings: Settings) -> list[str]:
    """The settings of UNUSED that are set all the same."""
    generator = settings.generator
    return [
        name
        for name, backends in UNUSED.items()
        if generator.backend in backends and getattr(generator, name) not in (None, [], {}, "keep")
    ]


def _fields_dropped_and_renamed(settings: Settings) -> list[str]:
    return sorted(set(settings.generator.drop) & set(settings.generator.rename))


def _sent_fields(settings: Settings) -> list[str]:
    """The fields of a body as they are sent, without those of extra_body."""
    drop, rename = settings.generator.drop, settings.generator.rename
    return ["messages", *(str(rename.get(name, name)) for name in get_args(BodyField) if name not in drop)]


def _fields_sent_twice(settings: Settings) -> list[str]:
    template = ["chat_template_kwargs"] if settings.generator.chat_template_kwargs else []
    return sorted(set(settings.generator.extra_body) & {*_sent_fields(settings), *template})


def _has_repeats(values: Sequence[object]) -> bool:
    return len(set(values)) < len(values)


def _tasks_with_label_unusable(settings: Settings) -> list[str]:
    """Tasks with a label of the name that self-correction answers for an instance that it refuses."""
    return [name for name, task in settings.tasks.items() if any(label.name == UNUSABLE for label in task.labels)]


SYNTH = (
    Rule(
        "synth.correct_refuses",
        lambda s: s.synth.correct_refuses and bool(_tasks_with_label_unusable(s)),
        got=lambda s: f"true with the task {_tasks_with_label_unusable(s)[0]}, which has a label {UNUSABLE!r}",
        expected="other names of labels, since this is the answer for an instance that is refused",
        what_to_do="Rename the label, or set it to false.",
    ),
    Rule(
        "synth.sampling",
        lambda s: set(s.synth.sampling) != set(STEPS),
        got=lambda s: f"{sorted(s.synth.sampling)}",
        expected=f"all of {list(STEPS)}",
    ),
    Rule(
        "synth.size",
        lambda s: bool(_tasks_with_split_instances(s)),
        got="{synth.size}",
        expected=lambda s: (
            f"a multiple of {_rows_per_instance(s)} for {', '.join(_tasks_with_split_instances(s))}, whose rows come in groups of "
            f"{_rows_per_instance(s)}"
        ),
        what_to_do=lambda s: f"Set synth.size={_next_whole_size(s)}.",
    ),
    Rule(
        "synth.seed_dir",
        lambda s: s.synth.seed_source == "file" and not s.synth.seed_dir,
        got="{synth.seed_dir}",
        expected="a folder with synth.seed_source=file",
        what_to_do="Set synth.seed_dir=...",
    ),
    Rule(
        "synth.seed_source",
        lambda s: s.synth.seed_source == "file" and s.method.instance_seed is None,
        got="file with method={method.name}, which has no instance seeds",
        what_to_do="Set method=targen.",
    ),
    Rule(
        "synth.seed_dir",
        lambda s: s.synth.seed_source == "llm" and bool(s.synth.seed_dir),
        got="{synth.seed_dir!r} with synth.seed_source=llm",
        what_to_do="Set synth.seed_source=file.",
    ),
)

ROUNDS = (
    Rule(
        "shard.count",
        lambda s: s.method.rounds is not None and s.shard.count > 1,
        got="{shard.count} with method={method.name}, whose rounds need all rows so far",
        expected="1",
        what_to_do="Leave out shard.count and shard.index.",
    ),
    Rule(
        f"generator.engine.{COPIES}",
        lambda s: s.method.rounds is not None and s.generator.copies > 1,
        got=lambda s: f"{s.generator.copies} with method={s.method.name}, whose rounds need all rows so far",
        expected="1, as each copy makes a shard",
        what_to_do="Leave it out, or spread the model with generator.engine.tensor_parallel_size.",
    ),
    Rule(
        "synth.spare",
        lambda s: s.method.rounds is not None and s.synth.spare > 0,
        got="{synth.spare} with method={method.name}, whose later rounds the spare rows of the first would fill",
        expected="0",
        what_to_do="Leave it out.",
    ),
    Rule(
        "synth.seed_source",
        lambda s: s.method.rounds is not None and s.synth.seed_source == "file",
        got="file with method={method.name}, whose rounds choose contexts, and seeds of a file have none",
        what_to_do="Set method=targen, or synth.seed_source=llm.",
    ),
)

SHARDS = (
    Rule(
        "shard.index",
        lambda s: s.shard.index >= s.shard.count,
        got="{shard.index}",
        expected=lambda s: f"0 to {s.shard.count - 1} with shard.count={s.shard.count}",
    ),
    Rule(
        "shard.count",
        lambda s: s.shard.count > 1 and s.generator.backend == "batch",
        got="{shard.count} with generator=batch, whose files hold all requests",
        what_to_do="Leave it out.",
    ),
    Rule(
        f"generator.engine.{COPIES}",
        lambda s: s.generator.copies > 1 and s.shard.count > 1,
        got=lambda s: f"{s.generator.copies} with shard.count={s.shard.count}",
        expected="one of them, as each copy makes a shard",
        what_to_do="Leave out shard.count for the copies of one machine.",
    ),
    Rule(
        "synth.pilot",
        lambda s: s.synth.pilot is not None and s.shard.count > 1,
        got="{synth.pilot} with shard.count={shard.count}, but one process makes a pilot",
        what_to_do="Make the pilot with shard.count=1, then start the shards.",
    ),
)

RUN = (
    Rule(
        "run.dir",
        lambda s: not s.run.dir.strip(),
        got="{run.dir!r}",
        expected="a folder",
        what_to_do="Name one, or leave it out: then it is outputs/{name}.",
    ),
)


GENERATOR = (
    Rule(
        "generator.base_url",
        lambda s: s.generator.backend == "openai" and bool(_wrong_urls(s)),
        got=lambda s: ", ".join(map(repr, _wrong_urls(s))),
        expected="http(s)://host:port/v1",
    ),
    Rule(
        "generator.base_url",
        lambda s: s.generator.backend == "openai" and _has_repeated_urls(s),
        got=lambda s: f"{s.generator.base_urls}",
        expected="each exactly once",
    ),
    Rule(
        "generator.base_url",
        lambda s: bool(_urls_with_credentials(s)),
        got=lambda s: without_credentials(_urls_with_credentials(s)[0]),
        expected="an address without a user, a password or a key, because config.yaml keeps it",
        what_to_do=lambda s: f"Put the key into ${s.generator.api_key_env or 'OPENAI_API_KEY'}.",
    ),
    Rule(
        lambda s: f"generator.{_unused_settings(s)[0]}",
        lambda s: bool(_unused_settings(s)),
        got=lambda s: (
            f"{getattr(s.generator, _unused_settings(s)[0])!r} with generator={s.generator.backend}, which does not use it"
        ),
        what_to_do="Leave it out.",
    ),
    Rule(
        "generator.rename",
        lambda s: bool(_fields_dropped_and_renamed(s)),
        got=lambda s: f"{_fields_dropped_and_renamed(s)[0]}, which generator.drop leaves out",
        expected="one of them",
        what_to_do="Leave it out of one.",
    ),
    Rule(
        "generator.rename",
        lambda s: _has_repeats(_sent_fields(s)),
        got="{generator.rename}",
        expected=lambda s: f"each field under a name of its own; a request has {', '.join(_sent_fields(s))}",
    ),
    Rule(
        lambda s: f"generator.extra_body.{_fields_sent_twice(s)[0]}",
        lambda s: bool(_fields_sent_twice(s)),
        got=lambda s: f"{s.generator.extra_body[_fields_sent_twice(s)[0]]!r}, a field that requests have already",
        what_to_do="Set it where it belongs (synth.sampling, generator.model, ...), or leave it out of requests with generator.drop.",
    ),
    Rule(
        "generator.path",
        lambda s: s.generator.backend in ("openai", "batch") and bool(s.generator.path),
        got="{generator.path!r} with generator={generator.backend}, which reads no folder",
        what_to_do="Leave it out.",
    ),
)

REPEATS = (
    Rule("seeds", lambda s: _has_repeats(s.seeds), got="{seeds}", expected="each exactly once"),
    Rule("arms", lambda s: _has_repeats(s.arms), got="{arms}", expected="each exactly once"),
    Rule("phases", lambda s: _has_repeats(s.phases), got="{phases}", expected="each exactly once"),
)
