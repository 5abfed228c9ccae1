"""What every destination is: what it may declare, what it is given, and what it tells. No type is named here.

Refused for the whole batch:   DeliveryFailed
                               ├── Transient   the same batch is sent again later
                               └── Permanent   its events are dead letters
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import ClassVar, Protocol, cast

from ingest_platform.pipeline.addresses import OutboundRules
from ingest_platform.storage.blobs import Blobs

# Of one attempt: a destination that is slower than that is not up to its events, and is asked again later.
CONNECT_SECONDS_MAX = 10.0
SECONDS_MAX = 30.0
REASON_CHARACTERS_MAX = 300
KIB, MIB = 1024, 1024 * 1024

Body = Mapping[str, object]


class DeliveryFailed(Exception):
    """Nothing of a batch is known to be delivered; `reason` is for people and has no secret in it."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        self.reason = reason[:REASON_CHARACTERS_MAX]
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.reason)


class Transient(DeliveryFailed):
    """It may be delivered later: the destination is away, slow, busy, or its declaration has to be mended."""


class Permanent(DeliveryFailed):
    """No repetition will help: the destination has seen the batch and does not take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One event: `document` is JSON of an object in UTF-8, after masking; `weight` is how many events it stands for."""

    event_id: str
    timestamp: datetime
    source: str | None
    document: bytes
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is sent together. `delivery_id` (`dlv_…`) and the items are the same in every attempt but for those done."""

    delivery_id: str
    workspace: str
    destination: str
    stream_id: str
    stream_version: int
    first_attempt_at: datetime
    attempt: int
    items: Sequence[Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How each event of a batch went, by its id: each is in exactly one of the three."""

    delivered: Collection[str]
    retry: Mapping[str, str] = field(default_factory=dict[str, str])
    dead: Mapping[str, str] = field(default_factory=dict[str, str])
    retry_after_seconds: float | None = None


def all_delivered(batch: Batch) -> Sent:
    """Say that every event was delivered."""
    return Sent(delivered=[item.event_id for item in batch.items])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRule:
    """How much is sent together at most, how long events wait for others, how many batches are under way.

    `bytes_max` counts the bytes of documents.
    """

    events_max: int
    bytes_max: int
    linger_seconds: float
    at_once: int


class Destination(Protocol):
    """An open destination. Threads may send at once, as many as its rule says; opening connects to nothing."""

    type: ClassVar[str]
    batch: BatchRule

    def send(self, batch: Batch) -> Sent:
        """Send a batch, and tell how each event went. Raises Transient or Permanent for all of them."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the platform lends to destinations: its folder, its store of blobs, and where calls may lead."""

    data_dir: Path
    blobs: Blobs
    outbound: OutboundRules


# Declarations


