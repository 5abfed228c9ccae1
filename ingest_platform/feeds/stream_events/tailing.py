"""What a stream's pipeline has just let through: events behind the masks, found by their jobs as these end.

Identities become visible out of order, so a job is only behind a tail once nothing before it is open, or was a moment
ago. How they are sent is not known here (`tail.py`).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

import msgspec
import polars as pl

from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.stream_events.contract import NAME
from ingest_platform.feeds.stream_events.language import Expression, columns_of
from ingest_platform.feeds.stream_events.load import TABLE
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import quoted, rows_of

# Of one look; of a stream of a thousand small requests a second, it sees them all.
JOBS_MAX = 2_000
# Nobody reads more in a second. What is left out is counted.
EVENTS_MAX = 200
# So many are held against a filter, the latest; one with a costly expression must not keep a processor for long.
LOOKED_AT_MAX, LOOKED_AT_BYTES_MAX = 2_000, 64 * 1024
# For so long a number that was passed may still turn up.
LATE_SECONDS = 10.0

_SEQ, _INDEX = quoted(TABLE.prefix + "accepted_seq"), quoted(TABLE.prefix + "record_index")
_JOBS: LiteralString = """
    SELECT seq, state FROM jobs
    WHERE feed = %(feed)s AND day >= (now() AT TIME ZONE 'UTC')::date - 1 AND seq > %(low)s
        AND workspace = %(workspace)s AND target = %(stream_id)s
    ORDER BY seq LIMIT %(limit)s
"""
_EVENTS = f"""
    SELECT event_id, accepted_at, stream_version, decision, rules, destinations, document
    FROM {rows_of(TABLE.name)}
    WHERE {_SEQ} BETWEEN ? AND ? AND list_contains(?::BIGINT[], {_SEQ})
        AND {quoted(TABLE.prefix + "workspace")} = ? AND stream_id = ? AND (document IS NOT NULL OR NOT ?)
    QUALIFY row_number() OVER (ORDER BY {_SEQ} DESC, {_INDEX} DESC) <= {LOOKED_AT_MAX}
    ORDER BY {_SEQ}, {_INDEX}
"""  # noqa: S608 - names of ours.

Shown = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one look has found: events, the latest if there are many, and how many others were left out."""

    events: Sequence[Shown]
    left_out: int


@dataclass(slots=True, kw_only=True)
class Tail:
    """The place of one reader in a stream. Not for two threads at once."""

    platform: Platform
    workspace: str
    stream_id: str
    wanted: Expression | None
    clock: Callable[[], float] = time.monotonic
    _low: int | None = None
    # By number, when it was first seen ended.
    _ended: dict[int, float] = field(default_factory=dict[int, float])

    def look(self) -> Seen:
        """Read what has come since the last look; the first one only finds the end."""
        with self.platform.ledger.connection() as tx:
            if self._low is None:
                self._low = _last(tx)
                return Seen(events=(), left_out=0)
            jobs = self._jobs(tx, self._low)
        now = self.clock()
        fresh = [seq for seq, state in jobs if state == "finished" and seq not in self._ended]
        open_ = [seq for seq, state in jobs if state in {"accepted", "processing"}]
        self._ended |= dict.fromkeys(fresh, now)
        self._move_on(open_, now)
        return self._events(fresh) if fresh else Seen(events=(), left_out=0)

    def _jobs(self, tx: Transaction, low: int) -> list[tuple[int, str]]:
        values = {"feed": NAME, "low": low, "workspace": self.workspace, "stream_id": self.stream_id}
        return tx.execute(_JOBS, {**values, "limit": JOBS_MAX}).fetchall()

    def _move_on(self, open_: Sequence[int], now: float) -> None:
        old = [seq for seq, at in self._ended.items() if now - at >= LATE_SECONDS]
        bound = min(open_, default=None)
        passed = [seq for seq in old if bound is None or seq < bound]
        if passed:
            self._low = max(passed)
            self._ended = {seq: at for seq, at in self._ended.items() if seq > self._low}

    def _events(self, seqs: Sequence[int]) -> Seen:
        self.platform.warehouse.ensure([TABLE])
        values = [min(seqs), max(seqs), list(seqs), self.workspace, self.stream_id, self.wanted is not None]
        rows: list[Mapping[str, Any]] = self.platform.warehouse.query(_EVENTS, values).to_pylist()
        documents: list[Any] = [_decoded(row["document"]) for row in rows]
        found = list(zip(rows, documents, strict=True))
        if self.wanted is not None:
            # A larger one meets no filter.
            found = [pair for pair in found if len(pair[0]["document"]) <= LOOKED_AT_BYTES_MAX]
            met = _met(self.wanted, [document for _, document in found])
            found = [pair for pair, good in zip(found, met, strict=True) if good]
        latest = found[-EVENTS_MAX:]
        return Seen(events=[_shown(row, document) for row, document in latest], left_out=len(found) - len(latest))


def _last(tx: Transaction) -> int:
    row = tx.execute("SELECT coalesce(max(seq), 0) FROM jobs").fetchone()
    assert row is not None
    return int(row[0])


def _decoded(text: str | None) -> object:
    return None if text is None else msgspec.json.decode(text)


def _met(wanted: Expression, documents: Sequence[dict[str, object]]) -> Sequence[bool]:
    if not documents:
        return ()
    value = wanted.evaluate(columns_of(documents, wanted.paths))["value"]
    return value.cast(pl.Boolean).fill_null(value=False).to_list()


def _shown(row: Mapping[str, Any], document: object) -> Shown:
    return {
        "event_id": row["event_id"],
        "accepted_at": format_instant(row["accepted_at"]),
        "stream_version": row["stream_version"],
        "decision": row["decision"],
        "rules": row["rules"].split(",") if row["rules"] else [],
        "destinations": list(msgspec.json.decode(row["destinations"])) if row["destinations"] else [],
        "event": document,
    }
