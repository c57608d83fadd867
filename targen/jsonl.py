"""JSON Lines on disk: errors that name file and line, writes that are whole or absent."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from targen.errors import UserError

Json = dict[str, Any]
log = logging.getLogger(__name__)
BLOCK = 8192  # bytes read at once for one line


def dumps(record: Json) -> str:
    """One line without its end: ASCII only, keys in the order given, as the official SuperGLUE files have it."""
    return json.dumps(record, allow_nan=False)


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
        raise UserError(f"{path}: cannot be read ({err}). Mend or remove it.") from None


def write_text(path: Path, text: str) -> None:
    """Writes the whole file or nothing: a temporary file beside it is renamed over it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_jsonl(path: Path, records: Iterable[Json]) -> None:
    """Writes all records or nothing."""
    write_text(path, "".join(dumps(record) + "\n" for record in records))


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
                f"{path}: cannot be opened for writing ({err.strerror}). Mend it, or take another run.dir."
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

    def records(self) -> Iterator[tuple[int, int, Json]]:
        """(line number, offset, object) of every line, blank ones left out."""
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, offset, parse_line(line.decode("utf-8", errors="replace"), f"{self.path}:{number}")
                offset += len(line)

    def read(self, offset: int) -> Json:
        """The object of the line that begins at `offset`."""
        line = b""
        while not line.endswith(b"\n"):
            block = os.pread(self._descriptor, BLOCK, offset + len(line))
            if not block:
                raise UserError(
                    f"{self.path}: ends before byte {offset} has its line; it was cut while in use. Start again."
                )
            end = block.find(b"\n")
            line += block if end < 0 else block[: end + 1]
        return parse_line(line.decode("utf-8"), str(self.path))

    def append(self, record: Json) -> int:
        """Writes one line, in one write; its offset. Raises: OSError when the disk is full; the log stays readable."""
        line, offset = (dumps(record) + "\n").encode("ascii"), self._size
        written = os.write(self._descriptor, line)
        if written < len(line):
            os.ftruncate(self._descriptor, offset)
            raise OSError(f"{self.path}: only {written} of {len(line)} bytes could be written; is the disk full?")
        self._size += written
        return offset

    def close(self) -> None:
        os.fsync(self._descriptor)
        os.close(self._descriptor)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
