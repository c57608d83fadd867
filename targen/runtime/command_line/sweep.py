"""Sweeps (-m): the jobs, and that no two of them write into one folder."""

from collections.abc import Callable, Sequence
from typing import Any

from targen.runtime.errors import UserError

PART_KEYS = ("shard", "cell")  # jobs that differ only in these work on one run together


def swept_jobs(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's own sweeper makes them; empty for another sweeper, whose jobs only it knows.

    Raises: HydraException for overrides that Hydra cannot read.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if any(override.startswith("hydra/sweeper=") for override in overrides):
        return []
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    hydra_overrides = [override for override in overrides if override.startswith(("hydra.", "hydra/"))]
    parsed = parser.parse_overrides([override for override in overrides if override not in hydra_overrides])
    ((*jobs,),) = BasicSweeper.split_arguments(parsed, None)
    return [[*hydra_overrides, *job] for job in jobs]


def job_names(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Each job with the overrides that it does not share: `job 1 (seed=1)`."""
    shared = set.intersection(*map(set, jobs)) if jobs else set()
    return [f"job {number} ({' '.join(word for word in job if word not in shared)})" for number, job in enumerate(jobs)]


def check_run_dirs(jobs: Sequence[Sequence[str]], compose: Callable[[list[str]], Any]) -> None:
    """Raises: UserError if two jobs would write into one folder."""
    from omegaconf import OmegaConf

    first_jobs: dict[str, tuple[str, Any]] = {}
    for job, name in zip(jobs, job_names(jobs), strict=True):
        cfg = compose(list(job))
        if "${hydra:" in _unresolved_run_dir(cfg):
            return  # of Hydra's own values, which differ from job to job
        values = OmegaConf.to_container(OmegaConf.masked_copy(cfg, [key for key in cfg if key not in PART_KEYS]))
        first_name, first_values = first_jobs.setdefault(str(cfg.run.dir), (name, values))
        if first_values != values:
            raise UserError(
                f"run.dir: got {cfg.run.dir} for {first_name} and {name} of the sweep, expected a folder for each. Add "
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


def job_overrides(cfg: Any, overrides: Sequence[str]) -> list[str]:
    """The overrides for the phases of a job: with the value of run.dir if Hydra computes it, which phases cannot."""
    from hydra.core.override_parser.types import Quote, QuotedString

    run_dir = _unresolved_run_dir(cfg)
    if not any(f"${{{resolver}:" in run_dir for resolver in ("hydra", "now")):
        return list(overrides)
    others = [override for override in overrides if not override.startswith("run.dir=")]
    return [*others, f"run.dir={QuotedString(cfg.run.dir, Quote.single).with_quotes()}"]


def _unresolved_run_dir(cfg: Any) -> str:
    """run.dir as written: interpolations of other keys and of Hydra are not resolved."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(cfg.run))
