"""Streams over HTTP: which there are, what was declared, the accounts, and how their destinations do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from ingest_platform.api.call import Call
from ingest_platform.api.jobs import READ
from ingest_platform.api.lists import list_reply, list_schema
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute, Parameter, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Malformed, NotFound
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.stream_events.accounts import Accounts, Span, read_accounts
from ingest_platform.feeds.stream_events.delivering import health
from ingest_platform.feeds.stream_events.delivering.health import Health
from ingest_platform.feeds.stream_events.ingest_declared import TAG
from ingest_platform.feeds.stream_events.shapes import STREAMS, envelope_of
from ingest_platform.feeds.stream_events.tail import STREAM_ID, require_stream
from ingest_platform.storage import catalog
from ingest_platform.storage.catalog import Entry
from ingest_platform.storage.ledger import Transaction

# Of hours: a month of them.
HOURS_MAX = 31 * 24

Shown = dict[str, object]


class StreamRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_streams(self, call: Call) -> Reply:
        """List the streams that stand."""
        workspace = call.who.workspace

        def read(tx: Transaction) -> Reply:
            found = catalog.current(tx, workspace=workspace, kind=STREAMS)
            return list_reply([summary(each) for each in found], next_cursor=None, total=len(found))

        return await self._services.read(read)

    async def get_stream(self, call: Call) -> Reply:
        """Show a stream as it was declared."""
        workspace, stream_id = call.who.workspace, call.require("stream_id", str)

        def read(tx: Transaction) -> Reply:
            entry = require_stream(tx, workspace, stream_id)
            return json_reply(200, {**summary(entry), "declared": without_rows(entry.body)})

        return await self._services.read(read)

    async def get_stats(self, call: Call) -> Reply:
        """Show the accounts of a stream."""
        workspace, stream_id = call.who.workspace, call.require("stream_id", str)
        since, until = call.get("from", datetime), call.get("to", datetime)
        if since is not None and until is not None and since >= until:
            raise Malformed("from must be before to.")
        span = Span(workspace=workspace, stream_id=stream_id, since=since, until=until)

        def read(tx: Transaction) -> Reply:
            require_stream(tx, workspace, stream_id)
            return json_reply(200, stats(tx, span))

        return await self._services.read(read)


def summary(entry: Entry) -> Shown:
    """Sum up a stream as it stands."""
    routes = cast("Mapping[str, Any]", entry.body.get("routes", {}))
    otherwise = routes.get("otherwise", "drop")
    rules = [{"name": rule["name"], "to": rule["to"]} for rule in routes.get("rules", ())]
    return {
        "id": entry.id,
        "name": entry.body.get("name"),
        "version": entry.version,
        "envelope": envelope_of(entry.body).value,
        "masks": bool(entry.body.get("mask")),
        "rules": rules,
        "otherwise": [] if otherwise == "drop" else otherwise,
    }


def without_rows(body: Mapping[str, Any]) -> Mapping[str, object]:
    """Leave out the rows of lookup tables, of which there may be a hundred thousand; their number stays."""
    steps = [_without_rows(step) for step in body.get("enrich", ())]
    return {**body, "enrich": steps} if steps else body


def _without_rows(step: Mapping[str, Any]) -> Mapping[str, object]:
    table = step.get("lookup", {}).get("table")
    if not isinstance(table, dict):
        return step
    shown = {**cast("Mapping[str, Any]", table), "rows": len(cast("Mapping[str, Any]", table)["rows"])}
    return {**step, "lookup": {**step["lookup"], "table": shown}}


def stats(tx: Transaction, span: Span) -> Shown:
    """Tell what came in of a stream and what became of it: in sum and by hour, by rule and by destination."""
    whole, hours = read_accounts(tx, span), read_accounts(tx, span, by_hour=True)
    states = {each.destination: each for each in health.read(tx, workspace=span.workspace)}
    return {
        "stream_id": span.stream_id,
        "from": _instant(span.since),
        "to": _instant(span.until),
        "balanced": whole.balanced,
        "total": _stream(whole, 0) if whole.streams else dict.fromkeys(_COUNTS, 0),
        "rules": [_picked(asdict(each), ("rule", "matched", "kept", "faults")) for each in whole.rules],
        "destinations": [
            {
                **_picked(asdict(each), ("destination", *_DELIVERED, "oldest_waiting_seconds")),
                **_state(states.get(each.destination)),
            }
            for each in whole.destinations
        ],
        "hours": [
            {"hour": _instant(each.hour), **_stream(hours, place)}
            for place, each in list(enumerate(hours.streams))[-HOURS_MAX:]
        ],
    }


_COUNTS = ("received", "rejected", "dropped", "sampled_out", "routed", "faults")
_DELIVERED = ("consigned", "delivered", "waiting", "dead")


def _stream(accounts: Accounts, place: int) -> Shown:
    return _picked(asdict(accounts.streams[place]), _COUNTS)


def _picked(row: Mapping[str, object], names: Sequence[str]) -> Shown:
    return {name: row[name] for name in names}


def _state(state: Health | None) -> Shown:
    return {
        "state": "closed" if state is None else state.state.value,
        "reason": None if state is None else state.reason,
    }


def _instant(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


# What the routes promise


def _object(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}
_NAMES: Schema = {"type": "array", "items": _TEXT}
_SUMMARY: Schema = {
    "id": _TEXT,
    "name": {"type": ["string", "null"]},
    "version": {"type": "integer", "minimum": 1},
    "envelope": {"enum": ["strict", "auto"]},
    "masks": {"type": "boolean", "description": "Whether values are masked; then no bytes are kept as they came."},
    "rules": {"type": "array", "items": _object({"name": _TEXT, "to": _NAMES})},
    "otherwise": {**_NAMES, "description": "Where events go that meet no rule; empty if they are dropped."},
}
_STATS: Schema = _object(
    {
        "stream_id": _TEXT,
        "from": _INSTANT,
        "to": _INSTANT,
        "balanced": {
            "type": "boolean",
            "description": "Whether received = rejected + dropped + sampled_out + routed, and of each destination "
            "consigned = delivered + waiting + dead.",
        },
        "total": _object(dict.fromkeys(_COUNTS, _COUNT)),
        "rules": {
            "type": "array",
            "items": _object({"rule": _TEXT, "matched": _COUNT, "kept": _COUNT, "faults": _COUNT}),
        },
        "destinations": {
            "type": "array",
            "items": _object(
                {
                    "destination": _TEXT,
                    **dict.fromkeys(_DELIVERED, _COUNT),
                    "oldest_waiting_seconds": {"type": ["number", "null"]},
                    "state": {
                        "enum": [state.value for state in health.State],
                        "description": "`closed` is well: whether the circuit breaker lets events through.",
                    },
                    "reason": {"type": ["string", "null"], "description": "Why it did not take the last delivery."},
                }
            ),
        },
        "hours": {"type": "array", "items": _object({"hour": _INSTANT, **dict.fromkeys(_COUNTS, _COUNT)})},
    }
)
_SPAN = tuple(
    Parameter(
        name=name,
        schema={"type": "string", "format": "date-time"},
        description=f"Only hours {word} this instant. An hour is that in which events were accepted.",
    )
    for name, word in (("from", "that begin at or after"), ("to", "that begin before"))
)


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = StreamRoutes(services)
    return [*_stream_routes(handlers), _stats_route(handlers)]


def _stream_routes(handlers: StreamRoutes) -> Sequence[ApiRoute]:
    return [
        ApiRoute(
            method="GET",
            path="/v1/streams",
            handler=handlers.list_streams,
            operation_id="list_streams",
            tag=TAG,
            summary="List streams",
            access=READ,
            answers={200: json_answer("All streams of the workspace.", list_schema(_object(_SUMMARY)))},
        ),
        ApiRoute(
            method="GET",
            path="/v1/streams/{stream_id}",
            handler=handlers.get_stream,
            operation_id="get_stream",
            tag=TAG,
            summary="Show a stream as it was declared",
            access=READ,
            parameters=(STREAM_ID,),
            answers={
                200: json_answer(
                    "The stream.",
                    _object(
                        {
                            **_SUMMARY,
                            "declared": {
                                "type": "object",
                                "description": "What was applied; of lookup tables, how many rows they have.",
                            },
                        }
                    ),
                )
            },
            refusals=(NotFound,),
        ),
    ]


def _stats_route(handlers: StreamRoutes) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path="/v1/streams/{stream_id}/stats",
        handler=handlers.get_stats,
        operation_id="get_stream_stats",
        tag=TAG,
        summary="Show what came in of a stream, and what became of it",
        access=READ,
        parameters=(STREAM_ID, *_SPAN),
        answers={200: json_answer("The accounts.", _STATS)},
        refusals=(NotFound, Malformed),
    )
