"""What a stream's events are held to, by the stream's id as a submission's target; all lie in one table.

The envelope of a stream never changes (`ingest apply` refuses), so neither does its shape; what was accepted while a
stream stood may be worked after it was retired, so that retired ones have a shape, too.
"""

from collections.abc import Mapping
from typing import Any

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.feed import Shape
from ingest_platform.feeds.stream_events.contract import AUTO, STRICT
from ingest_platform.feeds.stream_events.declaration import Envelope
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.storage import catalog
from ingest_platform.storage.ledger import Transaction

# The kind of the catalog's entries, and their section in a YAML file.
STREAMS = "streams"
# One object for all streams of an envelope, because decoders and checks are kept by it.
SHAPES: Mapping[Envelope, Shape] = {
    Envelope.STRICT: Shape(contract=STRICT, table=TABLE),
    Envelope.AUTO: Shape(contract=AUTO, table=TABLE),
}


def find_shape(tx: Transaction, *, workspace: str, target: str) -> Shape | None:
    """Find the shape of a stream of a workspace; None if there never was one of this id."""
    found = catalog.last_standing(tx, workspace=workspace, kind=STREAMS, id_=target)
    return None if found is None else SHAPES[envelope_of(found.body)]


def envelope_of(body: Mapping[str, Any]) -> Envelope:
    """Read the envelope of a declared stream; strict, unless it says otherwise."""
    return Envelope(body.get("envelope", Envelope.STRICT))


def contract_of(envelope: Envelope) -> Contract:
    """Give the contract of the records of a stream."""
    return SHAPES[envelope].contract
