"""The child of `sandbox.py`: reads submissions that it is told of until its input ends. It opens no store.

It limits itself before it reads anything, and answers with counts only; frames go to files.
"""

import contextlib
import ctypes
import io
import os
import pickle
import resource
import sys
import traceback
from pathlib import Path
from typing import BinaryIO

import msgspec
import polars as pl

from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.pipeline.check import CheckedFrame, check
from ingest_platform.pipeline.messages import (
    LENGTH_BYTES,
    TRACE_CHARACTERS_MAX,
    Crashed,
    Done,
    Progress,
    Ready,
    Refused,
    Reply,
    Request,
    staged_file,
    write_rejections,
)
from ingest_platform.pipeline.parse import Written, parse

# Of a file that a submission swells to on disk.
FILE_BYTES_MAX = 16 * 1024**3
# More than the parent lets it work; beyond it the system ends a child that nobody waits for any more.
CPU_SECONDS_MAX = 1_200
PAGE_BYTES = resource.getpagesize()
READ_BYTES = 1024 * 1024

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


def main() -> None:
    """Work off requests from standard input; replies go to what was standard output."""
    _limit(address_bytes_max=int(sys.argv[1]))
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever prints must not be taken for a reply.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = sys.stdin.buffer
    _send(replies, Ready())
    while length := requests.read(LENGTH_BYTES):
        request = _decode(requests.read(int.from_bytes(length)))
        _limit_processor()
        _send(replies, _answer(request, replies))


def _limit(*, address_bytes_max: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (address_bytes_max, address_bytes_max))
    # A crash leaves no image with a client's data on the disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES_MAX, FILE_BYTES_MAX))


def _limit_processor() -> None:
    """Give one submission its share: the parent keeps time better, but may have been killed meanwhile."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + CPU_SECONDS_MAX, hard))


def _send(replies: BinaryIO, reply: Reply) -> None:
    message = _encode(reply)
    replies.write(len(message).to_bytes(LENGTH_BYTES) + message)
    replies.flush()


def _answer(request: Request, replies: BinaryIO) -> Done | Refused | Crashed:
    try:
        files, received, accepted = _stage(request, replies)
    except Unreadable as error:
        return Refused(code=error.code, message=str(error), resident_bytes=_resident_bytes())
    except MemoryError:
        message = "The data need more memory than a submission may take."
        return Refused(code="too_heavy", message=message, resident_bytes=_resident_bytes())
    except Exception:  # noqa: BLE001 - the parent decides, and it logs the trace.
        trace = traceback.format_exc()[-TRACE_CHARACTERS_MAX:]
        return Crashed(trace=trace, resident_bytes=_resident_bytes())
    return Done(files=files, received=received, accepted=accepted, resident_bytes=_resident_bytes())


def _stage(request: Request, replies: BinaryIO) -> tuple[int, int, int]:
    contract, refer = pickle.loads(request.feed)  # noqa: S301 - the parent made it of our own objects.
    origins, known = (pl.read_ipc(io.BytesIO(each)) for each in (request.origins, request.known))
    written = Written(format=Format(request.format), encoding=Encoding(request.encoding))
    files = received = accepted = 0
    with (
        Path(request.path).open("rb", buffering=READ_BYTES) as source,
        (Path(request.folder) / f"{request.ordinal}.rejections").open("wb") as rejections,
    ):
        for parsed in parse(
            written, request.ordinal, contract, request.envelope_key, source, bytes_max=request.bytes_max
        ):
            checked = check(parsed, contract, refer=refer, origins=origins, known=known)
            write_rejections(rejections, checked.rejections)
            files += _write_accepted(request, files, checked)
            received += checked.received
            accepted += checked.accepted.height
            if received - accepted > request.rejections_max:
                message = f"More than {request.rejections_max} records are rejected, so this is not such a file."
                raise Unreadable(message, code="too_many_rejections")
            _send(replies, Progress(files=files, received=received))
    return files, received, accepted


def _write_accepted(request: Request, place: int, checked: CheckedFrame) -> int:
    if checked.accepted.height == 0:
        return 0
    # As it lies in memory: for 250,000 readings 11 ms to write and 40 to stage, against 18 and 53 of Parquet. It is
    # four times as large, but is deleted as soon as it is staged, while the next one is read.
    checked.accepted.rechunk().write_ipc(staged_file(request, place), compression="uncompressed")
    return 1


def _resident_bytes() -> int:
    # What was freed is given back first, so that a child is not replaced for memory that nobody holds.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES
    except OSError:
        # Not Linux: the peak says enough.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
