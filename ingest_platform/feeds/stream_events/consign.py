"""What a load of events leaves behind: parcels for its destinations, and counts. Written when the load is settled.

One statement for all of it, as the load's jobs wait for it. How parcels are delivered is not known here
(`delivering/`), nor what becomes of an event (`processing/`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString, cast

import msgspec
import polars as pl

from ingest_platform.domain.feed import Ended
from ingest_platform.domain.submission import Load
from ingest_platform.feeds.stream_events.load import DROPPED, ROUTED, SAMPLED_OUT
from ingest_platform.storage.ledger import Transaction

# Notified on by every load that has something for a destination.
CONSIGNED = "ingest_stream_events_consigned"

_TOLD = ("stream_version", "decision", "rules", "destinations", "faults")
_Rows = list[dict[str, object]]
_decode_destinations = msgspec.json.Decoder(dict[str, float]).decode
_encode = msgspec.json.Encoder().encode

# Rows are written in the order of their keys, so that two loads that settle at once never wait for each other in a
# circle.
_WRITE: LiteralString = """
WITH counted AS (
    INSERT INTO stream_counts AS c
        (workspace, stream_id, hour, received, rejected, dropped, sampled_out, routed, faults)
    SELECT * FROM json_to_recordset(%(counts)s::json) AS g (
        workspace text, stream_id text, hour timestamptz, received bigint, rejected bigint, dropped bigint,
        sampled_out bigint, routed bigint, faults bigint)
    ORDER BY workspace, stream_id, hour
    ON CONFLICT (workspace, stream_id, hour) DO UPDATE SET
        received = c.received + excluded.received, rejected = c.rejected + excluded.rejected,
        dropped = c.dropped + excluded.dropped, sampled_out = c.sampled_out + excluded.sampled_out,
        routed = c.routed + excluded.routed, faults = c.faults + excluded.faults
), ruled AS (
    INSERT INTO stream_rule_counts AS c (workspace, stream_id, hour, rule, matched, kept, faults)
    SELECT * FROM json_to_recordset(%(rules)s::json) AS g (
        workspace text, stream_id text, hour timestamptz, rule text, matched bigint, kept bigint, faults bigint)
    ORDER BY workspace, stream_id, hour, rule
    ON CONFLICT (workspace, stream_id, hour, rule) DO UPDATE SET
        matched = c.matched + excluded.matched, kept = c.kept + excluded.kept, faults = c.faults + excluded.faults
), given AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(parcels)s::json) AS g (
        workspace text, destination text, stream_id text, stream_version integer, hour timestamptz, seqs bigint[],
        events bigint, bytes bigint)
), parcelled AS (
    INSERT INTO stream_parcels (workspace, destination, stream_id, stream_version, hour, load_id, seqs, events, bytes)
    SELECT workspace, destination, stream_id, stream_version, hour, %(load_id)s, seqs, events, bytes FROM given
), consigned AS (
    INSERT INTO stream_consigned AS c (workspace, stream_id, destination, hour, events)
    SELECT workspace, stream_id, destination, hour, sum(events) FROM given
    GROUP BY workspace, stream_id, destination, hour ORDER BY workspace, stream_id, destination, hour
    ON CONFLICT (workspace, stream_id, destination, hour) DO UPDATE SET events = c.events + excluded.events
), known AS (
    INSERT INTO stream_destinations (workspace, destination)
    SELECT DISTINCT workspace, destination FROM given ORDER BY workspace, destination
    ON CONFLICT DO NOTHING
)
SELECT pg_notify(%(channel)s, '') WHERE EXISTS (SELECT FROM given)
"""


@dataclass(frozen=True, slots=True)
class StreamConsign:
    """The hook of the feed (`Feed.consign`)."""

    @property
    def columns(self) -> Sequence[str]:
        """Name what is summed up: what became of each event, and its size."""
        return (*_TOLD, "document")

    def summarise(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Count the events of each submission that went the same way: `events`, and the `bytes` of their documents."""
        return frame.group_by("submission", *_TOLD, maintain_order=True).agg(
            events=pl.len().cast(pl.Int64), bytes=pl.col("document").str.len_bytes().cast(pl.Int64).sum()
        )

    def write(self, tx: Transaction, *, load: Load, summaries: pl.DataFrame | None, ended: Sequence[Ended]) -> None:
        """Write the parcels of a load, and count it."""
        if load.target is None:
            return
        told = None if summaries is None else _with_origin(summaries, ended)
        values = {
            "counts": _counts(told, ended),
            "rules": [] if told is None else _rules(told),
            "parcels": [] if told is None else _parcels(told),
        }
        if any(values.values()):
            named = {"workspace": load.workspace, "stream_id": load.target}
            tx.execute(
                _WRITE,
                {
                    **{name: _encode([{**named, **row} for row in rows]).decode() for name, rows in values.items()},
                    "load_id": load.id,
                    "channel": CONSIGNED,
                },
            )


