"""What the sandbox and its child say to each other: lengths and MessagePack. What the child says is never unpickled."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from ingest_platform.domain.rejection import Problem, Rejection

LENGTH_BYTES = 4
# A reply is a few numbers, or a trace.
MESSAGE_BYTES_MAX = 64 * 1024
TRACE_CHARACTERS_MAX = 8_000


class Request(msgspec.Struct, frozen=True, tag=True):
    """Read one submission. `feed` is the pickled contract and `refer`, by name."""

    path: str
    format: str
    encoding: str
    ordinal: int
    envelope_key: str
    feed: bytes
    origins: bytes
    known: bytes
    folder: str
    bytes_max: int
    rejections_max: int


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Everything is imported."""


class Progress(msgspec.Struct, frozen=True, tag=True):
    """Another frame is read; if any of it was accepted, it lies in one more file."""

    files: int
    received: int


class Done(msgspec.Struct, frozen=True, tag=True):
    """All of it is staged."""

    files: int
    received: int
    accepted: int
    resident_bytes: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The submission can't be read."""

    code: str
    message: str
    resident_bytes: int


class Crashed(msgspec.Struct, frozen=True, tag=True):
    """Something raised that should not have; ours to mend."""

    trace: str
    resident_bytes: int


Reply = Ready | Progress | Done | Refused | Crashed


class _Fault(msgspec.Struct, frozen=True, array_like=True, gc=False):
    code: str
    field: str | None
    message: str


class _Rejected(msgspec.Struct, frozen=True, array_like=True, gc=False):
    record_index: int
    problems: tuple[_Fault, ...]
    raw: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Rejected).decode


def staged_file(request: Request, place: int) -> Path:
    """Name one of the files (Arrow's format) that a submission's accepted records are staged in."""
    return Path(request.folder) / f"{request.ordinal}-{place}.arrow"


def write_rejections(file: BinaryIO, rejections: Iterable[Rejection]) -> None:
    """Append rejections of one submission to a file."""
    for rejection in rejections:
        problems = tuple(_Fault(each.code, each.field, each.message) for each in rejection.problems)
        line = _encode(_Rejected(rejection.record_index, problems, rejection.raw))
        file.write(len(line).to_bytes(LENGTH_BYTES) + line)


def read_rejections(path: Path, ordinal: int) -> Iterator[Rejection]:
    """Read the rejections of one submission back, in their order."""
    # Most rejections of a file have the same few reasons; they are kept once.
    shared: dict[tuple[_Fault, ...], tuple[Problem, ...]] = {}
    with path.open("rb") as file:
        while length := file.read(LENGTH_BYTES):
            rejected = _decode(file.read(int.from_bytes(length)))
            problems = shared.get(rejected.problems)
            if problems is None:
                problems = shared[rejected.problems] = tuple(
                    Problem(code=each.code, field=each.field, message=each.message) for each in rejected.problems
                )
            yield Rejection(submission=ordinal, record_index=rejected.record_index, problems=problems, raw=rejected.raw)
