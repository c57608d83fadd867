"""The families by name. Each is a module of this folder with a `FAMILY`, imported when it is chosen, since it imports torch."""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING

from targen.config.groups.training import HEAD_FAMILIES
from targen.config.settings import Settings
from targen.runtime.errors import UserError, did_you_mean
from train import families
from train.families.base import Family

if TYPE_CHECKING:
    from train.families.text import TextFamily

SHARED = {"base", "checks", "frozen", "registry", "text"}  # the modules of this folder that are not families


def family_names() -> list[str]:
    """The names of all families: the modules of train/families."""
    return sorted({module.name for module in pkgutil.iter_modules(families.__path__)} - SHARED)


def family_named(name: str) -> Family:
    """The family of that name. Raises: UserError if there is none."""
    names = family_names()
    if name not in names:
        raise UserError(f"model.family: got {name!r}, expected one of {', '.join(names)}. {did_you_mean(name, names)}")
    family = vars(import_module(f"{families.__name__}.{name}")).get("FAMILY")
    if not isinstance(family, Family):
        raise TypeError(f"train/families/{name}.py: got no FAMILY, expected `FAMILY = MyFamily()`")
    if _answers_in_words(family) == (name in HEAD_FAMILIES):
        raise TypeError(
            f"train/families/{name}.py: got {type(family).__name__}, expected a TextFamily or a name in HEAD_FAMILIES of "
            "targen/config/groups/training.py, not both"
        )
    return family


def family_of(settings: Settings) -> Family:
    """The family of the settings' model; with train.freeze the linear layer on its embeddings."""
    if not settings.train.freeze:
        return family_named(settings.model.family)
    from train.families.frozen import FrozenFamily

    return FrozenFamily(settings.model, settings.paths.embeddings)


def _answers_in_words(family: Family) -> bool:
    from train.families.text import TextFamily  # imports torch

    return isinstance(family, TextFamily)


def text_family_named(name: str) -> "TextFamily":
    """The family of that name, whose models answer in words. Raises: UserError if they do not."""
    from train.families.text import TextFamily

    family = family_named(name)
    if not isinstance(family, TextFamily):
        raise UserError(
            f"model.family: got {name}, expected a family whose models answer in words. Choose another model."
        )
    return family