@unique
class FieldKind(StrEnum):
    """What a declared field holds, in the words of JSON Schema."""

    TEXT = "string"
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "boolean"
    LIST = "array"
    MAPPING = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredField:
    """One field of a declaration. Lists and mappings hold texts; `choices` are a text's, or of each text of a list."""

    name: str
    meaning: str
    kind: FieldKind = FieldKind.TEXT
    required: bool = False
    # Of its value nothing is ever shown: not in the catalog, in a fault, in a log.
    secret: bool = False
    default: object = None
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None

    @property
    def schema(self) -> dict[str, object]:
        """Write it as JSON Schema."""
        described: dict[str, object] = {"type": self.kind.value, "description": self.meaning}
        words: dict[str, object] = {"enum": list(self.choices)} if self.choices else {}
        if self.kind is FieldKind.LIST:
            described["items"] = {"type": "string", **words}
        elif self.kind is FieldKind.MAPPING:
            described["additionalProperties"] = {"type": "string"}
        else:
            described |= words
        bounds = {"default": self.default, "minimum": self.least, "maximum": self.most}
        described |= {name: value for name, value in bounds.items() if value is not None}
        return described | ({"writeOnly": True} if self.secret else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFault:
    """What is wrong with a declaration: `path` is the field (dotted below it), the message says what is allowed."""

    path: str
    message: str


class WrongDestination(Exception):
    """A declaration that can't be opened; `read` would have told the faults."""

    def __init__(self, faults: Sequence[DestinationFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{fault.path}: {fault.message}" for fault in faults))


def batch_fields(rule: BatchRule) -> tuple[DeclaredField, ...]:
    """Declare the fields of every type that override its batch rule."""
    return (
        DeclaredField(
            name="batch_events",
            meaning="Events that are sent together at most.",
            kind=FieldKind.INTEGER,
            default=rule.events_max,
            least=1,
            most=rule.events_max,
        ),
        DeclaredField(
            name="batch_bytes",
            meaning="Bytes of documents that are sent together at most; a larger event is sent alone.",
            kind=FieldKind.INTEGER,
            default=rule.bytes_max,
            least=KIB,
            most=rule.bytes_max,
        ),
        DeclaredField(
            name="batch_seconds",
            meaning="How long an event waits for others to be sent with.",
            kind=FieldKind.NUMBER,
            default=rule.linger_seconds,
            least=0,
            most=3600,
        ),
        DeclaredField(
            name="at_once",
            meaning="Batches that are under way at the same time at most.",
            kind=FieldKind.INTEGER,
            default=rule.at_once,
            least=1,
            most=16,
        ),
    )


def batch_rule(body: Body, rule: BatchRule) -> BatchRule:
    """Take the batch rule of a type with what a sound declaration says otherwise."""
    return BatchRule(
        events_max=int(cast("int", body.get("batch_events", rule.events_max))),
        bytes_max=int(cast("int", body.get("batch_bytes", rule.bytes_max))),
        linger_seconds=float(cast("float", body.get("batch_seconds", rule.linger_seconds))),
        at_once=int(cast("int", body.get("at_once", rule.at_once))),
    )


def _is_of(value: object, kind: FieldKind) -> bool:
    if kind is FieldKind.LIST:
        return isinstance(value, list) and all(isinstance(each, str) for each in cast("list[object]", value))
    if kind is FieldKind.MAPPING:
        pairs = cast("Mapping[object, object]", value).items() if isinstance(value, Mapping) else [(None, None)]
        return all(isinstance(name, str) and isinstance(each, str) for name, each in pairs)
    # A boolean is a number in Python, and in no declaration.
    return isinstance(value, _PYTHON[kind]) and isinstance(value, bool) == (kind is FieldKind.SWITCH)


_PYTHON: Mapping[FieldKind, type | tuple[type, ...]] = {
    FieldKind.TEXT: str,
    FieldKind.INTEGER: int,
    # Neither NaN nor an infinity is between two numbers, so those end at the range.
    FieldKind.NUMBER: (int, float),
    FieldKind.SWITCH: bool,
}
_IN_WORDS = {
    FieldKind.TEXT: "a text",
    FieldKind.INTEGER: "a whole number",
    FieldKind.NUMBER: "a number",
    FieldKind.SWITCH: "true or false",
    FieldKind.LIST: "a list of texts",
    FieldKind.MAPPING: "a mapping of names to texts",
}


def _why_wrong(value: object, of: DeclaredField) -> str | None:
    if not _is_of(value, of.kind):
        return f"must be {_IN_WORDS[of.kind]}"
    if of.kind is FieldKind.TEXT and of.required and not cast("str", value).strip():
        return "must not be empty"
    words = cast("list[str]", value) if of.kind is FieldKind.LIST else [value]
    if of.choices and any(word not in of.choices for word in words):
        return f"must be {'of' if of.kind is FieldKind.LIST else 'one of'} {', '.join(of.choices)}"
    if of.kind in {FieldKind.INTEGER, FieldKind.NUMBER}:
        number = cast("float", value)
        least, most = of.least, of.most
        if not ((least is None or number >= least) and (most is None or number <= most)):
            return f"must be from {least:g} to {most:g}" if most is not None else f"must be at least {least:g}"
    return None


def read_fields(body: Body, fields: Sequence[DeclaredField]) -> list[DestinationFault]:
    """Find what is wrong with each field by itself; `type` is known already. Values are never quoted."""
    known = {each.name: each for each in fields}
    faults = [
        DestinationFault(
            path=str(name)[:100], message=f"is no field of this type; there are {', '.join(sorted(known))}"
        )
        for name in body
        if name != "type" and name not in known
    ]
    for each in fields:
        value = body.get(each.name)
        wrong = ("is missing" if each.required else None) if value is None else _why_wrong(value, each)
        if wrong is not None:
            faults.append(DestinationFault(path=each.name, message=wrong))
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationType:
    """A type of destinations: what its declarations are, and how one is opened. A module of this package has one."""

    type: str
    fields: tuple[DeclaredField, ...]
    # Find what the fields of a declaration are wrong in together; called only where each is right by itself.
    check: Callable[[Body], list[DestinationFault]]
    # Open a declaration that is sound and whose secrets are in it.
    opened: Callable[[Body, Site], Destination]

    @property
    def secrets(self) -> frozenset[str]:
        """Name the fields that are secret."""
        return frozenset(each.name for each in self.fields if each.secret)

    @property
    def schema(self) -> dict[str, object]:
        """Write the declaration as JSON Schema."""
        return {
            "type": "object",
            "required": ["type", *(each.name for each in self.fields if each.required)],
            "properties": {"type": {"const": self.type}, **{each.name: each.schema for each in self.fields}},
            "additionalProperties": False,
        }

    def read(self, body: Body) -> list[DestinationFault]:
        """Find all faults of a declaration, in which each `${VAR}` has its value already."""
        given = {name: value for name, value in body.items() if value is not None}
        return read_fields(given, self.fields) or self.check(given)

    def open(self, body: Body, *, secrets: Mapping[str, str], site: Site) -> Destination:
        """Open a declaration; `secrets` are the values of what was given as `${VAR}`, by path (`headers.X-Key`).

        Connects to nothing. Raises WrongDestination, which `read` prevents.
        """
        given = {name: value for name, value in filled(body, secrets).items() if value is not None}
        faults = self.read(given)
        if faults:
            raise WrongDestination(faults)
        return self.opened(given, site)


def filled(body: Body, secrets: Mapping[str, str]) -> dict[str, object]:
    """Put secrets into a declaration, at their paths: a field, or a member of a mapping.

    >>> filled({"url": "https://a.example", "headers": {"X-Key": "${KEY}"}}, {"headers.X-Key": "k"})
    {'url': 'https://a.example', 'headers': {'X-Key': 'k'}}
    """
    whole = dict(body)
    for path, value in secrets.items():
        name, _, member = path.partition(".")
        inside = whole.get(name)
        if member and isinstance(inside, Mapping):
            whole[name] = {**cast("Mapping[str, object]", inside), member: value}
        else:
            whole[name] = value
    return whole


@functools.cache
def destination_types() -> Mapping[str, DestinationType]:
    """Find every type: each module of this package with a `KIND`. Found by looking, not by listing."""
    package = importlib.import_module(cast("str", __package__))
    modules = [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for found in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name)
    ]
    kinds = [cast("DestinationType", module.KIND) for module in modules if hasattr(module, "KIND")]
    assert all(isinstance(kind, DestinationType) for kind in kinds), kinds
    return {kind.type: kind for kind in kinds}
