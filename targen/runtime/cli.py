"""Runs a phase from its command line: composes the configuration, and reports a user's mistakes in one line each."""

import io
import logging
import os
import re
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from targen.runtime.command_line.completion import completion_script
from targen.runtime.command_line.flags import CONFIG_NAME, PRINTING, flags_and_overrides, words_for_hydra
from targen.runtime.command_line.forgotten_tasks import refuse_forgotten_tasks
from targen.runtime.command_line.hydra_errors import hydra_message
from targen.runtime.command_line.sweep import check_run_dirs, job_names, job_overrides, swept_jobs
from targen.runtime.command_line.version import __version__
from targen.runtime.credentials import holds_credentials, without_credentials
from targen.runtime.errors import UserError, did_you_mean, disk_error, one_line
from targen.runtime.paths import CONF, group_choices, visible_paths
from targen.runtime.signals import Stopped
from targen.runtime.task_files.config_dir import without_config_dir

if TYPE_CHECKING:
    from targen.runtime.command_line.primary_config import PrimaryConfig

Phase = Callable[[Any, list[str]], int]  # composed configuration, the overrides it came from -> exit code
Direct = Callable[[list[str]], int | None]  # arguments as typed -> exit code; None: compose the configuration
INTERRUPTED = 130  # exit code after Ctrl-C, as in a shell
USER_ERROR = 2  # exit code for mistakes that the user can correct
AWAITING = 75  # exit code of a phase or run that waits for the answers of batch files: the same command goes on
REQUEUE = 85  # exit code of a run that was asked to stop and saved its progress: the same command resumes
CHILD = "TARGEN_CHILD"  # variable that targen.run sets in its phases
CHECK = "TARGEN_CHECK"  # variable that it sets for a phase that should only check its settings
DEFAULT_EXPERIMENT = "quickstart"
HELP = """{program}: {summary}

  {program} [+experiment=NAME] [key=value ...]

  +experiment=   {experiments}; without it and without task=: quickstart
  task=          a list of {tasks}
  task_dir=      a folder with tasks of your own: docs/own_task.md; targen.new_task NAME writes a file for one
  method=        {methods}
  generator=     {generators}
  model=         {models}
  phases=[generate,train,evaluate,report], also analyze   run.dir=   seed=   seeds=[0,1,2]   arms=[original,synthetic]
  synth.size=    rows per task, or original; also synth.contexts= synth.seeds_per_context= synth.self_correct=
  shard.index= shard.count=   generates one share of the rows; python -m targen.merge joins all shares
  plan=true      prints the number of calls and tokens, and cost and time with price.prompt= price.completion=
                 price.tokens_per_second=; calls nothing
  train.setting= single, multi; also train.instruct= train.loss=ce|imp|dimp train.lora=default
                 train.select_rows=checker|pvi train.freeze=true train.init_from=
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
        sys.exit(_stoppable_exit_code(lambda: print("\n".join(map(_settings_file, topics)), end="") or 0))
    if "--version" in arguments:
        print(f"targen {__version__}")
        sys.exit(0)
    _log_to_stderr()
    sys.exit(_stoppable_exit_code(lambda: _run(command, arguments, phase, direct)))


def _run(command: str, arguments: list[str], phase: Phase, direct: Direct | None) -> int:
    """The exit code of what the arguments ask for: the phase, jobs of a sweep, or something that Hydra shows."""
    arguments = [re.sub(r"^experiment=", "+experiment=", argument) for argument in arguments]
    flags, typed = flags_and_overrides(without_config_dir(arguments))
    if flags.shell_completion and typed == ["query=bash"]:
        return _show(command, flags, typed)
    if flags.shell_completion:
        print(completion_script(typed), end="")
        return 0
    _refuse_credentials(typed)
    shows = any(getattr(flags, name) for name in PRINTING)
    if direct is not None and not shows and (code := direct(typed)) is not None:
        return code
    overrides = [as_override(argument) for argument in typed]
    names_tasks = any(override.startswith(("+experiment=", "task=")) for override in overrides)
    if not names_tasks:
        overrides.insert(0, f"+experiment={DEFAULT_EXPERIMENT}")
    if flags.multirun:
        return _sweep(command, phase, flags, overrides)
    cfg = compose(overrides)
    if not (names_tasks or shows):
        refuse_forgotten_tasks(cfg, DEFAULT_EXPERIMENT)
    return _show(command, flags, overrides) if shows else phase(cfg, job_overrides(cfg, overrides))


def _stoppable_exit_code(work: Callable[[], int]) -> int:
    """The exit code of the work. A mistake of the user and a stop are reported in one line."""
    try:
        return exit_code_of(work)
    except Stopped as signal:
        print(f"{signal}: stopped. Progress is saved; rerun the command to resume.", file=sys.stderr)
        return REQUEUE
    except KeyboardInterrupt:
        # An interrupt between a coroutine and its start leaves it unawaited, which Python would report at exit.
        warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
        print("Interrupted. Progress is saved; rerun the command to resume.", file=sys.stderr)
        return INTERRUPTED


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

    with _hydra(overrides) as primary:
        return hydra_compose(primary.name, overrides=primary.overrides)


@contextmanager
def _hydra(overrides: list[str]) -> Iterator["PrimaryConfig"]:
    """Hydra with the files of conf/. Raises: UserError for everything that it refuses."""
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    from targen.runtime.command_line.primary_config import primary_config
    from targen.runtime.task_files.sources import unknown_task

    _add_resolver()
    try:
        primary = primary_config(overrides)
        with initialize_config_dir(version_base="1.3", config_dir=primary.folder):
            yield primary
    except (HydraException, OmegaConfBaseException) as err:
        raise UserError(unknown_task(err, overrides) or hydra_message(err)) from None
    except (YAMLError, UnicodeDecodeError, RecursionError) as err:
        raise UserError(f"conf: a file or a value cannot be read ({one_line(err)}). Repair it.") from None


def _add_resolver() -> None:
    """Lets conf/config.yaml name a run after its tasks: ${joined:${tasks}}."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("joined", "_".join, replace=True)


