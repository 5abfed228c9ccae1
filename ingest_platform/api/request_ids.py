"""The id that every response carries: the client's own when it is sane, else one of ours."""

import re

from ingest_platform.domain.ids import new_id

REQUEST_ID_PREFIX = "req_"
# 1 to 128 visible ASCII characters: it is written to headers, logs and tables as it is.
_SANE = re.compile(rb"[\x21-\x7e]{1,128}\Z").match


def request_id_of(headers: list[tuple[bytes, bytes]]) -> str:
    """Take the client's `X-Request-Id` if there is exactly one sane one, else make an id."""
    given = [value for name, value in headers if name == b"x-request-id"]
    if len(given) == 1 and _SANE(given[0]):
        return given[0].decode("ascii")
    return new_id(REQUEST_ID_PREFIX)
