"""JSON Lines on disk: errors name file and line, writes are complete or absent."""

import gzip
import json
import logging
import os
import platform
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from targen.runtime.errors import UserError, remedy, short_path
from targen.runtime.heartbeat import raise_if_lost

Json = dict[str, Any]
log = logging.getLogger(__name__)
BLOCK = 8192  # bytes read at once for one line
MAX_DEPTH = 100  # lists and objects in one another; more overflow the stack of whatever reads them later
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # may be half a character; two of them make a whole one
_ENCODER = json.JSONEncoder(allow_nan=False, check_circular=False)


def dumps(record: Json) -> str:
    """The record as one line without a newline: ASCII only, keys in the given order, as in the official SuperGLUE files."""
    return _ENCODER.encode(record)


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text. Raises: UserError naming `where` if it is not JSON, or nested deeper than MAX_DEPTH."""
    try:
        value = json.loads(text)
        if text.count("[") + text.count("{") > MAX_DEPTH and _is_deep(value):
            raise RecursionError
    except ValueError as err:
        raise UserError(f"{where}: not a JSON object ({err}). Repair or remove it.") from None
    except RecursionError:
        raise UserError(
            f"{where}: got lists or objects nested more than {MAX_DEPTH} deep, expected a plain object. Repair or remove it."
        ) from None
    return value


def parse_line(line: str, where: str) -> Json:
    """The object of one line. Raises: UserError naming `where` if the line is not a JSON object."""
    record = parse_json(line, where)
    if not isinstance(record, dict):
        raise UserError(f"{where}: got {type(record).__name__}, expected a JSON object. Repair or remove it.")
    return record


def check_unicode(value: Any, where: str) -> None:
    """Refuses half characters (lone surrogates), which no tokenizer, table or terminal can encode. Raises: UserError."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as err:
        half = ord(err.object[err.start])
        byte = f"; in an argument, the byte 0x{half - 0xDC00:x} that is not UTF-8" if 0xDC80 <= half <= 0xDCFF else ""
        raise UserError(
            f"{where}: got half a character (the lone surrogate \\u{half:04x}{byte}), expected whole ones. Write it in full, or "
            "remove it."
        ) from None


def without_surrogates(record: Json) -> Json:
    """The record without its half characters."""
    clean: Json = json.loads(json.dumps(record, ensure_ascii=False).encode(errors="ignore"))
    return clean


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        parts = [part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list))]
        level = [item for part in parts for item in part]
    return any(isinstance(item, (dict, list)) for item in level)


