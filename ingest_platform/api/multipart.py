"""A multipart/form-data body with exactly one `file`, cut open while it streams. Its bytes mean nothing here."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from ingest_platform.api.body import Sink
from ingest_platform.domain.errors import Malformed, Unprocessable

FILE = "file"
_BOUNDARY = re.compile(r"[\x21-\x7e ]{1,70}\Z").match
# Names are shown and stored, never used as paths.
FILE_NAME_LENGTH_MAX = 255
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """What a part says of its file."""

    name: str
    content_type: str


class OneFile:
    """Finds the file in a multipart body and pushes its bytes to the sink that is made for it."""

    def __init__(self, content_type: str, sink_for: Callable[[FilePart], Sink]) -> None:
        self._sink_for = sink_for
        self._sink: Sink | None = None
        self._in_file = False
        self._ended = False
        self._header = [b"", b""]
        self._headers: dict[str, str] = {}
        self.part: FilePart | None = None
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._header_piece(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._header_piece(1, data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": lambda data, start, end: self._data(data[start:end]),
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, piece: bytes) -> None:
        """Take bytes of the whole body."""
        try:
            self._parser.write(piece)
        except FormParserError:
            raise _broken() from None

    def close(self) -> None:
        """Raise unless the body was whole and had its file."""
        if not self._ended:
            raise _broken()
        if self._sink is None:
            message = f"The form has no part named {FILE} with a file."
            raise Unprocessable(message, code="missing_field", param=FILE)
        self._sink.close()

    def _begin(self) -> None:
        self._headers = {}
        self._header = [b"", b""]

    def _header_piece(self, place: int, piece: bytes) -> None:
        self._header[place] += piece

    def _end_header(self) -> None:
        name, value = self._header
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")
        self._header = [b"", b""]

    def _end_headers(self) -> None:
        options = _options(self._headers.get("content-disposition", ""))
        self._in_file = options.get(b"name") == FILE.encode()
        if not self._in_file:
            return
        if self._sink is not None:
            message = f"The form has more than one part named {FILE}."
            raise Unprocessable(message, code="too_many_files", param=FILE)
        name = clean_name(options.get(b"filename", b"").decode("utf-8", "replace"))
        content_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        self.part = FilePart(name=name, content_type=content_type)
        self._sink = self._sink_for(self.part)

    def _data(self, piece: bytes) -> None:
        if self._in_file and self._sink is not None:
            self._sink.write(piece)

    def _end_part(self) -> None:
        self._in_file = False

    def _end(self) -> None:
        self._ended = True


def clean_name(name: str) -> str:
    r"""Keep the last part of a file's name, without what can't be shown or stored.

    >>> clean_name("C:\\data\\..\\may.csv")
    'may.csv'
    """
    last = re.split(r"[/\\]", name)[-1]
    return _UNSHOWN.sub("", last)[:FILE_NAME_LENGTH_MAX].strip()


def _options(header: str) -> dict[bytes, bytes]:
    try:
        return parse_options_header(header)[1]
    except (ValueError, LookupError):
        # Words in a charset that is unknown, or that has no place in these headers.
        raise _broken() from None


def _boundary(content_type: str) -> bytes:
    boundary = _options(content_type).get(b"boundary", b"")
    if not _BOUNDARY(boundary.decode("latin-1")):
        message = "multipart/form-data needs a boundary of 1 to 70 characters."
        raise Malformed(message, code="invalid_multipart", param="Content-Type")
    return boundary


def _broken() -> Malformed:
    return Malformed("The body is not a well-formed, complete multipart/form-data.", code="invalid_multipart")