def _sweep(command: str, phase: Phase, flags: Namespace, overrides: list[str]) -> int:
    """Runs a job for each point of a sweep (-m), also after one that failed; the exit code of the first that failed."""
    from hydra.core.hydra_config import HydraConfig

    with _hydra(overrides):
        jobs = swept_jobs(overrides)
    check_run_dirs(jobs, compose)
    names = job_names(jobs)
    config_overrides = [override for override in overrides if override.startswith((CONFIG_NAME, "hydra.searchpath="))]
    failures: list[tuple[int, str]] = []

    def job(cfg: Any) -> None:
        hydra = HydraConfig.get()
        code = _stoppable_exit_code(lambda: phase(cfg, [*config_overrides, *job_overrides(cfg, hydra.overrides.task)]))
        if code in (REQUEUE, INTERRUPTED) or (code and hydra.runtime.choices["hydra/launcher"] != "basic"):
            sys.exit(code)
        if code:
            failures.append((code, names[hydra.job.num] if names else f"job {hydra.job.num}"))

    _hydra_main(command, flags, overrides, job)
    for code, name in failures:
        print(f"sweep: {name} ended with exit code {code}", file=sys.stderr)
    return next((code for code, _ in failures if code != AWAITING), AWAITING if failures else 0)


def _show(command: str, flags: Namespace, overrides: list[str]) -> int:
    """What a flag of Hydra prints; 0."""
    logging.getLogger().handlers.clear()  # --info is logged to stdout
    _hydra_main(command, flags, overrides, lambda _: None)
    return 0


def _hydra_main(command: str, flags: Namespace, overrides: list[str], job: Callable[[Any], None]) -> None:
    """Hydra with its flags and our overrides; it runs the job for a sweep alone."""
    import hydra

    from targen.runtime.command_line.primary_config import primary_config

    primary = primary_config([] if flags.hydra_help or flags.shell_completion else overrides)
    hydra_overrides = overrides if flags.shell_completion else [] if flags.hydra_help else primary.overrides
    sys.argv = [program(f"python -m {command}"), *words_for_hydra(flags), *hydra_overrides]
    hydra.main(version_base="1.3", config_path=primary.folder, config_name=primary.name)(job)()


def exit_code_of(work: Callable[[], int]) -> int:
    """The exit code of the work. A mistake of the user, or a disk that fails, is reported in one line."""
    try:
        return work()
    except BrokenPipeError:
        return 1
    except (UserError, OSError) as err:
        mistake = disk_error(err) if isinstance(err, OSError) else err
        if mistake is None:
            raise
    for line in without_credentials(str(mistake)).splitlines():
        print(f"error: {line}", file=sys.stderr)
    return USER_ERROR


def _settings_file(topic: str) -> str:
    """The file of conf/ that explains a group: `train`, `generator/openai`. Raises: UserError if there is none."""
    topics = {
        str(path.relative_to(CONF).with_suffix("")).removesuffix("/default"): path
        for path in visible_paths(CONF, "**/*.yaml")
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
        f"{group}s": ", ".join(group_choices(group))
        for group in ("experiment", "task", "method", "generator", "model", "cluster")
    }
    return HELP.format(program=program(f"python -m {command}"), summary=summary, **names)


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "datasets", "urllib3", "huggingface_hub", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
