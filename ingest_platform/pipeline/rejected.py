"""A rejected record as a line of NDJSON, to be mended and sent again: in the download and beside a filed file.

Which records were rejected, and why, is read elsewhere.
"""

import json

import msgspec

from ingest_platform.domain.rejection import Rejection, reasons


def rejected_line(rejection: Rejection) -> bytes:
    r"""Write a rejected record with its reasons as a line of JSON, the record as it was sent if it is JSON.

    It is null if its bytes may not be kept.

    >>> rejected_line(Rejection(submission=0, record_index=7, problems=(), raw=b'{"value":\n1.50}'))
    b'{"index":7,"reasons":[],"record":{"value": 1.50}}\n'
    >>> rejected_line(Rejection(submission=0, record_index=7, problems=(), raw=b"2026,\xff"))
    b'{"index":7,"reasons":[],"record":"2026,\\\\xff"}\n'
    """
    # Half a surrogate pair in a message is no text in UTF-8: only its JSON escape can be written.
    why = json.dumps(reasons(rejection.problems), separators=(",", ":")).encode()
    return b'{"index":%d,"reasons":%b,"record":%b}\n' % (rejection.record_index, why, _record(rejection.raw))


def _record(raw: bytes) -> bytes:
    if not raw:
        return b"null"
    try:
        msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return json.dumps(raw.decode("utf-8", "backslashreplace")).encode()
    # In valid JSON a line break is only ever blank space between the tokens.
    return raw.replace(b"\r", b" ").replace(b"\n", b" ")
