"""A file on this machine into the records to be sent from it. What becomes of them is not known here."""

import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

from ingest_platform.client.asking import Upload
from ingest_platform.client.errors import ClientError

# A JSON document is read whole; a larger one is better written line by line.
DOCUMENT_BYTES_MAX = 512 * 1024 * 1024
_LINES = frozenset({".ndjson", ".jsonl"})
_DUPLICATE = "A key occurs twice in one object."


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """What stands where a record should, and why it can't be sent."""

    code: str
    error: str


class WatchedFile(io.FileIO):
    """A file that tells how much of it is read."""

    def __init__(self, upload: Upload) -> None:
        super().__init__(upload.path, "rb")
        self._see = upload.see

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and tell of it."""
        piece = super().read(-1 if size is None else size) or b""
        self._see(len(piece))
        return piece

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Read into a buffer, and tell of it."""
        count = super().readinto(buffer) or 0
        self._see(count)
        return count


def read_records(path: Path, *, see: Callable[[int], None]) -> Iterator[Mapping[str, object] | Unread]:
    """Read the records of a .json, .ndjson or .jsonl file, also of a .gz or .zst one.

    A key that occurs twice is no record's, because Python would keep one of the two. Raises ClientError.
    """
    packed = path.suffix.lower() if path.suffix.lower() in {".gz", ".zst"} else ""
    suffix = Path(path.name[: len(path.name) - len(packed)]).suffix.lower()
    if suffix not in {".json", *_LINES}:
        raise ClientError(f"{path.name}: records are sent from .json, .ndjson or .jsonl files, also with .gz or .zst")
    with WatchedFile(Upload(path=path, see=see)) as file, _unpacked(file, packed) as plain:
        try:
            yield from _of_lines(plain) if suffix in _LINES else _of_document(plain)
        except (EOFError, gzip.BadGzipFile, zstandard.ZstdError) as error:
            raise ClientError(f"{path.name} is broken: {error}") from error


def _unpacked(file: WatchedFile, packed: str) -> IO[bytes]:
    if packed == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file, mode="rb"))
    if packed == ".zst":
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        return cast("IO[bytes]", io.BufferedReader(cast("io.RawIOBase", reader)))
    return cast("IO[bytes]", io.BufferedReader(file))


def _of_lines(plain: IO[bytes]) -> Iterator[Mapping[str, object] | Unread]:
    for number, line in enumerate(plain):
        text = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
        if text.strip():
            yield _record(text)


def _of_document(plain: IO[bytes]) -> Iterator[Mapping[str, object] | Unread]:
    content = plain.read(DOCUMENT_BYTES_MAX + 1)
    if len(content) > DOCUMENT_BYTES_MAX:
        raise ClientError(f"the document is larger than {DOCUMENT_BYTES_MAX} bytes; write a record a line (.ndjson)")
    try:
        read: object = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_Members)
    except (ValueError, RecursionError) as error:
        raise ClientError(f"the document is no JSON: {error}") from error
    if isinstance(read, _Members) and not read.repeated:
        # The family's own body: one list under whatever name.
        lists = [each for each in read.values() if isinstance(each, list)]
        read = cast("object", lists[0]) if len(lists) == len(read) == 1 else [read]
    if not isinstance(read, list):
        raise ClientError("the document is neither an array of records nor an object with one")
    for each in cast("list[object]", read):
        yield _judged(each)


def _record(text: bytes) -> Mapping[str, object] | Unread:
    try:
        return _judged(json.loads(text, object_pairs_hook=_Members))
    except (ValueError, RecursionError):
        return Unread(code="invalid_json", error="The record is not valid JSON in UTF-8.")


class _Members(dict[str, object]):
    """An object's members, and whether one of its keys or of an object in it was repeated."""

    def __init__(self, pairs: Sequence[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.repeated = len(self) != len(pairs) or any(_repeats(value) for _, value in pairs)


def _repeats(value: object) -> bool:
    if isinstance(value, _Members):
        return value.repeated
    return isinstance(value, list) and any(_repeats(each) for each in cast("list[object]", value))


def _judged(read: object) -> Mapping[str, object] | Unread:
    if not isinstance(read, _Members):
        return Unread(code="not_an_object", error="A record must be an object.")
    return Unread(code="duplicate_key", error=_DUPLICATE) if read.repeated else read
