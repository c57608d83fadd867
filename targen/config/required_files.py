"""The local files that the phases of a run read, and which of them are missing."""

from collections.abc import Sequence
from pathlib import Path

from targen.config.groups.data import Source
from targen.config.openllm import Subtask, local_openllm_file, subtasks
from targen.config.original_data import needs_original, original_train_task, shows_original
from targen.config.settings import Settings
from targen.runtime.errors import UserError
from targen.runtime.paths import visible_paths
from targen.tasks.registry import SUPERGLUE_TASKS
from targen.tasks.task import Task

MOST_NAMED = 3  # missing files of one task that an error names
TABLES = (".csv", ".tsv")
ENDINGS = (".jsonl", *TABLES)  # of data files


def missing_files(settings: Settings) -> list[str]:
    """A line for each file that the phases need and that is missing, before anything is asked or trained."""
    start = settings.train.init_from
    if "train" in settings.phases and start is not None and not (settings.paths.start(start) / "done.json").is_file():
        return [
            f"train.init_from: got {start}, expected a trained cell, but there is none. Name one of this run, or the folder "
            "<run.dir>/models/<cell> of another; train it first."
        ]
    openllm_problems = missing_openllm_files(settings) if "evaluate" in settings.phases else []
    return [*_missing_data(settings), *_missing_instructions(settings), *openllm_problems]


def _missing_instructions(settings: Settings) -> list[str]:
    source = settings.data.self_instruct
    if "train" not in settings.phases or "self_instruct" not in settings.arms or source is None:
        return []
    if is_instruction_file(source) and not Path(source).is_file():
        return [f"data.self_instruct: {source} is missing. Correct the path."]
    return []


def needed_splits(settings: Settings, source: Source = "local") -> list[tuple[Task, str]]:
    """The original splits that the phases train on, score or show, each once, if they come from this source."""
    needed: list[tuple[Task, str]] = []
    for task in settings.tasks.values():
        if settings.data.source_of(task) != source:
            continue
        if "evaluate" in settings.phases and settings.eval.superglue:
            needed.append((task, task.eval_split))
            if settings.eval.submission:
                needed.append((task, "test"))
        if "train" in settings.phases and needs_original(settings):
            needed.append((original_train_task(settings, task), "train"))
        if "evaluate" in settings.phases and shows_original(settings):
            needed.append((original_train_task(settings, task), "train"))
    return list({(task.name, split): (task, split) for task, split in needed}.values())


def has_original_train(settings: Settings, task: Task) -> bool:
    """Whether the task, or its stand-in, has original training rows, as far as is known without the Hub."""
    owner = original_train_task(settings, task)
    source = settings.data.source_of(owner)
    return source == "hub" or (
        source == "local" and find_file(Path(settings.data.dir or ""), owner, "train") is not None
    )


def _missing_data(settings: Settings) -> list[str]:
    problems, folder = [], Path(settings.data.dir or "")
    local = [name for name, task in settings.tasks.items() if settings.data.source_of(task) == "local"]
    if folder.is_file() and len(local) > 1:
        return [
            f"data.dir: got the file {folder} with the tasks {', '.join(local)}, expected a folder with the files of each "
            f"({folder.parent}/{local[0]}/val.jsonl, ...). Name the folder, or one task."
        ]
    for task, split in needed_splits(settings):
        try:
            local_file(Path(settings.data.dir or ""), task, split)
        except UserError as err:
            problems.append(str(err))
    return list(dict.fromkeys(problems))


def find_file(folder: Path, task: Task, split: str) -> Path | None:
    """The file of a task's split below data.dir; None if there is none. A data.dir that is a file is the evaluation split.

    `<folder>/CB/val.jsonl`, also as .csv or .tsv; `AX-g/AX-g.jsonl`, as the official archive has it; `val_partial.jsonl` for a
    part. The files of a task of one's own may also lie in a folder of its name, or in `folder` itself.
    """
    if folder.is_file():
        return folder if split == task.eval_split else None
    stems = [split, *([task.folder] if split == "test" else []), f"{split}_partial"]
    directories = [folder / task.folder, *([] if task.name in SUPERGLUE_TASKS else [folder / task.name, folder])]
    paths = (directory / f"{stem}{ending}" for directory in directories for stem in stems for ending in ENDINGS)
    return next((path for path in paths if path.is_file()), None)


