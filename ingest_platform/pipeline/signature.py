"""How a webhook proves whom it is from: an HMAC-SHA256 of its raw body, the same on the way in and on the way out."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence

SIGNATURE_HEADER = "X-Causeloop-Signature"
HUB_SIGNATURE_HEADER = "X-Hub-Signature-256"
HUB_PREFIX = "sha256="
SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with, not one.
# Short enough for the settings page of every tool; a shorter one than the least could be guessed from a signature.
SECRET_CHARACTERS_MIN, SECRET_CHARACTERS_MAX = 16, 256
SECRET_PATTERN = f"^[\\x21-\\x7e]{{{SECRET_CHARACTERS_MIN},{SECRET_CHARACTERS_MAX}}}$"
_SECRET_BYTES = 32


def new_secret() -> str:
    """Make a secret: 256 random bits behind a prefix that scanners of leaked secrets know it by."""
    return SECRET_PREFIX + secrets.token_hex(_SECRET_BYTES)


def sign(secret: str, body: bytes) -> str:
    """Sign a body.

    >>> sign("It's a Secret to Everybody", b"Hello, World!")
    '757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17'
    """
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def is_signed(secret: str, body: bytes, *, signatures: Sequence[str], hub_signatures: Sequence[str]) -> bool:
    """Tell, in constant time, whether a body has the right signature: in our header, or else in the widespread one.

    The sequences are the values of each header. None at all is wrong, and so is more than one.

    >>> is_signed("secret", b"{}", signatures=[], hub_signatures=["sha256=" + sign("secret", b"{}")])
    True
    """
    right = sign(secret, body).encode()
    given = b""
    if len(signatures) == 1:
        given = signatures[0].strip().lower().encode()
    elif not signatures and len(hub_signatures) == 1 and hub_signatures[0].strip().lower().startswith(HUB_PREFIX):
        given = hub_signatures[0].strip().lower().removeprefix(HUB_PREFIX).encode()
    return hmac.compare_digest(given, right)
