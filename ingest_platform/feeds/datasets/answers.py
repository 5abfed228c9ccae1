"""An answer to a query, written as whoever asked wants it: JSON, CSV or Arrow. How it was found is not known here."""

import csv
import io
import math
from datetime import datetime

import msgspec
import pyarrow as pa

from ingest_platform.api.rejected import CSV, formula_safe
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.datasets.query import Query

ARROW = "application/vnd.apache.arrow.stream"
# The first one is for whoever does not say, or wants what there is not.
OFFERED = (JSON, CSV, ARROW)
_Q = "q="
_encode = msgspec.json.encode


def wanted(accept: str) -> str:
    """Choose the media type of an answer by the header `Accept`: the one wanted most, and JSON if none is.

    >>> wanted("text/csv"), wanted("application/vnd.apache.arrow.stream;q=0.9, */*;q=0.1"), wanted("image/png")
    ('text/csv; charset=utf-8', 'application/vnd.apache.arrow.stream', 'application/json')
    """
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        media, *parameters = (each.strip() for each in part.split(";"))
        ranges[media] = _quality(next((each for each in parameters if each.startswith(_Q)), "q=1"))
    return max(OFFERED, key=lambda offer: _wanting(offer.partition(";")[0], ranges))


def _quality(text: str) -> float:
    try:
        quality = float(text.removeprefix(_Q))
    except ValueError:
        return 0.0
    return quality if math.isfinite(quality) else 0.0


def _wanting(media: str, ranges: dict[str, float]) -> float:
    """Tell how much a type is wanted: by its own name, else by its kind, else by what is said of all."""
    kind = media.partition("/")[0]
    return next((ranges[each] for each in (media, f"{kind}/*", "*/*") if each in ranges), 0.0)


def answer(query: Query, rows: pa.Table, *, media: str) -> Reply:
    """Write an answer."""
    if media == ARROW:
        return Reply(status=200, body=_arrow(_finite(rows)), content_type=ARROW)
    if media == CSV:
        return Reply(status=200, body=_csv(rows), content_type=CSV)
    return json_reply(
        200,
        {
            "data": [{name: _shown(value) for name, value in row.items()} for row in rows.to_pylist()],
            "columns": [{"name": name, "type": kind.value} for name, kind in query.columns.items()],
            "range": {"from": format_instant(query.since), "to": format_instant(query.until)},
        },
    )


def _shown(value: object) -> object:
    if isinstance(value, datetime):
        return format_instant(value)
    # The sum of finite numbers may be beyond all numbers; JSON has no word for that.
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(rows: pa.Table) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(rows.column_names)
    writer.writerows([_cell(value) for value in row.values()] for row in rows.to_pylist())
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> str:
    shown = _shown(value)
    if isinstance(shown, str):
        return formula_safe(shown)
    # A number may begin with a sign and is no formula.
    return "" if shown is None else _encode(shown).decode()


def _finite(rows: pa.Table) -> pa.Table:
    """Have null where a number is beyond all numbers, as in the other forms."""
    columns = [
        pa.chunked_array([[_shown(value) for value in column.to_pylist()]], type=column.type)
        if pa.types.is_floating(column.type)
        else column
        for column in rows.columns
    ]
    return pa.Table.from_arrays(columns, names=rows.column_names)


def _arrow(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()
