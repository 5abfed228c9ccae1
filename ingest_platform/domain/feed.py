"""A feed: what the platform has to know about one kind of data. A fifth feed is one folder with one of these.

Routes are not part of it (`feeds/<name>/routes.py` is found by the HTTP side), so that a worker never loads HTTP and
the HTTP side never loads Dagster.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ingest_platform.domain.contract import Contract

if TYPE_CHECKING:
    import polars as pl


class Refer(Protocol):
    """Resolve what records refer to, for a whole frame at once.

    `frame` has `submission` (u32), `record_index` (i64) and the contract's fields, typed, of records that passed the
    frame check. `origins` has one row per submission: `submission` (u32), `workspace`, `catalog_revision` (i64) and
    `sites` (list of strings, null for all). `known` is the catalog's history of the feed's kinds: `workspace`, `kind`,
    `id`, `version` (i32), `revision` (i64), `retired`, `body` (JSON text).

    Returns the frame with whatever the feed's table needs besides the contract's fields (rows with problems may be left
    in), and the problems: `submission`, `record_index`, `code`, `field`, `message`.
    """

    def __call__(
        self, frame: "pl.DataFrame", *, origins: "pl.DataFrame", known: "pl.DataFrame"
    ) -> "tuple[pl.DataFrame, pl.DataFrame]":
        """Resolve the references of one frame."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a warehouse table: its name and DuckDB type."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedTable:
    """A warehouse table in which a key has at most one row, the one accepted last.

    `columns` come from the staged records. Every such table has besides `job_id`, `record_index`, `workspace`,
    `accepted_seq` and `accepted_at` of the record that it holds. `key` are the columns of its identity (the workspace
    is always one), `range_column` the one among them that bounds a look-up, `compared` the ones whose equality makes a
    later record `unchanged`.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    range_column: str
    compared: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredKind:
    """Something that `ingest apply` declares for a feed.

    `section` is the list's name in the YAML file, `id_field` the entry's field that names it, `fields` its other fields
    with the JSON schema of each; `required` and `defaults` speak of those. `refers` maps a field to the kind whose id
    it must hold.
    """

    section: str
    id_field: str
    id_pattern: str
    fields: Mapping[str, Mapping[str, object]]
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] | None = None
    refers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One kind of data.

    `folder` is its name in paths (`landing/<workspace>/<folder>/`), `job_prefix` begins its job ids, `envelope_key`
    holds the records in a JSON body, `rate_per_minute` is the default rate limit of its routes by workspace.
    `kinds` is what records may refer to, resolved by `refer`. `write_scope` is needed to send.
    """

    name: str
    folder: str
    title: str
    job_prefix: str
    contract: Contract
    envelope_key: str
    rate_per_minute: int
    write_scope: str
    table: KeyedTable
    refer: Refer | None = None
    kinds: tuple[DeclaredKind, ...] = ()
