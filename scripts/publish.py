"""Puts a run's synthetic data set on the Hugging Face Hub: `python scripts/publish.py outputs/my_run --repo USER/NAME`.

Says what it would upload and ends; with --push it uploads. The token comes from $HF_TOKEN only.
"""

import argparse
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project that this script lies in

from targen.runtime.errors import UserError
from targen.runtime.paths import RunPaths

TOKEN = "HF_TOKEN"
WANTED = ("train.jsonl", "provenance.jsonl", "stats.json")
REJECTS = "rejects.jsonl"
KEY = re.compile(rb"(?<![A-Za-z0-9_-])(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|AKIA[A-Z0-9]{16}(?![A-Z0-9]))")
SHORTEST_TOKEN = 16  # a shorter one may well be a word
REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def main() -> int:
    arguments = _arguments()
    try:
        files = files_to_publish(RunPaths(arguments.run_dir), arguments.with_rejects)
        token = os.environ.get(TOKEN, "").strip()
        if not REPO.fullmatch(arguments.repo):
            raise UserError(f"--repo: got {arguments.repo!r}, expected USER/NAME.")
        refuse_keys(files, token)
        if arguments.push and not token:
            raise UserError(f"{TOKEN}: not set, expected a token of the Hub that may write. Put it in the environment.")
        _say(files, arguments)
        if arguments.push:
            print(push(files, arguments.repo, arguments.private, token))
    except UserError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run.dir of a run whose generate phase is done")
    parser.add_argument(
        "--repo", required=True, metavar="USER/NAME", help="the data set on the Hub; made if it is not there"
    )
    parser.add_argument("--push", action="store_true", help="upload; without it, only what would be uploaded is said")
    parser.add_argument(
        "--private", action="store_true", help="the data set is private; one that is public already is refused"
    )
    parser.add_argument("--with-rejects", action="store_true", help=f"upload {REJECTS} too")
    return parser.parse_args()


def files_to_publish(paths: RunPaths, with_rejects: bool) -> dict[str, Path]:
    """The files by their name in the repository: the card, and those of every task. Raises: UserError if one is missing."""
    folder = paths.card.parent
    tasks = sorted(path for path in folder.glob("*") if path.is_dir())
    if not tasks or not paths.card.is_file():
        missing = paths.card if tasks else folder
        raise UserError(
            f"{missing}: not there, expected the data set of a run. Run python -m targen.generate run.dir={paths.root} first."
        )
    names = (*WANTED, *([REJECTS] if with_rejects else []))
    files = {"README.md": paths.card} | {f"{task.name}/{name}": task / name for task in tasks for name in names}
    for path in files.values():
        if not path.is_file():
            raise UserError(
                f"{path}: not there, expected it of every task. Let the generate phase end, or remove {path.parent}."
            )
    card = paths.card.read_text(encoding="utf-8")
    for task in tasks:
        if f"path: {task.name}/train.jsonl" not in card:
            raise UserError(
                f"{paths.card}: does not name {task.name}. Start the generate phase again: it writes the card anew."
            )
    return files


def refuse_keys(files: dict[str, Path], token: str) -> None:
    """Raises: UserError with file and line of the first thing that looks like a key; the key is not shown."""
    for path in files.values():
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if KEY.search(line) or (len(token) >= SHORTEST_TOKEN and token.encode() in line):
                    raise UserError(
                        f"{path}:{number}: holds what looks like a key, expected none in a data set. If it is one, revoke it; remove "
                        "it here."
                    )


def _say(files: dict[str, Path], arguments: argparse.Namespace) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    print(f"data set {arguments.repo} on {os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'}"
          f"{', private' if arguments.private else ''}")  # fmt: skip
    for name, size in sizes.items():
        print(f"{size:>12,}  {name}")
    print(f"{sum(sizes.values()):>12,}  bytes in {len(files)} files")
    if not arguments.push:
        print("Nothing was uploaded: this is what --push would upload.")


def push(files: dict[str, Path], repo: str, private: bool, token: str) -> str:
    """Uploads the files in one commit where the Hub takes them so; the address of the data set. Raises: UserError."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # of the HTTP library that it uses
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi(token=token)
    try:
        api.create_repo(repo, repo_type="dataset", private=private or None, exist_ok=True)
        if private and not api.repo_info(repo, repo_type="dataset").private:
            raise UserError(
                f"--private: {repo} is there already and is public. Make it private on the Hub, or take another name."
            )
        commit = api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=files["README.md"].parent,
            allow_patterns=list(files),
            commit_message="Synthetic data set and its card",
        )
    except (HTTPError, OSError, ValueError) as err:
        said = " ".join(str(err).split()).replace(token, "***")[:300]
        raise UserError(f"--push: the Hub did not take it ({said}). Mend the cause and push again.") from None
    return str(commit.repo_url)


if __name__ == "__main__":
    sys.exit(main())
