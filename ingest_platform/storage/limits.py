"""Token buckets, shared by all API processes. How large a bucket is, is said by whoever takes from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import LiteralString

from ingest_platform.storage.ledger import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Tokens wanted of one bucket that holds `per_minute` of them and is refilled evenly."""

    bucket: str
    per_minute: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """How many were given, how many whole ones are left, and after how many seconds the next one is there."""

    bucket: str
    granted: int
    remaining: int
    retry_after_seconds: float


# In order of name, so that none deadlock; nothing is locked while a bucket is missing. A clock that was set back
# refills nothing, and never takes away.
_TAKE: LiteralString = """
WITH wanted AS (
    SELECT * FROM unnest(%(buckets)s::text[], %(sizes)s::float8[], %(tokens)s::float8[]) AS w (bucket, size, tokens)
), held AS (
    SELECT bucket, tokens, refilled_at FROM rate_buckets
    WHERE bucket = ANY (%(buckets)s)
        AND (SELECT count(*) FROM rate_buckets WHERE bucket = ANY (%(buckets)s)) = cardinality(%(buckets)s)
    ORDER BY bucket FOR UPDATE
), there AS (
    SELECT bucket, wanted.tokens AS wanted, least(
            size, held.tokens + greatest(0, extract(epoch FROM clock_timestamp() - refilled_at))::float8 * size / 60
        ) AS available
    FROM held JOIN wanted USING (bucket)
)
UPDATE rate_buckets AS b
SET tokens = available - least(wanted, floor(available)), refilled_at = clock_timestamp()
FROM there WHERE b.bucket = there.bucket
RETURNING b.bucket, least(wanted, floor(available))::bigint, b.tokens
"""
_MAKE: LiteralString = """
INSERT INTO rate_buckets (bucket, tokens)
SELECT * FROM unnest(%(buckets)s::text[], %(sizes)s::float8[]) AS w (bucket, size) ORDER BY bucket
ON CONFLICT (bucket) DO NOTHING
"""


def take(tx: Transaction, wanted: Sequence[Wanted]) -> list[Taken]:
    """Take tokens from buckets (each named once), as many as there are; a new bucket is full. In order of name."""
    if not wanted:
        return []
    sizes = {each.bucket: each.per_minute for each in sorted(wanted, key=lambda each: each.bucket)}
    tokens = {each.bucket: each.tokens for each in wanted}
    values = {"buckets": list(sizes), "sizes": list(sizes.values()), "tokens": [tokens[name] for name in sizes]}
    # Nearly always they are there, and it is one statement.
    while len(rows := tx.execute(_TAKE, values).fetchall()) < len(sizes):
        tx.execute(_MAKE, values)
    return [_taken(bucket, sizes[bucket], granted, left) for bucket, granted, left in sorted(rows)]


def _taken(bucket: str, per_minute: int, granted: int, left: float) -> Taken:
    missing = max(0.0, 1 - left)
    return Taken(
        bucket=bucket,
        granted=granted,
        remaining=int(left),
        retry_after_seconds=missing * 60 / per_minute if per_minute else 60.0,
    )


def forget_old(tx: Transaction) -> int:
    """Delete buckets that nobody has taken from for a day: they are full, as a new one would be."""
    return tx.execute("DELETE FROM rate_buckets WHERE refilled_at < clock_timestamp() - interval '24 hours'").rowcount
