"""Which issue a record is about: a function of workspace, source as sent and external id, the same for ever.

The reply to a POST has the ids before anything is processed, so the door and the run both ask here.
"""

import base64
import hashlib

from ingest_platform.domain.contract import WHITE_SPACE

PREFIX = "iss_"
# 130 bits of a digest: among a million million issues, two share an id with a chance of 10^-15.
ID_CHARACTERS = 26
_DIGEST_BYTES = 17
_HASH_BYTES = 8
_RFC_4648 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_CROCKFORD = b"0123456789abcdefghjkmnpqrstvwxyz"
_to_crockford = bytes.maketrans(_RFC_4648, _CROCKFORD)
_from_crockford = bytes.maketrans(_CROCKFORD, _RFC_4648)


def source_key_of(source: str) -> str:
    """Reduce a source to what makes two of them one.

    >>> source_key_of(" Jira ")
    'jira'
    """
    return source.strip(WHITE_SPACE).lower()


def identify(workspace: str, source_key: str, external_id: str) -> tuple[str, int]:
    """Compute an issue's id and its hash, the first eight bytes of what the id encodes (signed, big-endian).

    >>> identify("acme", "jira", "CHECKOUT-123")
    ('iss_9mb2nwn2gzssebqfbgn13qndh1', 5554674412005356439)
    """
    # None of them has a NUL in it, so no two keys make the same text.
    digest = hashlib.sha256(f"{workspace}\0{source_key}\0{external_id}".encode()).digest()
    encoded = base64.b32encode(digest[:_DIGEST_BYTES])[:ID_CHARACTERS].translate(_to_crockford)
    return PREFIX + encoded.decode(), int.from_bytes(digest[:_HASH_BYTES], signed=True)


def key_hash_of(issue_id: str) -> int | None:
    """Read an issue's hash from its id; None if the text is no such id.

    >>> key_hash_of("iss_0") is None
    True
    """
    encoded = issue_id.removeprefix(PREFIX).encode()
    if not issue_id.startswith(PREFIX) or len(encoded) != ID_CHARACTERS or encoded.strip(_CROCKFORD):
        return None
    # Padded to whole groups of eight characters; the bits beyond the hash are not looked at.
    digest = base64.b32decode(encoded.translate(_from_crockford) + b"AAAAAA")
    return int.from_bytes(digest[:_HASH_BYTES], signed=True)
