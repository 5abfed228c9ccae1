"""A feed: what the platform has to know about one kind of data. A fifth feed is one folder with one of these.

Routes are not part of it (`feeds/<name>/routes.py` is found by the HTTP side), so that a worker never loads HTTP and
the HTTP side never loads Dagster.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.outcome import Outcome

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import polars as pl

    from ingest_platform.domain.job import Job
    from ingest_platform.domain.submission import Load
    from ingest_platform.pipeline.platform import Platform
    from ingest_platform.storage.catalog import Declared
    from ingest_platform.storage.ledger import Ledger, Transaction


class Refer(Protocol):
    """Resolve what records refer to, for a whole frame at once.

    `frame` has `submission` (u32), `record_index` (i64) and the contract's fields, typed, of records that passed the
    frame check. `origins` has one row per submission: `submission` (u32), `job_id`, `workspace`, `target` (null for
    none), `catalog_revision` (i64), `sites` (list of strings, null for all) and `secret` (32 bytes of the workspace's,
    null unless the feed has a `secret_name`). `known` is the catalog's history of the feed's kinds: `workspace`,
    `kind`, `id`, `version` (i32), `revision` (i64), `retired`, `body` (JSON text).

    Returns the frame with whatever the feed's table needs besides the contract's fields (rows with problems may be left
    in), and the problems: `submission`, `record_index`, `code`, `field`, `message`.
    """

    def __call__(
        self, frame: "pl.DataFrame", *, origins: "pl.DataFrame", known: "pl.DataFrame"
    ) -> "tuple[pl.DataFrame, pl.DataFrame]":
        """Resolve the references of one frame."""
        ...


class Derive(Protocol):
    """Work out, for a whole frame of merged rows at once, what a folded table's rows have besides what was said.

    `rows` has the table's columns (those of `FoldedTable.columns`, of the fold and the kernel's `workspace`), one row a
    key: those that a load is about to write. Returns it with the `derived` columns added, in any order of rows. It is
    asked inside the warehouse's transaction, before the commit, and for the same rows again after a crash: what it
    writes to `ledger` it must write idempotently, in transactions of its own. A Fault or Unavailable puts the load
    back.
    """

    def __call__(self, rows: "pl.DataFrame", *, ledger: "Ledger") -> "pl.DataFrame":
        """Derive the columns of one load's rows."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a submission of a load ended. The counts are 0 if it could not be read at all."""

    submission: int
    job_id: str
    workspace: str
    target: str | None
    accepted_seq: int
    accepted_at: "datetime"
    received: int
    accepted: int
    rejected: int


class Consign(Protocol):
    """Hand over to the feed what a load stored, in the transaction that settles the load: once in effect.

    `columns` are those of the table (beside `submission` and `record_index`) that `summarise` looks at. It is given
    each frame of accepted records while it passes, and returns a small frame with `submission` in it, always of the
    same schema; they are put one below the other, and those of submissions that are not stored after all are left out.
    """

    @property
    def columns(self) -> Sequence[str]:
        """Name the columns."""
        ...

    def summarise(self, frame: "pl.DataFrame") -> "pl.DataFrame":
        """Sum up one frame."""
        ...

    def write(
        self, tx: "Transaction", *, load: "Load", summaries: "pl.DataFrame | None", ended: Sequence[Ended]
    ) -> None:
        """Write what is to follow from a load; `summaries` is None if nothing of it was stored."""
        ...


class Forgets(Protocol):
    """Tell whether the bytes of a submission may not be kept once it has been worked, by what was declared then.

    `known` is as for `Refer`; `revision` is the catalog's when the submission was accepted.
    """

    def __call__(self, known: "pl.DataFrame", *, workspace: str, target: str | None, revision: int) -> bool:
        """Decide for one target."""
        ...


