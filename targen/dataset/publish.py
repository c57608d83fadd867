"""Publishes the data set of a run on the Hugging Face Hub: selects the files, checks them for keys, uploads them."""

import re
import shlex
from pathlib import Path

from targen.data.evaluation import HELD_OUT
from targen.dataset.writer import HELD_OUT_STORY
from targen.runtime.errors import UserError, one_line
from targen.runtime.paths import RunPaths, visible_paths

PUBLISHED = ("train.jsonl", "provenance.jsonl", "stats.json")  # of every task
REJECTS = "rejects.jsonl"
KEY = re.compile(rb"(?<![A-Za-z0-9_-])(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}(?![A-Z0-9]))")
SHORTEST_TOKEN = 16  # characters; a shorter one may be an ordinary word
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def check_repository(name: str) -> None:
    """Checks the name of a repository. Raises: UserError if it is not USER/NAME."""
    if not REPOSITORY.fullmatch(name):
        raise UserError(f"--repo: got {name!r}, expected USER/NAME.")


def files_to_publish(paths: RunPaths, with_rejects: bool) -> dict[str, Path]:
    """Files by their names in the repository: the card, and the files of every task. Raises: UserError if one is missing."""
    folder = paths.card.parent
    tasks = [path for path in visible_paths(folder, "*") if path.is_dir()]
    if not tasks or not paths.card.is_file():
        missing = paths.card if tasks else folder
        raise UserError(
            f"{missing}: missing, expected the data set of a run. First run python -m targen.generate run.dir={shlex.quote(str(paths.root))}."
        )
    names = (*PUBLISHED, *([REJECTS] if with_rejects else []))
    files = {"README.md": paths.card} | {f"{task.name}/{name}": task / name for task in tasks for name in names}
    held_out = [task / name for task in tasks for name in (HELD_OUT, HELD_OUT_STORY) if (task / name).is_file()]
    files |= {f"{path.parent.name}/{path.name}": path for path in held_out}
    for path in files.values():
        if not path.is_file():
            raise UserError(
                f"{path}: missing, expected it for every task. Let the generate phase finish, or remove {path.parent}."
            )
    card = paths.card.read_text(encoding="utf-8")
    for task in tasks:
        if f"path: {task.name}/train.jsonl" not in card:
            raise UserError(
                f"{paths.card}: does not name {task.name}. Run the generate phase again: it writes a new card."
            )
    return files


def refuse_keys(files: dict[str, Path], token: str) -> None:
    """Checks that no file holds the token or anything that looks like a key.

    Raises: UserError with file and line of the first match; the key itself is not shown.
    """
    for path in files.values():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if KEY.search(line) or (len(token) >= SHORTEST_TOKEN and token.encode() in line):
                    raise UserError(
                        f"{path}:{number}: holds what looks like a key, expected none in a data set. If it is one, revoke it and "
                        "remove it here."
                    )


def push(files: dict[str, Path], repo: str, private: bool, token: str) -> str:
    """Uploads the files and returns the URL of the data set. Raises: UserError if the Hub refuses them."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
    api = HfApi(token=token)
    try:
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.repo_info(repo, repo_type="dataset").private:
            raise UserError(
                f"--private: {repo} already exists and is public. Make it private on the Hub, or choose another name."
            )
        commit = api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=files["README.md"].parent,
            allow_patterns=list(files),
            commit_message="Synthetic data set and its card",
        )
    except (HTTPError, OSError, ValueError) as err:
        reason = one_line(err).replace(token, "***")[:300]
        raise UserError(f"--push: the Hub refused the upload ({reason}). Fix the cause and push again.") from None
    return str(commit.repo_url)