def local_file(folder: Path, task: Task, split: str) -> Path:
    """The file of a task's split below data.dir, as `find_file`. Raises: UserError naming what is missing."""
    if not folder.is_dir() and not folder.is_file():
        raise UserError(
            f"data.dir: got {folder}, which is no folder, expected one in the official layout ({folder}/CB/val.jsonl), "
            "or a .jsonl, .csv or .tsv file with the rows of one task."
        )
    if folder.is_file() and folder.suffix.lower() not in ENDINGS:
        raise UserError(f"data.dir: got {folder}, expected a .jsonl, .csv or .tsv file. Save it as one of them.")
    path = find_file(folder, task, split)
    if path is None:
        without_rows = "do without its rows ('arms=[synthetic]', eval.shots=0, a method without demonstrations)"
        alternative = without_rows if split == "train" else f"leave {task.name} out"
        if split == "test" and task.eval_split != "test":
            alternative += ", or set eval.submission=false"
        official = "official " if task.name in SUPERGLUE_TASKS else ""
        raise UserError(f"data.dir: {_missing_split(folder, task, split)} Add the {official}file, or {alternative}.")
    return path


def _missing_split(folder: Path, task: Task, split: str) -> str:
    if folder.is_file():
        return f"{folder} holds the rows on which {task.name} is scored, and there is no {split} split."
    files = [path.name for path in visible_paths(folder / task.folder, "*") if path.suffix in ENDINGS]
    beside = f", where there is {', '.join(files[:MOST_NAMED])}" if files and task.name not in SUPERGLUE_TASKS else ""
    return f"{folder / task.folder / split}.jsonl is missing{beside}."


def missing_openllm_files(settings: Settings) -> list[str]:
    """Missing local files of OpenLLM tasks: all in one line, with the ways out."""
    openllm = settings.eval.openllm
    if openllm.suite is None or openllm.data_dir is None:
        return []
    if not Path(openllm.data_dir).is_dir():
        return [
            f"eval.openllm.data_dir: got {openllm.data_dir}, which is no folder, expected one with a folder for each task. Correct the path."
        ]
    tasks = dict.fromkeys(subtask.task for subtask in subtasks(openllm))
    missing: dict[str, list[str]] = {}
    unscorable = set()
    for subtask in subtasks(openllm):
        for split in subtask.splits:
            if local_openllm_file(Path(openllm.data_dir), subtask, split) is None:
                missing.setdefault(subtask.task, []).append(f"{subtask.folder}/{split}.jsonl")
                unscorable |= {subtask.task} if split == subtask.split else set()
    if not missing:
        return []
    lacking = []
    for files in missing.values():
        more = f" and {len(files) - MOST_NAMED} more like them" if len(files) > MOST_NAMED else ""
        lacking.append(", ".join(files[:MOST_NAMED]) + more)
    ways = ["Add them"]
    if complete := [task for task in tasks if task not in missing]:
        ways.append(f"choose the tasks that have all files ('eval.openllm.tasks=[{','.join(complete)}]')")
    if {*missing} - unscorable:
        scorable = ",".join(task for task in tasks if task not in unscorable)
        choice = f"'eval.openllm.tasks=[{scorable}]' " if unscorable else ""
        ways.append(f"show no examples ({choice}eval.openllm.num_fewshot=0)")
    unread = _unread(Path(openllm.data_dir), [subtask for subtask in subtasks(openllm) if subtask.task in missing])
    return [f"eval.openllm.data_dir: {openllm.data_dir} lacks {'; '.join(lacking)}{unread}. {', or '.join(ways)}."]


def _unread(folder: Path, incomplete: Sequence[Subtask]) -> str:
    """`, where there are a.jsonl, b.csv and 12 more`: data files that none of these subtasks reads, in the folders of their tasks if these exist."""
    read_files = {local_openllm_file(folder, subtask, split) for subtask in incomplete for split in subtask.splits}
    task_folders = {folder / subtask.folder.partition("/")[0] for subtask in incomplete}
    tops = [top for top in task_folders if top.is_dir()] or [folder]
    paths = {path for top in tops for depth in range(1, 5) for path in visible_paths(top, "/".join("*" * depth))}
    unread = [path for path in sorted(paths - read_files) if path.suffix in (*ENDINGS, ".json")]
    names = [path.relative_to(folder).as_posix() for path in unread]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f", where there are {', '.join(names[:MOST_NAMED])}{more}" if names else ""


def check_openllm_files(settings: Settings) -> None:
    """Raises: UserError if local files of OpenLLM tasks are missing."""
    if problems := missing_openllm_files(settings):
        raise UserError("\n".join(problems))


def is_instruction_file(source: str) -> bool:
    """Whether instruction data are meant to lie in a file; else it is a name on the Hub."""
    return source.endswith((".jsonl", ".json")) or Path(source).is_file()