def read_jsonl(path: Path, surrogates: bool = False) -> Iterator[tuple[int, Json]]:
    """(line number, object) of every non-blank line of a file, which may be packed (.gz). Raises: UserError with file and line
    of any damage.

    That includes half characters (lone surrogates), unless `surrogates`: in a model's answer they only spoil that answer.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    except UnicodeDecodeError as err:
                        raise UserError(f"{path}:{number}: not UTF-8 ({err.reason}). Save the file as UTF-8.") from None
                    record = parse_line(text, f"{path}:{number}")
                    if not surrogates and _SURROGATE.search(text):
                        check_unicode(record, f"{path}:{number}")
                    yield number, record
    except (OSError, EOFError, zlib.error) as err:  # the last two: a packed file that is torn
        raise UserError(f"{path}: cannot be read ({getattr(err, 'strerror', None) or err}). Check the path.") from None


def read_rows(path: Path) -> list[tuple[int, Json]]:
    """(line or number, object) of a JSONL file, or of one with a single JSON list, whatever its ending. Raises: UserError as read_jsonl."""
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            is_list = file.read(BLOCK).lstrip().startswith("[")
        rows = parse_json(path.read_text(encoding="utf-8-sig"), str(path)) if is_list else None
    except (OSError, UnicodeDecodeError) as err:
        raise UserError(f"{path}: cannot be read ({err}). Repair or replace it.") from None
    if rows is None:
        return list(read_jsonl(path))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: got {type(row).__name__}, expected a JSON object. Repair or remove it.")
        check_unicode(row, f"{path}:{number}")
    return list(enumerate(rows, start=1))


def read_json(path: Path) -> Json:
    """The object of a JSON file. Raises: UserError if it is missing or damaged."""
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
    """Writes all texts or nothing: they go to a temporary file, which is then renamed. Raises: UserError if that fails."""
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # backslashreplace: a model may write half characters, which no encoding has
        with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        raise_if_lost()
        temporary.replace(path)
    except OSError as err:
        raise UserError(f"{short_path(path)}: cannot be written ({err.strerror}). {remedy(err)}") from None
    finally:
        with suppress(OSError):  # on a read-only disk not even a missing file can be removed
            temporary.unlink()


class Lines:
    """A JSONL file, read line by line or by offset, even while another process appends to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)

    def records(self) -> Iterator[tuple[int, int, Json]]:
        """(line number, byte offset, object) of every line, without blank lines and an incomplete last one."""
        offset = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    try:
                        record = parse_line(line.decode("utf-8", errors="replace"), f"{self.path}:{number}")
                    except UserError:
                        if line.endswith(b"\n") and file.peek(1):
                            raise
                        return  # incomplete, or still being written
                    yield number, offset, record
                offset += len(line)

    def read(self, offset: int) -> Json:
        """The object of the line at byte `offset`. Raises: UserError if the file was truncated since it was opened."""
        line = read_line(self._descriptor, offset)
        if not line:
            raise UserError(
                f"{self.path}: ends before byte {offset}; it was truncated while in use. Rerun the command."
            )
        return parse_line(line.decode("utf-8"), str(self.path))

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


def read_line(descriptor: int, offset: int) -> bytes:
    """The line at byte `offset`, with its newline if it has one; b"" at the end of the file."""
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

    Opening it cuts off an incomplete last line that a kill left: one that is not JSON. A complete one that lacks only its
    newline gets it. Raises: UserError if the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = self._mended_size()
        except OSError as err:
            raise UserError(
                f"{short_path(path)}: cannot be opened for writing ({err.strerror}). {remedy(err)}"
            ) from None

    def _mended_size(self) -> int:
        """The size of the file after its incomplete last line, if it has one, was completed or cut off."""
        size = os.fstat(self._descriptor).st_size
        complete = self._end_of_lines(size)
        if complete < size and _is_json(os.pread(self._descriptor, size - complete, complete)):
            return size + os.write(self._descriptor, b"\n")  # only its newline is missing
        if complete < size:
            log.warning(
                "%s: an incomplete last line of %d bytes was cut off and will be redone", self.path, size - complete
            )
            os.ftruncate(self._descriptor, complete)
        return complete

    def _end_of_lines(self, size: int) -> int:
        """Offset after the last complete line; the rest is incomplete."""
        end = size
        while end > 0:
            has_newline = os.pread(self._descriptor, 1, end - 1) == b"\n"
            start = self._line_start(end - has_newline)
            line = os.pread(self._descriptor, end - has_newline - start, start)
            if line.strip():
                return end if has_newline and _is_json(line) else start
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
        """Appends one line in one write, and returns its byte offset.

        Raises: UserError if the disk is full; the log stays readable.
        """
        raise_if_lost()
        line, offset = (dumps(record) + "\n").encode("ascii"), self._size
        try:
            written, why = os.write(self._descriptor, line), "the disk is full"
        except OSError as err:
            written, why = 0, str(err.strerror)
        if written < len(line):
            os.ftruncate(self._descriptor, offset)
            raise UserError(
                f"{self.path}: a line of {len(line)} bytes could not be written ({why}). Earlier lines are kept. Free "
                "some space, then rerun the command to resume."
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
    except (ValueError, RecursionError):
        return False
    return True
