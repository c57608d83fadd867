"""A home, caches and a working folder of the suite's own: no test sees the user's files or the checkout's `outputs/`.

`tests/__init__.py` calls `isolate` before any library is imported, because libraries choose their caches at import.
"""

import atexit
import os
import pwd
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = "TARGEN_TESTS_FOLDER"  # variable with the session's folder, which the workers of pytest-xdist share
OTHER_CACHES = (
    "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TORCH_HOME", "TORCHINDUCTOR_", "TRITON_", "WANDB_", "MPL", "NLTK_",
    "VLLM_CACHE", "VLLM_CONFIG",
)  # fmt: skip
SECRETS = ("OPENAI_API_KEY",)
USER_FOLDERS = (".cache", ".config", ".local/share", ".huggingface", ".netrc", "nltk_data")
PATH_EVENTS = {"open", "os.listdir", "os.scandir", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
REFUSED = "a test may not touch {path}. Give the run a run.dir below tmp_path, and the process another working folder"
touched: list[str] = []  # what this process refused, in case the tested code swallowed the refusal


def isolate() -> None:
    """Points home and caches at a folder of this session, and refuses access to the user's."""
    if FOLDER not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="targen-tests-")).resolve()
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ[FOLDER] = str(folder)
        (folder / "home").mkdir()
        working_folder().mkdir()
        (working_folder() / "outputs").write_text("A file, so that no run can use its default run.dir.\n")
    for name in [name for name in os.environ if name.startswith(OTHER_CACHES) or name in SECRETS]:
        del os.environ[name]
    home = str(Path(os.environ[FOLDER]) / "home")
    os.environ |= {"HOME": home, "XDG_CACHE_HOME": f"{home}/.cache", "XDG_CONFIG_HOME": f"{home}/.config"}
    os.environ |= {"XDG_DATA_HOME": f"{home}/.local/share", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(PROJECT)}
    sys.addaudithook(_audit)


def working_folder() -> Path:
    """Where the tests and their processes run. Its `outputs` is a file: a run with the default run.dir fails."""
    return Path(os.environ[FOLDER]) / "work"


HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
FORBIDDEN = (str(PROJECT / "outputs"), *(str(HOME / name) for name in USER_FOLDERS))
NEEDED = (sys.prefix, sys.base_prefix, tempfile.gettempdir(), str(PROJECT / "tests"))  # even where they lie below these


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if "PYTEST_CURRENT_TEST" not in os.environ:
        return
    if event in PATH_EVENTS and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.abspath(os.fsdecode(arguments[0]))
        if _below(path, FORBIDDEN) and (_below(path, FORBIDDEN[:1]) or not _below(path, NEEDED)):
            _refuse(path)
    elif event == "subprocess.Popen" and os.path.realpath(arguments[2] or os.curdir) == str(PROJECT):
        _refuse(str(PROJECT))


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _refuse(path: str) -> None:
    touched.append(path)
    raise AssertionError(REFUSED.format(path=path))
