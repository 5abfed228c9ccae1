"""What a load of issues costs beside few and many stored ones: the whole of `load_records`, half updates, half new.

The stored issues are made in SQL and lie as upkeep leaves them: each million in files of its own, sorted by the hash.
Their records are not made; a load whose records come in order reads none.
"""

import random
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.installation import scratch_dir
from benchmarks.results import Row, keep, median, show
from ingest_platform.feeds.issues.deriving import derive
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.references import refer
from ingest_platform.pipeline.load import StagedJob, load_records
from ingest_platform.pipeline.references import KNOWN_SCHEMA, ORIGINS_SCHEMA
from ingest_platform.storage import embedded, workspaces
from ingest_platform.storage.ledger import Ledger, migrate
from ingest_platform.storage.warehouse import Warehouse, columns_of, quoted, rows_of

SIZES = (100_000, 1_000_000, 10_000_000)
BATCHES = (1, 100, 10_000)
WORKSPACES = 10
SOURCES = ("jira", "github", "zendesk", "pagerduty", "our crm")
FILLED_ROWS = 1_000_000
MEMORY_BYTES_MAX = 1 << 30
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

# `{begin}` and `{end}` number the issues. About 450 bytes of text each, much of it random.
_ISSUES = """
    WITH numbered AS (
        SELECT range AS i, 'ws' || (range % {workspaces}) AS workspace, {sources}[1 + range % {of}] AS source_key,
            'EXT-' || range AS external_id, md5(range::VARCHAR) AS noise, to_timestamp(1767225600 + range / 10) AS seen
        FROM range({begin}, {end})
    ), hashed AS (
        SELECT *, sha256(workspace || chr(0) || source_key || chr(0) || external_id) AS digest FROM numbered
    )
    SELECT 'iss_' || substr(digest, 1, 26) AS issue_id,
        (('0x' || substr(digest, 1, 16))::UBIGINT::HUGEINT
            - CASE WHEN digest >= '8' THEN 18446744073709551616::HUGEINT ELSE 0 END)::BIGINT AS key_hash,
        source_key AS source, source_key AS source_raw, source_key, external_id,
        'Checkout of order ' || i || ' times out on host ' || substr(noise, 1, 8) AS title,
        'POST /checkout/' || noise || ' answered 504 after ' || (i % 60) || ' s; trace ' || md5(noise)
            || ' in region eu-' || (i % 9) || ', attempt ' || (i % 7) || ' of 7. The customer ' || substr(noise, 9, 12)
            || ' was told to try again later.' AS body,
        'p' || (1 + i % 4) AS severity, ['payments', 'search', 'core', NULL][1 + i % 4] AS team,
        'https://tracker.example.com/browse/' || external_id AS external_url, seen AS source_created_at,
        seen AS source_updated_at, NULL AS connector_id,
        '{{"labels":["checkout","' || substr(noise, 20, 6) || '"],"attempts":' || (i % 40) || '}}' AS metadata,
        1 AS occurrences, seen AS first_seen_at, seen AS last_seen_at, seen AS created_at, seen AS updated_at,
        hash(i) AS said,
        substr(md5('f' || (i % 5000)), 1, 16) AS fingerprint, workspace,
        'ing_job_' || substr(md5((i // 500)::VARCHAR), 1, 26) AS job_id, i % 500 AS record_index,
        i // 500 + 1 AS accepted_seq, i % 500 AS accepted_index, seen AS accepted_at
    FROM hashed
"""


