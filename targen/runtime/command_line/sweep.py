"""Sweeps (-m): the jobs, and that no two of them write into one folder."""

from collections.abc import Callable, Sequence
from typing import Any

from targen.runtime.errors import UserError

OF_THE_PROCESS = ("shard", "cell")  # jobs that differ only in these work on one run together


def swept_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper makes them; empty if another one is chosen, which only it can tell.

    Raises: HydraException for overrides that Hydra cannot read.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if any(override.startswith("hydra/sweeper=") for override in overrides):
        return []
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    of_hydra = [override for override in overrides if override.startswith(("hydra.", "hydra/"))]
    of_jobs = parser.parse_overrides([override for override in overrides if override not in of_hydra])
    ((*jobs,),) = BasicSweeper.split_arguments(of_jobs, None)
    return [[*of_hydra, *job] for job in jobs]


def job_names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Each job by what is its own: `job 1 (seed=1)`."""
    shared = set.intersection(*map(set, jobs)) if jobs else set()
    return [f"job {number} ({' '.join(word for word in job if word not in shared)})" for number, job in enumerate(jobs)]


def check_run_dirs(jobs: Sequence[Sequence[str]], compose: Callable[[list[str]], Any]) -> None:
    """Raises: UserError if two jobs would write into one folder."""
    from omegaconf import OmegaConf

    seen: dict[str, tuple[str, Any]] = {}
    for job, name in zip(jobs, job_names(jobs), strict=True):
        cfg = compose(list(job))
        if "${hydra:" in _named_run_dir(cfg):
            return  # of Hydra's own values, which differ from job to job
        values = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key not in OF_THE_PROCESS]))
        first, others = seen.setdefault(str(cfg.run.dir), (name, values))
        if others != values:
            raise UserError(
                f"run.dir: got {cfg.run.dir} for {first} and {name} of the sweep, expected a folder for each. Add "
                f"'run.dir={cfg.run.dir}/{_folder_name(jobs, cfg)}', or take the sweep's own folders: "
                "'run.dir=${hydra:runtime.output_dir}'."
            )


def _folder_name(jobs: Sequence[Sequence[str]], cfg: Any) -> str:
    """The name of a folder by the keys that the jobs differ in: ${model.name}-${seed}."""
    from omegaconf import OmegaConf

    names = []
    for key in (words[0].partition("=")[0].lstrip("+") for words in zip(*jobs, strict=True) if len(set(words)) > 1):
        name = {"experiment": "name", "model": "model.name", "method": "method.name"}.get(key, key)
        if not isinstance(OmegaConf.select(cfg, name), str | int | float):
            return "${hydra:job.num}"
        names.append(f"${{{name}}}")
    return "-".join(names)


def job_overrides(cfg: Any, given: Sequence[str]) -> list[str]:
    """The overrides for the phases of a job: with the value of run.dir where it is of Hydra's own, which phases cannot tell."""
    from hydra.core.override_parser.types import Quote, QuotedString

    named = _named_run_dir(cfg)
    if not any(f"${{{resolver}:" in named for resolver in ("hydra", "now")):
        return list(given)
    kept = [override for override in given if not override.startswith("run.dir=")]
    return [*kept, f"run.dir={QuotedString(cfg.run.dir, Quote.single).with_quotes()}"]


def _named_run_dir(cfg: Any) -> str:
    """run.dir as it is written, with what it takes from other keys and from Hydra not filled in."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(cfg.run))