class Explain(Protocol):
    """Tell what became of one stored record behind the table: None if the feed has nothing to say of it."""

    def __call__(self, platform: "Platform", job: "Job", index: int) -> Mapping[str, object] | None:
        """Explain the record of an index of a finished job."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedService:
    """Work of a feed that goes on as long as a worker lives, in a thread of its own.

    `run` returns when `stop` says so, or raises a Fault when a store is away: then it is called again after a pause.
    `wait` sleeps for at most the seconds that it is given, and returns as soon as something was notified on `channel`
    (of PostgreSQL, by whichever process) or the end has come.
    """

    name: str
    channel: str
    run: "Callable[[Platform, Callable[[], bool], Callable[[float], object]], None]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a warehouse table: its name and DuckDB type, and whether it may be null."""

    name: str
    type: str
    nullable: bool = False


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
class FoldedTable:
    """A warehouse table in which the row of a key is what all of its accepted records say together.

    They are folded in order of acceptance: a field that is given replaces, an omitted (null) one stays. A record whose
    `newer` is older than what the fold has so far is stale and changes nothing. A second table, `records_name`, keeps
    every accepted record, so that a key can be folded again when one arrives that was accepted earlier.

    `columns` come from the staged records. `key` are the columns of a row's identity (the workspace is always one) and
    `identity` among the columns is a BIGINT hash of them and the workspace, by which the table is sorted and looked up;
    the full key is compared too. `given` are the columns that records give or omit, `newer` (one of them) the timestamp
    by which a record is stale; the columns that are neither `given` nor of the key are functions of the key. `defaults`
    are the values of given columns that no record has given, `fallbacks` the columns of the key (or functions of it)
    from which they are taken instead. `derived` come from the feed's `derive`.

    Besides, every row has what the fold counts: `occurrences` (records that were not stale), `first_seen_at` and
    `last_seen_at` (when the first and the last of them were accepted), `created_at` and `updated_at` (the same); and
    the kernel's columns.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    identity: str
    given: tuple[str, ...]
    newer: str
    defaults: Mapping[str, str] = field(default_factory=dict[str, str])
    fallbacks: Mapping[str, str] = field(default_factory=dict[str, str])
    derived: tuple[Column, ...] = ()

    @property
    def records_name(self) -> str:
        """The table of every accepted record."""
        return f"{self.name}_records"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendTable:
    """A warehouse table in which every accepted record is a row, known by its place in the order of acceptance.

    `columns` come from the staged records. The kernel's columns stand beside them under names that begin with `prefix`,
    so that whatever a client declares can't collide with them. `constants` are columns that say the same in every row.
    `id_column` gets an id that begins with `id_prefix` and is a function of the record's place; `accepted_column` the
    time of acceptance and `request_column` the request's id. Files are kept by the day of `day_column`.
    """

    name: str
    columns: tuple[Column, ...]
    day_column: str
    id_column: str
    id_prefix: str
    accepted_column: str
    request_column: str
    constants: tuple[tuple[Column, str | int], ...] = ()
    prefix: str = "__"


Table = KeyedTable | FoldedTable | AppendTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What records are held to, and where they lie."""

    contract: Contract
    table: Table


