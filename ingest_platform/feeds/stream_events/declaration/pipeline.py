"""A stream's pipeline as values: parse, enrich, mask, route, sample. How it is read from YAML: `reading.py`."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest_platform.feeds.stream_events.language import Expression

# The members on the way to a value: ("event", "card_number") for `event.card_number`.
Path = tuple[str, ...]

PARTIAL_KEEPS = 4


@unique
class Envelope(StrEnum):
    """What a record of a stream looks like: exactly as documented, or anything with a timestamp."""

    STRICT = "strict"
    AUTO = "auto"


@unique
class ParseKind(StrEnum):
    """The form of a text out of which structure is lifted."""

    JSON = "json"
    LOGFMT = "logfmt"
    REGEX = "regex"
    GROK = "grok"
    CSV = "csv"
    URL = "url"
    USER_AGENT = "user_agent"
    SYSLOG = "syslog"


@unique
class OnError(StrEnum):
    """What becomes of an event whose text can't be parsed: it stays as it is, or is rejected."""

    KEEP = "keep"
    REJECT = "reject"


@unique
class How(StrEnum):
    """How a value is masked."""

    REDACT = "redact"
    PARTIAL = "partial"
    HASH = "hash"
    DROP = "drop"
    REGEX = "regex"


@unique
class Detector(StrEnum):
    """What is found anywhere in an event, without naming a field."""

    EMAIL = "email"
    CARD = "card"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    PHONE = "phone"
    IBAN = "iban"
    JWT = "jwt"
    BEARER = "bearer"


@unique
class Match(StrEnum):
    """Whether the first rule that is met takes an event, or each."""

    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class ParseStep:
    """Lift structure out of the text of one field.

    What is found is put into the object at `into` (replacing members of the same names); None: into the object in which
    the field stands. `pattern` belongs to regex and grok, `columns` and `separator` to csv.
    """

    field: Path
    as_: ParseKind
    pattern: str | None = None
    into: Path | None = None
    on_error: OnError = OnError.KEEP
    columns: tuple[str, ...] = ()
    separator: str = ","


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStep:
    """Give fields fixed values: whatever JSON has."""

    values: Mapping[Path, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A lookup table: texts, each row as long as `columns`."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupStep:
    """Look an event's `key` up in the table's column `key_column` and put other columns of its row into fields.

    `add` has the column by the field. Keys are unique in the table; what is not found adds nothing.
    """

    table: Table
    key: Path
    key_column: str
    add: Mapping[Path, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameStep:
    """Move the value of a field to another place: the new place by the old one."""

    paths: Mapping[Path, Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeriveStep:
    """Give fields the values of expressions over the event as it was before the step."""

    values: "Mapping[Path, Expression]"


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStep:
    """Remove fields."""

    paths: tuple[Path, ...]


EnrichStep = SetStep | LookupStep | RenameStep | DeriveStep | DropStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """Mask the values of a field, or what a detector finds anywhere in the event: exactly one of the two is given.

    `drop` takes a field away, and of a text what a detector finds. `keep_last` (characters) belongs to `partial`. With
    `regex`, what `pattern` finds in the field's text becomes `replacement`.
    """

    field: Path | None = None
    detector: Detector | None = None
    how: How
    keep_last: int | None = None
    pattern: str | None = None
    replacement: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """Events that meet `when` go to the destinations `to`; of them the fraction `sample`, 0 < sample ≤ 1."""

    name: str
    when: "Expression"
    sample: float = 1.0
    to: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Where events go. Those that meet no rule go to `otherwise`; () drops (and counts) them."""

    match: Match
    rules: tuple[RouteRule, ...]
    otherwise: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """All that happens to a stream's events, in this order."""

    name: str
    envelope: Envelope
    parse: tuple[ParseStep, ...] = ()
    enrich: tuple[EnrichStep, ...] = ()
    masks: tuple[Mask, ...] = ()
    routes: Routes


def masks_anything(pipeline: Pipeline) -> bool:
    """Tell whether values are masked, so that nothing of the raw bytes may stay behind."""
    return bool(pipeline.masks)


def destinations_of(pipeline: Pipeline) -> frozenset[str]:
    """Collect the names of all destinations that events may go to."""
    return frozenset(pipeline.routes.otherwise).union(*(rule.to for rule in pipeline.routes.rules))
