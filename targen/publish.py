"""Uploads a run's synthetic data set to the Hugging Face Hub: `python -m targen.publish outputs/my_run --repo USER/NAME`.

Without --push it only lists what it would upload. The token comes from $HF_TOKEN only.
"""

import argparse
import os
import sys
from pathlib import Path

from targen.dataset.publish import REJECTS, check_repository, files_to_publish, push, refuse_keys
from targen.runtime.cli import exit_code_of, program
from targen.runtime.errors import UserError
from targen.runtime.paths import RunPaths

TOKEN = "HF_TOKEN"


def main() -> int:
    """Lists or uploads the files; the exit code."""
    arguments = _arguments()
    files = files_to_publish(RunPaths(arguments.run_dir), arguments.with_rejects)
    token = os.environ.get(TOKEN, "").strip()
    check_repository(arguments.repo)
    refuse_keys(files, token)
    if arguments.push and not token:
        raise UserError(f"{TOKEN}: not set, expected a Hub token with write access. Put it in the environment.")
    _print_files(files, arguments)
    if arguments.push:
        print(push(files, arguments.repo, arguments.private, token))
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        program("python -m targen.publish"), description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="run.dir of a run whose generate phase is done")
    parser.add_argument(
        "--repo", required=True, metavar="USER/NAME", help="the data set on the Hub; created if it does not exist"
    )
    parser.add_argument("--push", action="store_true", help="upload; without it, only list what would be uploaded")
    parser.add_argument(
        "--private", action="store_true", help="make the data set private; an existing public one is refused"
    )
    parser.add_argument("--with-rejects", action="store_true", help=f"upload {REJECTS} too")
    return parser.parse_args()


def _print_files(files: dict[str, Path], arguments: argparse.Namespace) -> None:
    sizes = {name: path.stat().st_size for name, path in files.items()}
    print(f"data set {arguments.repo} on {os.environ.get('HF_ENDPOINT') or 'https://huggingface.co'}"
          f"{', private' if arguments.private else ''}")  # fmt: skip
    for name, size in sizes.items():
        print(f"{size:>12,}  {name}")
    print(f"{sum(sizes.values()):>12,}  bytes in {len(files)} files")
    if not arguments.push:
        print("Nothing was uploaded; --push uploads these files.")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
