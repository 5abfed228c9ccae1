"""A pipeline as values."""

from ingest_platform.feeds.stream_events.declaration import (
    Detector,
    Envelope,
    How,
    Mask,
    Match,
    Pipeline,
    Routes,
    destinations_of,
    masks_anything,
)

NOWHERE = Routes(match=Match.FIRST, rules=(), otherwise=())


def test_a_pipeline_knows_whether_it_masks() -> None:
    plain = Pipeline(name="payments", envelope=Envelope.STRICT, routes=NOWHERE)
    mask = Mask(detector=Detector.EMAIL, how=How.REDACT)
    masking = Pipeline(name="payments", envelope=Envelope.STRICT, masks=(mask,), routes=NOWHERE)
    assert (masks_anything(plain), masks_anything(masking)) == (False, True)


def test_a_pipeline_knows_its_destinations() -> None:
    routes = Routes(match=Match.ALL, rules=(), otherwise=("archive", "siem"))
    pipeline = Pipeline(name="payments", envelope=Envelope.AUTO, routes=routes)
    assert destinations_of(pipeline) == {"archive", "siem"}
