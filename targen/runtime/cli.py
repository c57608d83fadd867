"""Runs a phase from its command line: composes the configuration, and reports a user's mistakes in one line each."""

import io
import logging
import os
import re
import sys
from collections.abc import Callable
from typing import Any

from targen.runtime.credentials import holds_credentials, without_credentials
from targen.runtime.errors import UserError, did_you_mean, disk_error, short
from targen.runtime.paths import CONF, visible
from targen.runtime.signals import Stopped
from targen.runtime.task_files.config_dir import without_config_dir

Phase = Callable[[Any, list[str]], int]  # composed configuration, the overrides it came from -> exit code
Direct = Callable[[list[str]], int | None]  # arguments as typed -> exit code; None: compose the configuration
INTERRUPTED = 130  # exit code after Ctrl-C, as in a shell
USER_ERROR = 2  # exit code for mistakes that the user can correct
AWAITING = (
    75  # exit code of a phase, and of the run, that waits for the answers of batch files: the same command goes on
)
REQUEUE = 85  # exit code of a run that was told to stop and saved its progress: the same command resumes
CHILD = "TARGEN_CHILD"  # variable that targen.run sets in its phases
CHECK = "TARGEN_CHECK"  # variable that it sets for a phase that should only check its settings
DEFAULT_EXPERIMENT = "quickstart"
OPEN_KEYS = tuple(f"generator.{name}." for name in ("engine", "chat_template_kwargs", "extra_body", "rename"))
HELP = """{program}: {summary}

  {program} [+experiment=NAME] [key=value ...]

  +experiment=   {experiments} (default: quickstart)
  task=          a list of {tasks}
  method=        {methods}
  generator=     {generators}
  model=         {models}
  phases=[generate,train,evaluate,report], also analyze   run.dir=   seed=   seeds=[0,1,2]   arms=[original,synthetic]
  synth.size=    rows per task, or original; also synth.contexts= synth.seeds_per_context= synth.self_correct=
  shard.index= shard.count=   generates one share of the rows; python -m targen.merge joins all shares
  plan=true      prints the number of calls and tokens, and cost and time with price.prompt= price.completion=
                 price.tokens_per_second=; calls nothing
  train.setting= single, multi; also train.instruct= train.loss=ce|imp|dimp train.lora=default train.init_from=
  data.source=   hub, local (with data.dir=), fixture, none; data.dir= a folder or a .jsonl, .csv or .tsv file
  cell=          trains and scores only this cell of the grid; on SLURM use slurm/submit.sh with cluster={clusters}

All keys and what they mean: --help=train prints conf/train/default.yaml, --help=generator/openai that file.
The composed configuration: --cfg job. Sweeps: -m.
Exit codes: 0 done, 2 a setting or file is wrong, 75 answers of batch files are awaited (generator=batch), 85 stopped; after
75 and 85 the same command goes on.
"""


def main(command: str, summary: str, phase: Phase, direct: Direct | None = None) -> None:
    """Runs one phase and exits: 0 done, 2 a mistake of the user, 75 answers are awaited, 85 stopped, 1 a bug.

    `phase` gets the composed configuration. `direct` gets the arguments first and can handle those that need no configuration.
    """
    use_utf8()
    arguments = sys.argv[1:]
    if "-h" in arguments or "--help" in arguments:
        print(_help(command, summary), end="")
        sys.exit(0)
    if topics := [argument.partition("=")[2] for argument in arguments if argument.startswith("--help=")]:
        try:
            print("\n".join(map(_settings_file, topics)), end="")
            sys.exit(0)
        except UserError as err:
            _die(err)
    _log_to_stderr()
    arguments = [re.sub(r"^experiment=", "+experiment=", argument) for argument in arguments]
    try:
        arguments = without_config_dir(arguments)
        given = list(arguments)
        if not any(argument.startswith("+experiment=") for argument in arguments):
            arguments.insert(0, f"+experiment={DEFAULT_EXPERIMENT}")
        _refuse_credentials(arguments)
        if direct is not None and (code := direct(given)) is not None:
            sys.exit(code)
        arguments = [as_override(argument) for argument in arguments]
        flags = [a for a in arguments if a.startswith("-") or not re.search(r"^~|=", a)]
        if any(flag.startswith("-") for flag in flags):
            overrides = [argument for argument in arguments if argument not in flags]
            if not {"-m", "--multirun"} & set(flags):
                compose(overrides)  # for its errors
            _hydra_main(command, phase, flags, overrides)
        else:
            sys.exit(phase(compose(arguments), arguments))
    except (UserError, OSError) as err:
        _die(err)
    except Stopped as told:
        print(f"{told}: stopped. Progress is saved; rerun the command to resume.", file=sys.stderr)
        sys.exit(REQUEUE)
    except KeyboardInterrupt:
        print("Interrupted. Progress is saved; rerun the command to resume.", file=sys.stderr)
        sys.exit(INTERRUPTED)


def _refuse_credentials(arguments: list[str]) -> None:
    """Before Hydra writes them to the file of a sweep, or an error shows them. Raises: UserError if an address holds any."""
    for argument in arguments:
        if "base_url=" in argument and holds_credentials(argument):
            raise UserError(
                f"generator.base_url: got {argument.partition('=')[2]}, expected an address without a user, a password or a key, "
                "because config.yaml keeps it. Put the key into $OPENAI_API_KEY."
            )