def hour_of(instant: datetime) -> datetime:
    """Find the hour to which an event is counted: that of its acceptance."""
    return instant.replace(minute=0, second=0, microsecond=0)


def _with_origin(summaries: pl.DataFrame, ended: Sequence[Ended]) -> pl.DataFrame:
    """Add the number of the job and the hour of acceptance."""
    origins = pl.DataFrame(
        {
            "submission": [each.submission for each in ended],
            "seq": [each.accepted_seq for each in ended],
            "hour": [hour_of(each.accepted_at).isoformat() for each in ended],
        },
        schema={"submission": pl.UInt32, "seq": pl.Int64, "hour": pl.String},
    )
    return summaries.with_columns(pl.col("submission").cast(pl.UInt32)).join(origins, on="submission")


def _counts(told: pl.DataFrame | None, ended: Sequence[Ended]) -> _Rows:
    """Count what came in by the jobs, and what became of it by the events, so that the two can be compared."""
    found: dict[str, dict[str, object]] = {}
    for each in ended:
        row = found.setdefault(hour_of(each.accepted_at).isoformat(), _empty())
        row["received"] = cast("int", row["received"]) + each.received
        row["rejected"] = cast("int", row["rejected"]) + each.rejected
    if told is not None:
        decided = told.group_by("hour").agg(
            *(
                pl.col("events").filter(pl.col("decision") == name).sum().alias(name)
                for name in (DROPPED, SAMPLED_OUT, ROUTED)
            ),
            faults=pl.col("events").filter(pl.col("faults").is_not_null()).sum(),
        )
        for row in decided.to_dicts():
            found[row["hour"]] |= row
    return [{**row, "hour": hour} for hour, row in found.items() if any(row.values())]


def _empty() -> dict[str, object]:
    return dict.fromkeys(("received", "rejected", DROPPED, SAMPLED_OUT, ROUTED, "faults"), 0)


def _rules(told: pl.DataFrame) -> _Rows:
    """Count by rule: events that met it, those of them that went somewhere, those of which it could not be judged."""
    nothing = pl.lit(0, pl.Int64)
    went = pl.when(pl.col("decision") == ROUTED).then("events").otherwise(nothing)
    met = _by_name(told, "rules").select("hour", "rule", matched="events", kept=went, faults=nothing)
    unjudged = _by_name(told, "faults").select("hour", "rule", matched=nothing, kept=nothing, faults="events")
    return pl.concat([met, unjudged]).group_by("hour", "rule").sum().sort("hour", "rule").to_dicts()


def _by_name(told: pl.DataFrame, column: str) -> pl.DataFrame:
    """Give each name of a list with commas a row of its own."""
    return told.with_columns(rule=pl.col(column).str.split(",")).explode("rule").filter(pl.col("rule") != "")


def _parcels(told: pl.DataFrame) -> _Rows:
    """Part what was routed by version, destination and hour."""
    routed = told.filter((pl.col("decision") == ROUTED) & pl.col("destinations").is_not_null())
    named = pl.DataFrame(_named(routed["destinations"].unique()), schema=_NAMED, orient="row")
    parts = routed.join(named, on="destinations").group_by("destination", "stream_version", "hour")
    return (
        parts.agg(pl.col("seq").unique().sort().alias("seqs"), pl.col("events").sum(), pl.col("bytes").sum())
        .sort("destination", "stream_version", "hour")
        .to_dicts()
    )


_NAMED: Mapping[str, type[pl.DataType]] = {"destinations": pl.String, "destination": pl.String}


def _named(texts: Iterable[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        for name in _decode_destinations(text):
            yield text, name
