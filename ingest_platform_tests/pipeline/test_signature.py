"""Signatures of webhooks."""

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.pipeline.signature import SECRET_PATTERN, is_signed, new_secret, sign

BODY = b'{"a": 1}'
SECRET = "a secret of ours"
RIGHT = sign(SECRET, BODY)


@given(secret=st.text(min_size=1).filter(lambda text: text.isprintable()), body=st.binary())
def test_a_signature_is_the_hmac_of_the_raw_body(secret: str, body: bytes) -> None:
    assert sign(secret, body) == hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert is_signed(secret, body, signatures=[sign(secret, body)], hub_signatures=[])
    assert not is_signed(secret, body + b" ", signatures=[sign(secret, body)], hub_signatures=[])


@pytest.mark.parametrize(
    ("signatures", "hub_signatures"),
    [([RIGHT], []), ([RIGHT.upper()], []), ([], [f"sha256={RIGHT}"]), ([RIGHT], ["sha256=" + "0" * 64])],
)
def test_either_header_is_enough_and_ours_comes_first(signatures: list[str], hub_signatures: list[str]) -> None:
    assert is_signed(SECRET, BODY, signatures=signatures, hub_signatures=hub_signatures)


@pytest.mark.parametrize(
    ("signatures", "hub_signatures"),
    [
        ([], []),
        ([""], []),
        (["ä"], []),
        ([RIGHT[:-1]], []),
        ([f"sha256={RIGHT}"], []),
        ([RIGHT, RIGHT], []),
        (["0" * 64], [f"sha256={RIGHT}"]),
        ([], [RIGHT]),
        ([], [f"sha1={RIGHT}"]),
        ([], ["sha256="]),
        ([], [f"sha256={RIGHT}", f"sha256={RIGHT}"]),
    ],
)
def test_whatever_is_not_quite_right_is_wrong(signatures: list[str], hub_signatures: list[str]) -> None:
    assert not is_signed(SECRET, BODY, signatures=signatures, hub_signatures=hub_signatures)


def test_secrets_are_long_unlike_and_allowed() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(re.search(SECRET_PATTERN, each) and each.startswith("whsec_") for each in made)