def use_utf8() -> None:
    """Names of files and messages may hold any character, whatever the locale: LC_ALL=C means ASCII, as in many containers."""
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def as_override(argument: str) -> str:
    """The argument, quoted if its value is a plain text that Hydra cannot read unquoted: ~/data, lr=3, a (b)."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException

    match = re.fullmatch(r"(\+{0,2}[\w.@/:]+=)([^\s'\"\[{$].*)", argument)
    if match is None:
        return argument
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return match[1] + QuotedString(match[2], Quote.single).with_quotes()
    return argument


def compose(overrides: list[str]) -> Any:
    """The composed configuration. Raises: UserError for everything that Hydra refuses."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from targen.runtime.task_files.sources import unknown_task, with_task_sources

    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONF)):
            return hydra_compose("config", overrides=with_task_sources(overrides))
    except (HydraException, OmegaConfBaseException) as err:
        raise UserError(unknown_task(err, overrides) or _one_line(err)) from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as err:
        raise UserError(f"conf: a file or a value cannot be read ({' '.join(str(err).split())}). Repair it.") from None


def _hydra_main(command: str, phase: Phase, flags: list[str], overrides: list[str]) -> None:
    """Passes flags of Hydra (--cfg, --multirun, ...) to Hydra."""
    import hydra
    from hydra.core.hydra_config import HydraConfig

    from targen.runtime.task_files.sources import with_task_sources

    searched = [override for override in overrides if override.startswith("hydra.searchpath=")]

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def entry(cfg: object) -> None:
        try:
            code = phase(cfg, [*HydraConfig.get().overrides.task, *searched])
        except (UserError, OSError) as err:
            _die(err)
        if code:
            sys.exit(code)

    sys.argv = [command, *flags, *with_task_sources(overrides)]
    entry()


def _die(err: UserError | OSError) -> None:
    """Ends with the one line of a mistake, or of a disk that failed. Raises: any other error again."""
    if isinstance(err, BrokenPipeError):
        sys.exit(1)
    told = disk_error(err) if isinstance(err, OSError) else err
    if told is None:
        raise err
    for line in without_credentials(str(told)).splitlines():
        print(f"error: {line}", file=sys.stderr)
    sys.exit(USER_ERROR)


def _one_line(err: Exception) -> str:
    """Hydra's message in the form of this project's messages."""
    from hydra.errors import OverrideParseException

    text = str(err.__cause__ or err) if "Error merging" in str(err) or "Could not override" in str(err) else str(err)
    if match := re.search(r"Could not (?:find|load) '(\w+)/([^']*)'", str(err)):
        group, got = str(match[1]), str(match[2])
        return f"{group}: got {got!r}, expected a file of conf/{group}/. {did_you_mean(got, _options(group))}"
    if match := re.search(r"Ambiguous value for argument '(.+?)=(.*)'\s", str(err)):
        key, got = match[1], match[2]
        return f"{key}: got {got}, expected one value. Write a list as '{key}=[{got}]', a text with a comma as '{key}=\"{got}\"'."
    if isinstance(err, OverrideParseException):
        reason = " ".join(err.message.split()).removeprefix(f"Error parsing override '{err.override}'")
        return (
            f"{short(err.override)}: not an override ({reason.split(' See http')[0].strip()}), expected key=value. Quote a value "
            "with spaces or brackets: 'key=\"...\"'."
        )
    key = re.search(r"is not in struct\s+full_key: (\S+)", text, re.S) or re.search(
        r"Could not override '([^']+)'", str(err)
    )
    if key is not None:
        if key[1].startswith(OPEN_KEYS):
            return f"{key[1]}: got a key that is not there yet, expected a plus before a new one: +{key[1]}=..."
        known = _known_keys()
        if key[1] in known:
            group = key[1].partition(".")[0]
            return f"{key[1]}: the chosen {group} has no such key. Remove it, or choose another {group}: {group}=..."
        return f"{key[1]}: no such key. {did_you_mean(key[1], known)}"
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return " ".join(lines[:3]) + ". See --help."


def _options(group: str) -> list[str]:
    return [path.stem for path in visible(CONF / group, "*.yaml")]


def _known_keys() -> list[str]:
    from omegaconf import DictConfig, OmegaConf

    def walk(node: object, prefix: str) -> list[str]:
        if not isinstance(node, DictConfig):
            return []
        keys = []
        for key in map(str, node):
            keys += [prefix + key, *walk(node._get_node(key), f"{prefix}{key}.")]
        return keys

    config = OmegaConf.load(CONF / "config.yaml")
    groups = [str(group) for default in config.defaults if isinstance(default, DictConfig) for group in default]
    keys = walk(config, "")
    for group in groups:
        for name in _options(group):
            prefix = f"tasks.{name}." if group == "task" else f"{group}."
            keys += walk(OmegaConf.load(CONF / group / f"{name}.yaml"), prefix)
    return sorted({key for key in keys if not re.match(r"hydra|(\w+\.)?defaults$", key)} | set(groups))


def _settings_file(topic: str) -> str:
    """The file of conf/ that explains a group: `train`, `generator/openai`. Raises: UserError if there is none."""
    topics = {
        str(path.relative_to(CONF).with_suffix("")).removesuffix("/default"): path
        for path in visible(CONF, "**/*.yaml")
    }
    if topic not in topics:
        raise UserError(f"--help: got {topic!r}, expected a file of conf/. {did_you_mean(topic, sorted(topics))}")
    return topics[topic].read_text(encoding="utf-8")


def program(otherwise: str, verb: str | None = None) -> str:
    """How this command, or another verb, is typed: `targen train`, or `otherwise` where this process is not started so."""
    if not sys.argv[0].startswith("targen "):
        return otherwise
    return sys.argv[0] if verb is None else f"targen {verb}"


def _help(command: str, summary: str) -> str:
    names = {
        f"{group}s": ", ".join(_options(group))
        for group in ("experiment", "task", "method", "generator", "model", "cluster")
    }
    return HELP.format(program=program(f"python -m {command}"), summary=summary, **names)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "urllib3", "huggingface_hub", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
