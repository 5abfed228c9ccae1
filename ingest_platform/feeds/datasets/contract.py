"""A dataset's record: what every one has, and what its dataset declares. Where it lies: `load.py`."""

from collections.abc import Mapping

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.feeds.datasets.schema import TYPES

NAME = "datasets"
_TIMESTAMP = Field(
    name="timestamp",
    kind=Kind.TIMESTAMP,
    description="When it happened: RFC 3339 with a zone.",
    example="2026-05-06T10:15:00Z",
)
_CONTEXT = Field(
    name="context",
    kind=Kind.OBJECT,
    description="Whatever else belongs to it; stored as it is, and not queried.",
    example={"source": "billing"},
)
_EXAMPLES: Mapping[Kind, object] = {
    Kind.STRING: "RO",
    Kind.NUMBER: 42.5,
    Kind.BOOLEAN: True,
    Kind.TIMESTAMP: "2026-05-01T08:00:00Z",
}
# An example of what may be declared: what the feed is warmed up with, and shown as.
EXAMPLE_FIELDS: Mapping[str, str] = {
    "country": "string",
    "amount": "number",
    "active": "boolean",
    "signup_at": "timestamp",
}


def contract_of(fields: Mapping[str, str]) -> Contract:
    """Make the contract of a dataset's records of its declared fields: all required, none null, and no others.

    >>> [field.name for field in contract_of({"amount": "number"}).fields]
    ['timestamp', 'context', 'amount']
    """
    declared = (_declared(name, TYPES[kind]) for name, kind in fields.items())
    return Contract(name=NAME, fields=(_TIMESTAMP, _CONTEXT, *declared), extra_allowed=False)


def _declared(name: str, kind: Kind) -> Field:
    return Field(
        name=name,
        kind=kind,
        # Never rounded.
        exact_integers=kind is Kind.NUMBER,
        description=f"Declared as a {kind.value}.",
        example=_EXAMPLES[kind],
    )
