"""Detectors find what they are for in any text, and leave alone what only looks alike."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Detector, How, Mask
from ingest_platform.feeds.stream_events.processing.detectors import FINDERS, luhn
from ingest_platform.feeds.stream_events.processing.hiding import hiding_of
from ingest_platform.feeds.stream_events.processing.walking import mask_texts

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
FOUND = [
    (Detector.EMAIL, "mail ann.o'hara+x@mail.example.co.uk.", "mail ann.o'[redacted email]."),
    (Detector.EMAIL, "to=jörg@müller.example,", "to=[redacted email],"),
    (Detector.EMAIL, "<a@b.io>; c_d@e-f.org", "<[redacted email]>; [redacted email]"),
    (Detector.CARD, "4111111111111111", "[redacted card]"),
    (Detector.CARD, "card4111-1111-1111-1111x", "card[redacted card]x"),
    (Detector.CARD, "3782 822463 10005 and 6011000990139424", "[redacted card] and [redacted card]"),
    (Detector.CARD, "12 4111 1111 1111 1111 05/27", "12 [redacted card] 05/27"),
    (Detector.CARD, "4111.1111.1111.1111.", "[redacted card]."),
    (Detector.CARD, "4222222222222", "[redacted card]"),
    (Detector.CARD, "4111111111111111.0", "[redacted card].0"),
    (Detector.CARD, "-4111111111111111", "-[redacted card]"),
    (Detector.IPV4, "from 10.0.255.1:80", "from [redacted ipv4]:80"),
    (Detector.IPV4, "ip-192.168.0.1x", "ip-[redacted ipv4]x"),
    (Detector.IPV6, "[2001:db8::ff00:42:8329]:443", "[[redacted ipv6]]:443"),
    (Detector.IPV6, "addr:fe80::1%eth0", "addr:[redacted ipv6]%eth0"),
    (Detector.IPV6, "::ffff:10.0.0.1.", "[redacted ipv6]."),
    (Detector.IPV6, "1:2:3:4:5:6:7:8", "[redacted ipv6]"),
    (Detector.PHONE, "call +49 (30) 901-820 now", "call [redacted phone] now"),
    (Detector.PHONE, "(415) 555-2671, 415-555-2671, 415.555.2671", ", ".join(["[redacted phone]"] * 3)),
    (Detector.PHONE, "+1 415 555 2671 9", "[redacted phone] 9"),
    (Detector.IBAN, "DE89 3704 0044 0532 0130 00 and more", "[redacted iban] and more"),
    (Detector.IBAN, "iban=gb82west12345698765432;", "iban=[redacted iban];"),
    (Detector.JWT, f"token {JWT}.", "token [redacted jwt]."),
    (Detector.BEARER, "Authorization: Bearer abc.DEF-123==", "Authorization: [redacted bearer]"),
    (Detector.BEARER, "BEARER \t sk_live_1", "[redacted bearer]"),
]
LEFT = [
    (Detector.EMAIL, "root@10.0.0.1, a@b, @handle, x@.com"),
    # One wrong digit; milliseconds, microseconds; a fraction; a list of numbers; more digits than cards have.
    (Detector.CARD, "4111111111111112 1731965123456 1731965123456784 0.4111111111111111 52.4111111111111111"),
    (Detector.CARD, "4111.1111 1111.1111"),
    (Detector.CARD, "41 11 11 11 11 11 11 11"),
    (Detector.CARD, "41111111111111111111111"),
    (Detector.IPV4, "1.2.3, 300.1.2, 2026.05.06"),
    (Detector.IPV6, "2026-05-06T10:15:32.441Z std::string 00:1a:2b:3c:4d:5e a :: b"),
    (Detector.PHONE, "2026-05-06 10.0.0.1 123-456-7890 4111 1111 1111 1111"),
    (Detector.IBAN, "DE89370400440532013001 AB89370400440532013000 DE8937040044053201300000"),
    (Detector.JWT, "eyJ is how they begin"),
    (Detector.BEARER, "the bearer of it"),
]


def masked(text: str, detector: Detector) -> str:
    return mask_texts([text], FINDERS[detector], hiding_of(Mask(detector=detector, how=How.REDACT), None))[0]


@pytest.mark.parametrize(("detector", "text", "expected"), FOUND)
def test_what_is_meant_is_found_wherever_it_stands(detector: Detector, text: str, expected: str) -> None:
    assert masked(text, detector) == expected
    # A hole in the text parts it, and changes nothing on either side.
    assert masked(f"{text}\0{text}", detector) == f"{expected}\0{expected}"


@pytest.mark.parametrize(("detector", "text"), LEFT)
def test_what_only_looks_alike_is_left(detector: Detector, text: str) -> None:
    assert masked(text, detector) == text


@given(st.text(alphabet="0123456789", min_size=12, max_size=18), st.sampled_from(["", " ", "-"]), st.text(max_size=5))
def test_every_number_that_keeps_luhns_check_is_a_card(digits: str, separator: str, around: str) -> None:
    digits = "4" + digits[1:]
    number = next(digits + str(last) for last in range(10) if luhn(digits + str(last)))
    text = separator.join(number[at : at + 4] for at in range(0, len(number), 4))
    found = masked(f"{around}x{text}x{around}", Detector.CARD)
    assert text not in found
    assert "[redacted card]" in found


@pytest.mark.parametrize("detector", list(Detector))
def test_no_text_takes_long(detector: Detector) -> None:
    noise = hashlib.sha256(b"noise").hexdigest()
    hostile = ["a" * 100_000, "1" * 100_000, "1 " * 50_000, ":" * 100_000, "a:" * 50_000, "+1" * 50_000]
    for text in [*hostile, "DE89" * 25_000, "eyJ." * 25_000, "bearer " * 15_000, noise * 1_500, "::1" * 30_000]:
        masked(text, detector)