@dataclass(slots=True, kw_only=True)
class Lake:
    """A warehouse with so many issues, and the loads that were done to it."""

    warehouse: Warehouse
    ledger: Ledger
    stored: int
    seq: int = 1_000_000_000
    dice: random.Random = field(default_factory=lambda: random.Random(7))

    def fill(self) -> None:
        """Store the issues."""
        self.warehouse.ensure([TABLE])
        with self.ledger.transaction() as tx:
            for number in range(WORKSPACES):
                workspaces.put(tx, workspaces.Workspace(name=f"ws{number}"))
        columns = ", ".join(quoted(each.name) for each in columns_of(TABLE))
        for begin in range(0, self.stored, FILLED_ROWS):
            made = _ISSUES.format(
                begin=begin,
                end=min(begin + FILLED_ROWS, self.stored),
                workspaces=WORKSPACES,
                sources=list(SOURCES),
                of=len(SOURCES),
            )
            with closing(self.warehouse.session()) as session:
                session.execute(f"INSERT INTO {rows_of(TABLE.name)} ({columns}) SELECT {columns} FROM ({made})")

    def load(self, count: int, *, omit_body: bool) -> tuple[float, float]:
        """Load so many issues, half of them stored ones; seconds, and seconds of this process's CPU."""
        self.seq += WORKSPACES
        known = self.dice.sample(range(self.stored), k=count // 2)
        new = [self.seq * 1_000_000 + number for number in range(count - len(known))]
        frame = _frame(self.dice.sample(known + new, k=count), omit_body=omit_body)
        jobs = [_job(submission, seq=self.seq + submission) for submission in range(WORKSPACES)]
        begun, cpu_begun = time.perf_counter(), time.process_time()
        load_records(
            self.warehouse,
            table=TABLE,
            load_id=f"load_{self.seq}",
            fence=self.seq,
            staged=jobs,
            frames=[frame],
            derive=lambda rows: derive(rows, ledger=self.ledger),
        )
        return time.perf_counter() - begun, time.process_time() - cpu_begun


def _job(submission: int, *, seq: int) -> StagedJob:
    return StagedJob(
        submission=submission,
        job_id=f"ing_job_{seq}",
        workspace=f"ws{submission}",
        accepted_seq=seq,
        accepted_at=datetime.now(UTC),
    )


def _frame(issues: Sequence[int], *, omit_body: bool) -> pl.DataFrame:
    """Make records that give all that a source usually knows, and omit team and connector."""
    at = EPOCH + timedelta(days=500)
    number = pl.DataFrame({"i": list(issues)}, schema={"i": pl.Int64}).with_row_index("record_index")
    text = pl.col("i").cast(pl.String)
    body = pl.lit("POST /checkout/") + text + pl.lit(" answered 502 after 31 s in region eu-1, attempt 3 of 7. " * 3)
    sent = number.select(
        (pl.col("i") % WORKSPACES).cast(pl.UInt32).alias("submission"),
        pl.col("record_index").cast(pl.Int64),
        (pl.lit("EXT-") + text).alias("external_id"),
        pl.col("i").map_elements(lambda i: SOURCES[i % len(SOURCES)], return_dtype=pl.String).alias("source"),
        (pl.lit("Checkout of order ") + text + pl.lit(" answers 502")).alias("title"),
        (pl.lit(None, dtype=pl.String) if omit_body else body).alias("body"),
        pl.lit("p2").alias("severity"),
        pl.lit(None, dtype=pl.String).alias("team"),
        (pl.lit("https://tracker.example.com/browse/EXT-") + text).alias("external_url"),
        *(pl.lit(at, dtype=pl.Datetime("us", "UTC")).alias(f"source_{each}_at") for each in ("created", "updated")),
        pl.lit(None, dtype=pl.String).alias("connector_id"),
        pl.lit('{"attempts":3}').alias("metadata"),
    )
    origins = {
        "submission": list(range(WORKSPACES)),
        "workspace": [f"ws{each}" for each in range(WORKSPACES)],
        "catalog_revision": [0] * WORKSPACES,
        "sites": [None] * WORKSPACES,
    }
    known = pl.DataFrame(schema=KNOWN_SCHEMA)
    return refer(sent, origins=pl.DataFrame(origins, schema_overrides=ORIGINS_SCHEMA), known=known)[0]


def run(*, sizes: Sequence[int], rounds: int, say: Callable[[str], None] = print) -> None:
    """Fill a lake of each size, then load each batch so many times; the first of each warms up and is not shown."""
    rows: list[Row] = []
    for stored in sizes:
        with scratch_dir() as folder:
            server = embedded.start(folder / "data")
            try:
                rows += _measure(server.url, folder / "lake", stored=stored, rounds=rounds, say=say)
            finally:
                server.stop()
    show("A load of issues, half updates, half new", rows)
    keep("issues-load", {"rows": rows})


def _measure(url: str, folder: Path, *, stored: int, rounds: int, say: Callable[[str], None]) -> list[Row]:
    migrate(url)
    rows: list[Row] = []
    with (
        Ledger(url, application="bench") as ledger,
        Warehouse(
            url, lake_path=str(folder), memory_bytes_max=MEMORY_BYTES_MAX, spill_path=str(folder) + "-spill"
        ) as warehouse,
    ):
        lake = Lake(warehouse=warehouse, ledger=ledger, stored=stored)
        begun = time.perf_counter()
        lake.fill()
        say(f"{stored:,} issues stored in {time.perf_counter() - begun:.0f} s")
        for batch in BATCHES:
            for omit_body in (False, True):
                taken = [lake.load(batch, omit_body=omit_body) for _ in range(rounds + 1)][1:]
                seconds, cpu = [each[0] for each in taken], [each[1] for each in taken]
                rows.append(
                    {
                        "stored": stored,
                        "records": batch,
                        "updates omit": "team, connector, body" if omit_body else "team, connector",
                        "ms least": min(seconds) * 1000,
                        "ms median": median(seconds) * 1000,
                        "CPU ms least": min(cpu) * 1000,
                    }
                )
    return rows
