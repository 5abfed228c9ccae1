"""The events of a delivery, read from the lake by their places. Which events those are was decided long before."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from ingest_platform.domain.errors import WarehouseFault
from ingest_platform.feeds.stream_events.delivering.deliveries import Claimed, Piece, Place
from ingest_platform.feeds.stream_events.destinations.destination import BatchRule, Item
from ingest_platform.feeds.stream_events.load import ROUTED, TABLE
from ingest_platform.storage.warehouse import Warehouse, quoted, rows_of

_SEQ, _INDEX = quoted(f"{TABLE.prefix}accepted_seq"), quoted(f"{TABLE.prefix}record_index")
_WORKSPACE = quoted(f"{TABLE.prefix}workspace")
_decode_weights = msgspec.json.Decoder(dict[str, float]).decode
_encode = msgspec.json.Encoder().encode


class Placed(NamedTuple):
    """An event and its place."""

    place: Place
    item: Item


def read_items(warehouse: Warehouse, claimed: Claimed) -> list[Placed]:
    """Read the events that are still to be sent, in order of acceptance. Raises WarehouseFault if one is not there."""
    columns = f"{quoted(TABLE.id_column)}, timestamp, source, document, destinations"
    found = list(_read(warehouse, claimed, columns))
    _require(claimed, len(found))
    return [
        Placed(
            place,
            Item(
                event_id=event_id,
                timestamp=timestamp,
                source=source,
                document=document.encode(),
                weight=_decode_weights(weights)[claimed.to.destination],
            ),
        )
        for place, (event_id, timestamp, source, document, weights) in found
    ]


def read_pieces(warehouse: Warehouse, claimed: Claimed, rule: BatchRule) -> list[Piece]:
    """Part the events of a delivery into what is sent together. Raises WarehouseFault if an event is not there."""
    sized = [(place, size) for place, (size,) in _read(warehouse, claimed, "strlen(document)")]
    _require(claimed, len(sized))
    return list(cut(sized, rule))


def cut(sized: Sequence[tuple[Place, int]], rule: BatchRule) -> Iterator[Piece]:
    """Part events into pieces of at most so many events and bytes, in their order; a larger event is alone.

    >>> rule = BatchRule(events_max=2, bytes_max=10, linger_seconds=0, at_once=1)
    >>> sized = [(Place(1, index), size) for index, size in enumerate([3, 3, 3, 8, 20, 1])]
    >>> [len(piece.places) for piece in cut(sized, rule)]
    [2, 1, 1, 1, 1]
    """
    places, total = list[Place](), 0
    for place, size in sized:
        if places and (len(places) == rule.events_max or total + size > rule.bytes_max):
            yield Piece(places=places, bytes=total)
            places, total = [], 0
        places.append(place)
        total += size
    if places:
        yield Piece(places=places, bytes=total)


def _require(claimed: Claimed, found: int) -> None:
    # What was consigned was stored before; anything else is a defect of ours, and must not pass for a delivery.
    if found != claimed.remaining:
        raise WarehouseFault(f"{claimed.id}: the lake has {found} of {claimed.remaining} events that were consigned")


_MEANT = (
    f"{_WORKSPACE} = ? AND stream_id = ? AND stream_version = ? AND decision = '{ROUTED}' AND contains(destinations, ?)"
)


def _read(warehouse: Warehouse, claimed: Claimed, columns: str) -> Iterator[tuple[Place, Any]]:
    warehouse.ensure([TABLE])
    bounds, values = _bounds(claimed)
    chosen = claimed.items if claimed.pending is None else claimed.pending
    with closing(warehouse.session()) as session, ExitStack() as seeing:
        joined = ""
        if max(claimed.seqs) - min(claimed.seqs) >= len(claimed.seqs):
            seeing.enter_context(session.seeing("jobs", pa.table({"seq": pa.array(claimed.seqs, pa.int64())})))
            joined += f" SEMI JOIN jobs ON jobs.seq = {_SEQ}"
        if chosen is not None:
            columns_of_places = zip(("s", "i"), zip(*chosen, strict=True), strict=True)
            places = pa.table({name: pa.array(column, pa.int64()) for name, column in columns_of_places})
            seeing.enter_context(session.seeing("chosen", places))
            joined += f" SEMI JOIN chosen ON chosen.s = {_SEQ} AND chosen.i = {_INDEX}"
        found = session.fetch(
            f"SELECT {_SEQ}, {_INDEX}, {columns} FROM {rows_of(TABLE.name)} {joined}"  # noqa: S608 - names and conditions are ours
            f" WHERE {bounds} AND {_MEANT} ORDER BY 1, 2",
            [
                *values,
                *(claimed.to.workspace, claimed.stream_id, claimed.stream_version),
                # Names stand in a JSON object of numbers, so that one with its quotes and colon is nothing else.
                _encode(claimed.to.destination).decode() + ":",
            ],
        )
    for seq, index, *rest in zip(*(column.to_pylist() for column in found.columns), strict=True):
        yield Place(seq, index), tuple(rest)


def _bounds(claimed: Claimed) -> tuple[str, list[int]]:
    """Bound the places, as far as can be by comparisons for which DuckDB skips what it need not read."""
    bounds, values = f"{_SEQ} BETWEEN ? AND ?", [min(claimed.seqs), max(claimed.seqs)]
    first, last = claimed.first, claimed.last
    if first is None or last is None:
        return bounds, values
    if first.seq == last.seq:
        return f"{bounds} AND {_INDEX} BETWEEN ? AND ?", [*values, first.record_index, last.record_index]
    # Not as pairs, which DuckDB can't compare with two bounds.
    bounds += f" AND ({_SEQ} > ? OR {_INDEX} >= ?) AND ({_SEQ} < ? OR {_INDEX} <= ?)"
    return bounds, [*values, first.seq, first.record_index, last.seq, last.record_index]
