"""The way of one event, told from what is stored: the version and the rules that took it, the draws, each delivery.

What was masked is not known any more, here or anywhere; of an event that was dropped, only that it was.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from ingest_platform.domain.job import Job
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.stream_events.delivering.deliveries import EventDelivery, Place, of_event
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.feeds.stream_events.processing.sampling import draw_of
from ingest_platform.feeds.stream_events.shapes import STREAMS
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import catalog
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import quoted, rows_of

_FIND = f"""
    SELECT event_id, stream_id, stream_version, decision, rules, destinations, document, faults
    FROM {rows_of(TABLE.name)}
    WHERE {quoted(TABLE.prefix + "accepted_seq")} = ? AND {quoted(TABLE.prefix + "record_index")} = ?
"""  # noqa: S608 - names of ours.

Told = dict[str, object]


def explain(platform: Platform, job: Job, index: int) -> Mapping[str, object] | None:
    """Tell the way of an event (`Feed.explain`); None of one that was rejected: its reasons say all."""
    platform.warehouse.ensure([TABLE])
    rows = platform.warehouse.query(_FIND, [job.seq, index]).to_pylist()
    if not rows:
        return None
    row: Mapping[str, Any] = rows[0]
    weights = cast("Mapping[str, float]", msgspec.json.decode(row["destinations"] or "{}"))
    with platform.ledger.connection() as tx:
        samples = _samples(tx, job.workspace, row["stream_id"], version=row["stream_version"])
        deliveries = of_event(
            tx,
            workspace=job.workspace,
            stream_id=row["stream_id"],
            stream_version=row["stream_version"],
            destinations=list(weights),
            place=Place(job.seq, index),
        )
    return {
        "event_id": row["event_id"],
        "stream_id": row["stream_id"],
        "stream_version": row["stream_version"],
        "decision": row["decision"],
        "rules": [_rule(name, row["event_id"], samples) for name in _names(row["rules"])],
        "faults": _names(row["faults"]),
        "destinations": [_destination(name, weights[name], deliveries) for name in weights],
        "event": None if row["document"] is None else msgspec.json.decode(row["document"]),
    }


def _names(text: str | None) -> Sequence[str]:
    return text.split(",") if text else []


def _samples(tx: Transaction, workspace: str, stream_id: str, *, version: int) -> Mapping[str, float]:
    """Look up the kept fraction of each rule of a version that samples."""
    entry = catalog.at_version(tx, workspace=workspace, kind=STREAMS, id_=stream_id, version=version)
    rules = () if entry is None else entry.body.get("routes", {}).get("rules", ())
    return {rule["name"]: float(rule["sample"]) for rule in rules if "sample" in rule}


def _rule(name: str, event_id: str, samples: Mapping[str, float]) -> Told:
    if name not in samples:
        return {"name": name, "sample": None, "draw": None, "kept": True}
    draw = draw_of(event_id, name)
    return {"name": name, "sample": samples[name], "draw": draw, "kept": draw < samples[name]}


def _destination(name: str, weight: float, deliveries: Sequence[EventDelivery]) -> Told:
    own = [each for each in deliveries if each.destination == name]
    return {
        "destination": name,
        "weight": weight,
        # The latest says where it stands; one before it is of a dead letter that was delivered anew.
        "state": own[-1].state if own else None,
        "deliveries": [_delivery(each) for each in own],
    }


def _delivery(each: EventDelivery) -> Told:
    return {
        "delivery_id": each.id,
        "state": each.state,
        "attempts": each.attempts,
        "reason": each.reason,
        "consigned_at": format_instant(each.consigned_at),
        "first_attempt_at": _instant(each.first_attempt_at),
        "finished_at": _instant(each.finished_at),
        "log": list(each.log),
    }


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)
