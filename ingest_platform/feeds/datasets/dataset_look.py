"""What Dagster shows of datasets: those that a run touched, their schemas, some of their records; and one check.

It is a look at what lies in the lake; how records come to lie there is the kernel's business.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg.rows import class_row

from ingest_platform.domain.feed import AppendTable, FeedAspect, Look
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.contract import NAME
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.feeds.datasets.shapes import shape_of
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.warehouse import columns_of, quoted, rows_of, stored_name

SCHEMA_CONFORMITY = "schema_conformity"
# A look takes some hundredths of a second for each; more are not read on one page.
DATASETS_MAX = 20
PREVIEW_DATASETS_MAX, PREVIEW_ROWS = 5, 3
PREVIEW_CHARACTERS_MAX = 500
# As DuckDB calls the types of its tables.
_CALLED = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}

Rows = list[dict[str, str | int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Touched:
    """A dataset that jobs touched: how many records they brought, and the first and last place of them."""

    workspace: str
    target: str
    accepted: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A dataset and its table; `touched` is None where everything is looked at."""

    dataset: Dataset
    table: AppendTable
    touched: _Touched | None

    @property
    def condition(self) -> str:
        """Bound the rows that are looked at, by places, so that older files are not opened."""
        if self.touched is None:
            return "true"
        return f"{quoted(self.table.prefix + 'accepted_seq')} BETWEEN {self.touched.first} AND {self.touched.last}"


def look(platform: Platform, job_ids: Sequence[str] | None) -> Look:
    """Look at the datasets that some jobs touched, or at all of them; no more than are read."""
    seen = _seen(platform, job_ids)
    platform.warehouse.ensure([each.table for each in seen])
    unlike = [each for each in seen if not _conforms(platform, each)]
    return Look(
        figures={
            "datasets": [_row(platform, each) for each in seen],
            "schemas": [
                {"dataset": each.dataset.id, "field": name, "type": kind}
                for each in seen
                for name, kind in (each.dataset.fields or {}).items()
            ],
            "preview": [row for each in seen[:PREVIEW_DATASETS_MAX] for row in _preview(platform, each)],
            "datasets looked at": len(seen),
            "datasets unlike their schema": len(unlike),
        },
        passed={SCHEMA_CONFORMITY: not unlike},
    )


def _seen(platform: Platform, job_ids: Sequence[str] | None) -> list[_Seen]:
    found: list[_Seen] = []
    with platform.ledger.connection() as tx, tx.cursor(row_factory=class_row(_Touched)) as cursor:
        touched = cursor.execute(
            """
            SELECT workspace, target, coalesce(sum(accepted), 0)::bigint AS accepted,
                min(seq) AS first, max(seq) AS last
            FROM jobs WHERE feed = %(feed)s AND target IS NOT NULL AND (%(all)s OR id = ANY(%(ids)s))
            GROUP BY workspace, target ORDER BY max(seq) DESC LIMIT %(most)s
            """,
            {"feed": NAME, "all": job_ids is None, "ids": list(job_ids or ()), "most": DATASETS_MAX},
        ).fetchall()
        for each in touched:
            dataset_id = registry.read_id(each.target)
            # A dataset that is gone by now is as if it had never been.
            if dataset_id is None:
                continue
            dataset = registry.find_anywhere(tx, workspace=each.workspace, dataset_id=dataset_id)
            shape = None if dataset is None else shape_of(dataset)
            if dataset is not None and shape is not None and isinstance(shape.table, AppendTable):
                bounds = None if job_ids is None else each
                found.append(_Seen(dataset=dataset, table=shape.table, touched=bounds))
    return found


def _row(platform: Platform, seen: _Seen) -> dict[str, str | int]:
    rows = platform.warehouse.query(f"SELECT count(*) FROM {rows_of(seen.table.name)}").column(0)[0].as_py()  # noqa: S608 - the name is ours
    return {
        "dataset": seen.dataset.id,
        "name": seen.dataset.name,
        "accepted in this run": rows if seen.touched is None else seen.touched.accepted,
        "rows": rows,
        "workspace": seen.dataset.workspace,
        "project": seen.dataset.project,
        "table": f"lake.{seen.table.name}",
    }


def _preview(platform: Platform, seen: _Seen) -> Rows:
    """Show some records as JSON, the latest ones first."""
    names = ["timestamp", *(seen.dataset.fields or {})]
    columns = ", ".join(quoted(stored_name(name, prefix=seen.table.prefix)) for name in names)
    place = f"{quoted(seen.table.prefix + 'accepted_seq')} DESC, {quoted(seen.table.prefix + 'record_index')} DESC"
    found = platform.warehouse.query(
        f"SELECT {columns} FROM {rows_of(seen.table.name)} WHERE {seen.condition}"  # noqa: S608 - names are quoted
        f" ORDER BY {place} LIMIT {PREVIEW_ROWS}"
    )
    rows = zip(*(column.to_pylist() for column in found.columns), strict=True)
    texts = (json.dumps(dict(zip(names, row, strict=True)), default=str, ensure_ascii=False) for row in rows)
    return [{"dataset": seen.dataset.id, "record": text[:PREVIEW_CHARACTERS_MAX]} for text in texts]


def _conforms(platform: Platform, seen: _Seen) -> bool:
    """Tell whether the table has the declared columns of the declared types, all of them filled."""
    expected = [(column.name, _CALLED.get(column.type, column.type)) for column in columns_of(seen.table)]
    listed = platform.warehouse.query(
        "SELECT column_name, data_type FROM duckdb_columns()"
        " WHERE database_name = 'lake' AND schema_name = 'main' AND table_name = ? ORDER BY column_index",
        [seen.table.name],
    )
    if list(zip(*(column.to_pylist() for column in listed.columns), strict=True)) != expected:
        return False
    names = [stored_name(column.name, prefix=seen.table.prefix) for column in seen.table.columns]
    empty = " OR ".join(f"{quoted(name)} IS NULL" for name in names)
    query = f"SELECT count(*) FROM {rows_of(seen.table.name)} WHERE ({empty}) AND {seen.condition}"  # noqa: S608 - as above
    return platform.warehouse.query(query).column(0)[0].as_py() == 0


TOUCHED = FeedAspect(
    name="touched",
    title="The datasets that the run touched: their rows, their schemas, their latest records.",
    checks={SCHEMA_CONFORMITY: "Tables have the columns that were declared, of their types, and no value is missing."},
    look=look,
)