class Shapes(Protocol):
    """Find the shape of a workspace's target (a dataset, say); None if there is no such target, or no shape yet.

    Once declared, a shape never changes, so that it may be kept for ever; but its target may be gone one day.
    """

    def __call__(self, tx: "Transaction", *, workspace: str, target: str) -> Shape | None:
        """Find the shape of one target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at an aspect has found: figures for people, and by the name of each check whether all is well.

    Figures are numbers, texts, and tables: lists of mappings that all have the same keys.
    """

    figures: Mapping[str, object]
    passed: Mapping[str, bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How something of a feed's own stands, for `ingest status`: rows that all have the same keys, and what is wrong.

    A problem says what to do next.
    """

    title: str
    rows: Sequence[Mapping[str, str | int | float | None]]
    problems: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedAspect:
    """What a feed works out beside the rows of its table, shown as an asset of its own behind the table's.

    `checks` says by name what must be true of it. `look` is asked at the end of every run, for what some jobs touched,
    given by their ids, or for everything if None is given; it changes nothing.
    """

    name: str
    title: str
    checks: Mapping[str, str]
    look: "Callable[[Platform, Sequence[str] | None], Look]"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedTask:
    """Periodic work of a feed, shown as an asset with a schedule of its own.

    `run` does it once, at any time and twice if need be, and returns figures that a person wants to see. What is
    `heavy` takes minutes or much memory, and gets a process of its own. After it, everything of `aspect` is checked.
    """

    name: str
    title: str
    cron: str
    run: "Callable[[Platform], Mapping[str, object]]"
    heavy: bool = False
    aspect: FeedAspect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedGauge:
    """A figure of a feed's own, for dashboards and alerts: a number by the values of its labels, in their order."""

    name: str
    title: str
    labels: tuple[str, ...]
    values: Mapping[tuple[str, ...], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a feed tells to subscribers of webhooks.

    `by_outcome` is the type of event by what became of a record, `id_column` the frames' column with the id of what the
    record is about, `ids_name` the name of the list of such ids in an event. `others` are types that the feed announces
    by itself.
    """

    id_column: str
    ids_name: str
    by_outcome: Mapping[Outcome, str]
    others: tuple[str, ...] = ()

    @property
    def types(self) -> tuple[str, ...]:
        """All types of events of the feed."""
        return (*self.by_outcome.values(), *self.others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What was done to bring one declared thing to where its feed keeps it; nothing, if it stood so already.

    `changed` has before and after of each field. `assigned` is what it is called by besides its name (an id that is
    given, not chosen). `wrong` says why it can't be as declared; then nothing of what was declared is applied.
    """

    created: bool = False
    retired: bool = False
    changed: Mapping[str, tuple[object, object]] = field(default_factory=dict[str, tuple[object, object]])
    assigned: str | None = None
    wrong: str | None = None


class Keep(Protocol):
    """Bring declared things of a kind to where the feed keeps them, each told in its place.

    It is called in the transaction of the whole declaration, which may be taken back.
    """

    def __call__(self, tx: "Transaction", declared: "Sequence[Declared]") -> Sequence[Kept]:
        """Keep what is declared."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """Something wrong in a declared body: `path` is the place in it (`routes.rules[2].when`); "" is all of it."""

    path: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What a declared body refers to, and at which place in it: a thing of another section, in the same workspace."""

    path: str
    section: str
    id: str


class Check(Protocol):
    """Find everything that is wrong with a declared body.

    `given` has the values of the texts in which variables of the environment stand, by their place (`token`,
    `headers.X-Key`); no message may quote one.
    """

    def __call__(self, body: Mapping[str, object], *, given: Mapping[str, str]) -> Sequence[Flaw]:
        """Check one body."""
        ...


class Prepare(Protocol):
    """Put what stands in files beside the declaration, in its `folder`, into a declared body."""

    def __call__(self, body: Mapping[str, object], *, folder: "Path") -> tuple[Mapping[str, object], Sequence[Flaw]]:
        """Prepare one body."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What would become of one sample: for a program (as JSON has it), and for a person, line by line.

    `outcomes` are words for what a summary of all samples counts.
    """

    told: Mapping[str, object]
    lines: Sequence[str]
    outcomes: Sequence[str]


class Trial(Protocol):
    """Try a sound declaration on samples, given as the bytes of a file, before it is applied; no store is touched.

    Raises Unreadable for a file that has no samples.
    """

    def __call__(self, body: Mapping[str, object], samples: bytes) -> Sequence[Tried]:
        """Try one body."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredKind:
    """Something that `ingest apply` declares for a feed.

    `section` is the list's name in the YAML file, `id_field` the entry's field that names it, `fields` its other fields
    with the JSON schema of each; `required` and `defaults` speak of those. `refers` maps a field to the kind whose id
    it must hold. `has_secret` gives each one a secret that is kept apart from its fields (`storage/secrets.py`), and an
    id that is its own in the whole platform. `within` is the field (a required one) in which the id is unique, if it is
    not so in its workspace. What is declared is kept in the catalog, unless the feed has a place of its own: `keep`.

    What is more than flat fields has a `check` instead of `fields`, told after `prepare` has read what lies in files
    beside the declaration; `references` says what it refers to. With `variables`, texts in it may have `${VARIABLE}`s
    of the environment: their values are secrets, kept apart. The section may be a mapping of ids if it is `by_id`.
    `fixed` names the fields that never change once they are declared, not even by way of a retirement. `trial` shows
    what would become of samples. `example` is a body with which nothing is wrong.
    """

    section: str
    id_field: str
    id_pattern: str
    fields: Mapping[str, Mapping[str, object]]
    required: tuple[str, ...] = ()
    defaults: Mapping[str, object] | None = None
    refers: Mapping[str, str] | None = None
    has_secret: bool = False
    within: str | None = None
    keep: Keep | None = None
    check: Check | None = None
    prepare: Prepare | None = None
    references: "Callable[[Mapping[str, object]], Sequence[Reference]] | None" = None
    variables: bool = False
    by_id: bool = False
    fixed: tuple[str, ...] = ()
    trial: Trial | None = None
    example: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One kind of data.

    `folder` is its name in paths (`landing/<workspace>/<folder>/`), `job_prefix` begins its job ids, `envelope_key`
    holds the records in a JSON body (without one, "", an object is itself a record), `rate_per_minute` is the default
    rate limit of its routes by workspace.
    `quota` is whether its accepted records count against a quota of the workspace's month.
    `kinds` is what records may refer to, resolved by `refer`. `write_scope` is needed to send. `derive` belongs to a
    folded table with derived columns, `aspects` are what it works out besides, `tasks` is what the feed does from time
    to time, `announced` what subscribers of webhooks are told besides the ends of jobs.

    `secret_name` asks for a secret of each workspace, for `refer`. `consign` is told what each load stored, `forgets`
    which submissions' bytes may not be kept, `services` go on in every worker. `explain` says of one record what the
    kernel can't, `standing` what `ingest status` shows besides.

    `gauges` reads figures of its own, of all processes; it is asked by whoever scrapes, so that it must be quick.

    `contract` and `table` are of submissions without a target. A feed with targets, each with a shape of its own, finds
    them by `shapes`; its `contract` and `table` are an example, by which it is warmed up and held to the laws.
    """

    name: str
    folder: str
    title: str
    job_prefix: str
    contract: Contract
    envelope_key: str
    rate_per_minute: int
    write_scope: str
    table: Table
    quota: bool = False
    refer: Refer | None = None
    shapes: Shapes | None = None
    kinds: tuple[DeclaredKind, ...] = ()
    derive: Derive | None = None
    aspects: tuple[FeedAspect, ...] = ()
    tasks: tuple[FeedTask, ...] = ()
    announced: Announced | None = None
    secret_name: str | None = None
    consign: Consign | None = None
    forgets: Forgets | None = None
    services: tuple[FeedService, ...] = ()
    explain: Explain | None = None
    standing: "Callable[[Transaction], Standing] | None" = None
    gauges: "Callable[[Transaction], Sequence[FeedGauge]] | None" = None
