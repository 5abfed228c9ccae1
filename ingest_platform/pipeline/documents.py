"""Bytes into records' bytes: decompression within a limit, lines of NDJSON, elements of a JSON document.

What a record is made of is not known here.
"""

import functools
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import msgspec
import pyarrow as pa

from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.submission import Encoding
from ingest_platform.pipeline.records import BLANKS, DECODE_ERRORS, RECORD_BYTES_MAX

KIB = 1024
MIB = 1024 * KIB
# A piece of this size and what is decoded from it stay in a core's cache.
PIECE_BYTES = 512 * KIB
# A JSON document is held as a whole, an NDJSON one is not.
DOCUMENT_BYTES_MAX = 256 * MIB
# What may stand beside the records in a JSON body; it is ignored, but its keys are looked at.
ENVELOPE_BYTES_MAX = 1 * MIB
# As many small records as a piece of bytes has.
BATCH_RECORDS = 4096
BOM = b"\xef\xbb\xbf"

_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_whole = msgspec.json.Decoder(msgspec.Raw).decode
_FIRST = re.compile(rb"[ \t\r\n]*(.)", re.DOTALL)
# A string that never ends goes to the end, so that no byte is looked at twice.
_STRING_OR_CONSTANT = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|-?Infinity|NaN', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)


class Limited(io.RawIOBase):
    """A stream of decompressed bytes that ends in Unreadable once there are more of them than allowed."""

    def __init__(self, source: BinaryIO, *, bytes_max: int) -> None:
        self._source = source
        self._bytes_max = bytes_max
        self._taken = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """Read the next bytes."""
        try:
            taken = self._source.read(len(buffer))
        except (OSError, pa.ArrowException) as error:
            message = "The compressed bytes are damaged, or end too early."
            raise Unreadable(message, code="invalid_encoding") from error
        self._taken += len(taken)
        if self._taken > self._bytes_max:
            raise too_large(self._bytes_max)
        buffer[: len(taken)] = taken
        return len(taken)


def too_large(bytes_max: int) -> Unreadable:
    """Word the end of a submission that is larger than allowed."""
    return Unreadable(f"The data, once decompressed, are larger than {bytes_max} bytes.", code="too_large")


def decompressed(source: BinaryIO, encoding: Encoding, *, bytes_max: int) -> io.BufferedReader:
    """Read through a compression, any number of members or frames, never more than a piece ahead."""
    if encoding is not Encoding.IDENTITY:
        source = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), encoding.value)
    return io.BufferedReader(Limited(source, bytes_max=bytes_max), PIECE_BYTES)


def iter_lines(source: io.BufferedIOBase) -> Iterator[list[bytes]]:
    """Yield lines, many at a time, without their ends. A line larger than any record may be is yielded cut short."""
    rest = b""
    piece = source.read(PIECE_BYTES).removeprefix(BOM)
    while piece:
        head, newline, tail = piece.rpartition(b"\n")
        if newline:
            yield (rest + head).split(b"\n")
            rest = tail
        elif len(rest) <= RECORD_BYTES_MAX:
            # One byte too many tells that it was too long.
            rest = (rest + piece)[: RECORD_BYTES_MAX + 1]
        piece = source.read(PIECE_BYTES)
    if rest:
        yield [rest]


def split_document(document: bytes, envelope_key: str) -> list[bytes]:
    """Cut a JSON document (an array, or an object with one under the key) into its records' bytes.

    Without a key (""), an object is itself a record.

    NaN, infinities and lone surrogates, none of which are JSON, are left to the records in which they stand. Raises
    Unreadable for whatever else is no such document.

    >>> split_document(b'{"items": [{"a": 1}, 2]}', "items")
    [b'{"a": 1}', b'2']
    """
    return [bytes(element) for element in _records_of(document.removeprefix(BOM), envelope_key)]


def iter_document(document: bytes, envelope_key: str) -> Iterator[list[bytes]]:
    """Yield what `split_document` gives, many at a time."""
    elements = _records_of(document.removeprefix(BOM), envelope_key)
    for begin in range(0, len(elements), BATCH_RECORDS):
        yield [bytes(element) for element in elements[begin : begin + BATCH_RECORDS]]


