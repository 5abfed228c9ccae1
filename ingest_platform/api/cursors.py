"""Cursors of lists: opaque to clients, signed so that they come back as they went. What is in one is a list's own."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ingest_platform.domain.errors import Malformed

SECRET_NAME = "cursors"  # noqa: S105 - the name of a secret, not one.
_MAC_BYTES = 16

Place = list[str | int | None]


@dataclass(frozen=True, slots=True)
class Cursors:
    """Writes and reads cursors with the secret that all API processes share."""

    secret: Callable[[], bytes]

    def write(self, *, purpose: str, place: Sequence[str | int | None]) -> str:
        """Sign a place in a list. `purpose` says which list it is, so that one list's cursor is no other's."""
        packed = msgspec.msgpack.encode(list(place))
        return base64.urlsafe_b64encode(self._mac(purpose, packed) + packed).rstrip(b"=").decode()

    def read(self, text: str, *, purpose: str) -> Place:
        """Read a cursor; raise Malformed if it is not one that was written for this list."""
        try:
            data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError, ValueError):
            raise _invalid() from None
        mac, packed = data[:_MAC_BYTES], data[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(purpose, packed)) or self._noncanonical(text, data):
            raise _invalid()
        return msgspec.msgpack.decode(packed, type=Place)

    @staticmethod
    def _noncanonical(text: str, data: bytes) -> bool:
        # The last letter of base 64 has spare bits; a cursor with those changed was tampered with too.
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text

    def _mac(self, purpose: str, packed: bytes) -> bytes:
        message = purpose.encode() + b"\x00" + packed
        return hmac.digest(self.secret(), message, hashlib.sha256)[:_MAC_BYTES]


def _invalid() -> Malformed:
    return Malformed("The cursor is not one that this list gave out.", code="invalid_cursor", param="cursor")
