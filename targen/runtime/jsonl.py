"""JSON Lines on disk: errors that name file and line, writes that are whole or absent."""

import json
import logging
import os
import platform
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError

Json = dict[str, Any]
log = logging.getLogger(__name__)
BLOCK = 8192  # bytes read at once for one line
_ENCODER = json.JSONEncoder(allow_nan=False)


def dumps(record: Json) -> str:
    """One line without its end: ASCII only, keys in the order given, as the official SuperGLUE files have it."""
    return _ENCODER.encode(record)


def parse_line(line: str, where: str) -> Json:
    """The object of one line. Raises: UserError naming `where` when it is none."""
    try:
        record = json.loads(line)
    except ValueError as err:
        raise UserError(f"{where}: not a JSON object ({err}). Repair or remove it.") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: got {type(record).__name__}, expected a JSON object. Repair or remove it.")
    return record


def read_jsonl(path: Path) -> Iterator[tuple[int, Json]]:
    """(line number, object) of every line of a file, blank lines left out. Raises: UserError with file and line of damage."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as err:
                        raise UserError(f"{path}:{number}: not UTF-8 ({err.reason}). Save the file as UTF-8.") from None
                    yield number, parse_line(text, f"{path}:{number}")
    except OSError as err:
        raise UserError(f"{path}: cannot be read ({err.strerror}). Check the path.") from None


def read_json(path: Path) -> Json:
    """The object of a JSON file. Raises: UserError when it is damaged."""
    try:
        return parse_line(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair or remove it.") from None


def write_text(path: Path, text: str) -> None:
    """Writes the whole file or nothing."""
    write_lines(path, [text])


def write_jsonl(path: Path, records: Iterable[Json]) -> None:
    """Writes all records or nothing."""
    write_lines(path, (dumps(record) + "\n" for record in records))


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Writes all texts or nothing, one after the other: a temporary file beside it is renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as err:
        raise UserError(
            f"{path}: cannot be written ({err.strerror}). Free some space or repair it, then rerun the command."
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


class Lines:
    """A JSONL file that is read by line and by place, also while another process appends to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def records(self) -> Iterator[tuple[int, int, Json]]:
        """(line number, offset, object) of every line, blank ones and a torn last one left out."""
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        record = parse_line(line.decode("utf-8", errors="replace"), f"{self.path}:{number}")
                    except UserError:
                        if line.endswith(b"\n") and file.peek(1):
                            raise
                        return  # torn, or still being written
                    yield number, offset, record
                offset += len(line)

    def read(self, offset: int) -> Json:
        """The object of the line that begins at `offset`."""
        line = read_line(self._descriptor, offset)
        if not line:
            raise UserError(f"{self.path}: ends before byte {offset}; it was cut while in use. Start again.")
        return parse_line(line.decode("utf-8"), str(self.path))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


def read_line(descriptor: int, offset: int) -> bytes:
    """The line that begins at `offset`, with its end where it has one."""
    line = b""
    while not line.endswith(b"\n"):
        block = os.pread(descriptor, BLOCK, offset + len(line))
        end = block.find(b"\n")
        line += block if end < 0 else block[: end + 1]
        if not block:
            break
    return line


class AppendLog:
    """A JSONL file that grows by one write per record.

    Opening it cuts off a last line that a kill tore: one without its end, or one that is no JSON.
    Damage anywhere else is a UserError, for nothing that was paid for may vanish silently.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as err:
            raise UserError(
                f"{path}: cannot be opened for writing ({err.strerror}). Repair it, or take another run.dir."
            ) from None
        size = os.fstat(self._descriptor).st_size
        self._size = self._whole_lines(size)
        if self._size < size and _is_json(os.pread(self._descriptor, size - self._size, self._size)):
            self._size = size + os.write(self._descriptor, b"\n")  # only its end was torn off
        elif self._size < size:
            log.warning("%s: a torn end of %d bytes was cut off and will be redone", path, size - self._size)
            os.ftruncate(self._descriptor, self._size)

    def _whole_lines(self, size: int) -> int:
        """Offset after the last line that is whole; what follows is torn."""
        end = size
        while end > 0:
            ended = os.pread(self._descriptor, 1, end - 1) == b"\n"
            start = self._line_start(end - ended)
            line = os.pread(self._descriptor, end - ended - start, start)
            if line.strip():
                return end if ended and _is_json(line) else start
            end = start if start < end else end - 1
        return 0

    def _line_start(self, end: int) -> int:
        """Offset just after the last line end before `end`, 0 if there is none."""
        while end > 0:
            start = max(0, end - 65536)
            newline = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
        return 0

    def append(self, record: Json) -> int:
        """Writes one line, in one write; its offset. Raises: UserError when the disk is full; the log stays readable."""
        line, offset = (dumps(record) + "\n").encode("ascii"), self._size
        try:
            written, why = os.write(self._descriptor, line), "the disk is full"
        except OSError as err:
            written, why = 0, str(err.strerror)
        if written < len(line):
            os.ftruncate(self._descriptor, offset)
            raise UserError(
                f"{self.path}: a line of {len(line)} bytes could not be written ({why}). What stands before it is kept: make "
                "room, and start again to go on."
            )
        self._size += written
        return offset

    def close(self) -> None:
        """Closes the file."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