def _records_of(document: bytes, envelope_key: str) -> "Sequence[msgspec.Raw] | Sequence[bytes]":
    first = _FIRST.match(document)
    if not envelope_key and first and first[1] == b"{":
        return [_alone(document)]
    try:
        return _split(document, envelope_key)
    except RecursionError:
        raise Unreadable("The JSON document is nested too deeply.", code="too_deep") from None
    except DECODE_ERRORS as error:
        tamed = _tame(document)
        if tamed is None:
            raise _not_json(error) from None
    return _split_tamed(document, tamed, envelope_key)


def _alone(document: bytes) -> bytes:
    """Take a document that is one record. Raises Unreadable if it is no JSON, whatever harms only the record apart."""
    try:
        _whole(_tame(document) or document)
    except RecursionError:
        raise Unreadable("The JSON document is nested too deeply.", code="too_deep") from None
    except DECODE_ERRORS as error:
        raise _not_json(error) from None
    return document.strip(BLANKS)


def _split(document: bytes, envelope_key: str) -> Sequence[msgspec.Raw]:
    first = _FIRST.match(document)
    if first and first[1] == b"[":
        return _elements(document)
    if not first or first[1] != b"{":
        _whole(document)
        raise _no_array(envelope_key)
    try:
        elements = _envelope(envelope_key)(document)
    except msgspec.ValidationError:
        # It is raised before the rest was seen.
        _whole(document)
        raise _no_array(envelope_key) from None
    _look_around(document, elements, envelope_key)
    return elements


# Families have a key each; making the decoder costs more than decoding a small body.
@functools.lru_cache(maxsize=64)
def _envelope(key: str) -> Callable[[bytes], Sequence[msgspec.Raw]]:
    struct = msgspec.defstruct("Envelope", [("records", list[msgspec.Raw])], rename={"records": key})
    decode = msgspec.json.Decoder(struct).decode
    return lambda document: decode(document).records  # type: ignore[attr-defined]


def _look_around(document: bytes, elements: Sequence[msgspec.Raw], envelope_key: str) -> None:
    """Refuse a second array under the key: the decoder would take the last and say nothing."""
    if not elements:
        return
    begin, end = _span(document, elements[0])[0], _span(document, elements[-1])[1]
    if len(document) - (end - begin) > ENVELOPE_BYTES_MAX:
        message = f"There are more than {ENVELOPE_BYTES_MAX} bytes beside the records."
        raise Unreadable(message, code="too_large")
    try:
        members = json.loads(document[:begin] + document[end:], object_pairs_hook=list)
    except ValueError as error:
        raise _not_json(error) from None
    if sum(member[0] == envelope_key for member in members) != 1:
        raise Unreadable(f"The key {envelope_key} occurs twice.", code="duplicate_key")


def _span(document: bytes, element: msgspec.Raw) -> tuple[int, int]:
    begin = _address(element) - _address(document)
    return begin, begin + len(bytes(element))


def _address(buffer: "bytes | msgspec.Raw") -> int:
    return int(pa.py_buffer(buffer).address)


def _tame(document: bytes) -> bytes | None:
    """Put valid JSON of the same length in the place of what only harms its own record; None if there is nothing."""
    if b"NaN" not in document and b"Infinity" not in document and not _SURROGATE.search(document):
        return None
    return _STRING_OR_CONSTANT.sub(_tame_token, document)


def _tame_token(found: re.Match[bytes]) -> bytes:
    token = found[0]
    if not token.startswith(b'"'):
        # An array can't be part of a number or be a key, so nothing else becomes valid by it.
        return b"[" + b" " * (len(token) - 2) + b"]"
    if not _SURROGATE.search(token):
        return token
    return _ESCAPE.sub(lambda escape: b"\\ufffd" if escape[1] else escape[0], token)


def _split_tamed(document: bytes, tamed: bytes, envelope_key: str) -> list[bytes]:
    try:
        elements = _split(tamed, envelope_key)
    except DECODE_ERRORS as error:
        raise _not_json(error) from None
    records: list[bytes] = []
    for element in elements:
        begin, end = _span(tamed, element)
        if document[begin:end] != bytes(element) and not document.startswith(b"{", begin):
            # Not within a record, but in its place.
            raise _not_json(None)
        records.append(document[begin:end])
    return records


def _not_json(error: Exception | None) -> Unreadable:
    where = f": {error}" if isinstance(error, msgspec.DecodeError) else ""
    return Unreadable(f"The document is not valid JSON{where}.", code="invalid_json")


def _no_array(envelope_key: str) -> Unreadable:
    message = f"The document must be an array of records, or an object with one under {envelope_key}."
    return Unreadable(message, code="invalid_json")
