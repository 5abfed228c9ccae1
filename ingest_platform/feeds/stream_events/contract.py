"""An event as it is sent: of a stream with the strict envelope, or of one that takes anything with a timestamp.

What the second kind is held to besides its timestamp is in `envelopes.py`. Where events lie: `load.py`.
"""

from ingest_platform.domain.contract import Contract, Field, Kind

NAME = "stream_events"
# The column with the whole event as it was sent, what is not declared here included.
DOCUMENT = "document"
TIMESTAMP = Field(
    name="timestamp",
    kind=Kind.TIMESTAMP,
    description="When it happened: RFC 3339 with seconds and a zone.",
    example="2026-05-06T10:15:30.123Z",
)
SOURCE = Field(
    name="source",
    kind=Kind.STRING,
    blank_allowed=False,
    description="What it comes from: a service, a machine.",
    example="payments-api",
)
EVENT = Field(
    name="event",
    kind=Kind.OBJECT,
    description="What happened.",
    example={"level": "ERROR", "message": "card declined", "latency_ms": 512, "card_number": "4111111111111111"},
)
METADATA = Field(
    name="metadata",
    kind=Kind.OBJECT,
    required=False,
    description="Where it happened, and whatever else belongs to it.",
    example={"env": "prod", "region": "eu-west-1"},
)
STRICT = Contract(
    name=NAME,
    fields=(TIMESTAMP, SOURCE, EVENT, METADATA),
    # Other top-level keys are kept.
    extra_allowed=True,
    whole=DOCUMENT,
)
AUTO = Contract(name=NAME, fields=(TIMESTAMP,), extra_allowed=True, whole=DOCUMENT)
