"""Where the records of a dataset lie in the warehouse: a table of its own, a row for every accepted record."""

from collections.abc import Mapping

from ingest_platform.domain.contract import Kind
from ingest_platform.domain.feed import AppendTable, Column
from ingest_platform.feeds.datasets.schema import TYPES

RECORD_PREFIX = "rec_"
LAKE_TYPES: Mapping[Kind, str] = {
    Kind.STRING: "VARCHAR",
    Kind.NUMBER: "DOUBLE",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.TIMESTAMP: "TIMESTAMPTZ",
}
_PROJECT = "project"


def table_of(*, dataset_id: int, project: str, fields: Mapping[str, str]) -> AppendTable:
    """Declare the table of a dataset. A field that is called `project`, in whatever case, makes ours `__project`."""
    taken = _PROJECT in {name.lower() for name in fields}
    return AppendTable(
        name=f"dataset_{dataset_id}",
        columns=(
            Column(name="timestamp", type="TIMESTAMPTZ"),
            Column(name="context", type="VARCHAR"),
            *(Column(name=name, type=LAKE_TYPES[TYPES[kind]]) for name, kind in fields.items()),
        ),
        day_column="timestamp",
        id_column="id",
        id_prefix=RECORD_PREFIX,
        accepted_column="ingested_at",
        request_column="__traceId",
        constants=(
            (Column(name=f"__{_PROJECT}" if taken else _PROJECT, type="VARCHAR"), project),
            (Column(name="dataset_id", type="BIGINT"), dataset_id),
        ),
    )
