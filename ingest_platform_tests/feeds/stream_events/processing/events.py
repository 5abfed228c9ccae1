"""Events that tests make up: with what detectors look for in texts, keys and numbers, and all that JSON can hold."""

from hypothesis import strategies as st

from ingest_platform.feeds.stream_events.declaration.pipeline import Detector, How, Mask, Path

MISSING = object()
# By detector, what may not be seen behind its mask.
CANARIES = {
    Detector.EMAIL: ["canary@example.org", "c.anary+x@mail.example.co"],
    Detector.CARD: ["4111111111111111", "5500-0055-5555-5559", "3782 822463 10005"],
    Detector.IPV4: ["10.11.12.13", "203.0.113.77"],
    Detector.IPV6: ["2001:db8::ff00:42:8329", "1:2:3:4:5:6:7:8"],
    Detector.PHONE: ["+49 30 901820", "(415) 555-2671"],
    Detector.IBAN: ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"],
    Detector.JWT: ["eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP"],
    Detector.BEARER: ["Bearer canary.0123456789"],
}
NUMBERS = [4111111111111111, -4111111111111111, 4111111111111111.0, 4.222222222222e12, 378282246310005]
_SECRETS = [secret for secrets in CANARIES.values() for secret in secrets]
# What stands around a secret: nothing that it could be part of.
_AROUND = st.sampled_from(
    ["", " ", '"', "\\", "\n", "\t", "\x07", "\x1b", "\x00", "\x01", "€", "<", "; ", '":', ",", "{", "}", "='"]
)
SECRETS = st.sampled_from(_SECRETS)
HIDING_PLACES = st.lists(st.tuples(_AROUND, SECRETS, _AROUND).map("".join), min_size=1, max_size=3).map(" ; ".join)
TEXTS = HIDING_PLACES | st.text(max_size=8) | st.sampled_from(["card", "event", '"card":', "a", "b", "", "null"])
KEYS = st.sampled_from(["a", "b", "card", "event", "source", "ca.rd", 'q"k', "ü", ""]) | SECRETS
NAMES = st.sampled_from(["a", "b", "card", 'q"k', "ü"])
PATHS = st.one_of(
    st.tuples(st.just("event"), NAMES),
    st.tuples(st.just("event"), NAMES, NAMES),
    st.tuples(st.just("metadata")),
    st.tuples(st.just("source")),
    st.tuples(NAMES),
)
VALUES = st.recursive(
    TEXTS
    | st.sampled_from(NUMBERS)
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
    | st.none()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"timestamp": st.just("2026-05-06T10:15:32.441Z"), "source": TEXTS, "event": st.dictionaries(KEYS, VALUES)},
    optional={"metadata": st.dictionaries(KEYS, VALUES, max_size=3), "a": VALUES, "card": VALUES},
)
_FIELD_MASKS = st.one_of(
    st.builds(Mask, field=PATHS, how=st.sampled_from([How.REDACT, How.HASH, How.DROP])),
    st.builds(Mask, field=PATHS, how=st.just(How.PARTIAL), keep_last=st.integers(0, 6)),
    st.builds(
        Mask,
        field=PATHS,
        how=st.just(How.REGEX),
        pattern=st.sampled_from(["[0-9]+", "a", "^.", "(?P<x>c)anary"]),
        replacement=st.sampled_from(["", "…", '"', "$0$0", "x@y.example"]),
    ),
)
_DETECTOR_MASKS = st.builds(
    Mask, detector=st.sampled_from(Detector), how=st.sampled_from([How.REDACT, How.HASH, How.PARTIAL])
)
MASKS = st.lists(_FIELD_MASKS | _DETECTOR_MASKS, min_size=1, max_size=4).map(tuple)


def at(event: object, path: Path) -> object:
    for name in path:
        if not isinstance(event, dict) or name not in event:
            return MISSING
        event = event[name]
    return event
