"""Where processed events lie in the warehouse: one table for all streams, a row for every accepted event."""

from ingest_platform.domain.feed import AppendTable, Column

EVENT_ID_PREFIX = "evt_"
# What the pipeline has decided about an event.
ROUTED, SAMPLED_OUT, DROPPED = "routed", "sampled_out", "dropped"
TABLE = AppendTable(
    name="stream_events",
    columns=(
        Column(name="stream_id", type="VARCHAR"),
        Column(name="stream_version", type="INTEGER"),
        Column(name="timestamp", type="TIMESTAMPTZ"),
        Column(name="source", type="VARCHAR", nullable=True),
        # One of the three above.
        Column(name="decision", type="VARCHAR"),
        # The names of the rules that took it, in their order, with commas between.
        Column(name="rules", type="VARCHAR"),
        # A JSON object, weights by destination; null unless routed.
        Column(name="destinations", type="VARCHAR", nullable=True),
        # The event behind the masks, as JSON text; null unless routed: what is dropped is not kept.
        Column(name="document", type="VARCHAR", nullable=True),
        # The names of the rules that a fault of types decided.
        Column(name="faults", type="VARCHAR", nullable=True),
    ),
    day_column="timestamp",
    id_column="event_id",
    id_prefix=EVENT_ID_PREFIX,
    accepted_column="accepted_at",
    request_column="request_id",
)
