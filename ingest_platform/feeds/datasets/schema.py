"""What a dataset's owner declares: fields and their types, read strictly. Where it is kept is not known here.

A schema is registered once and never changes (contract, section 3).
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

from ingest_platform.domain.contract import Kind
from ingest_platform.domain.errors import Malformed

TYPES: Mapping[str, Kind] = {
    "string": Kind.STRING,
    "number": Kind.NUMBER,
    "boolean": Kind.BOOLEAN,
    "timestamp": Kind.TIMESTAMP,
}
FIELDS, VERSION = "fields", "version"
# There is one version of a schema, as it never changes.
THE_VERSION = 1
NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]{0,62}$"
RESERVED = frozenset({"timestamp", "context", "id", "ingested_at", "dataset_id"})
RESERVED_PREFIX = "__"
# A record of as many numbers is some kilobytes; a wider table has columns that nobody will find again.
FIELDS_MAX = 500
# Of a name that is wrong, so much is told back.
_SHOWN_MAX = 100

_is_name = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z").match


def is_name(text: str) -> bool:
    r"""Tell whether a text has the form of a field's name.

    >>> is_name("pickup_borough"), is_name("1st"), is_name("line\n")
    (True, False, False)
    """
    return _is_name(text) is not None


def read_schema(body: bytes) -> dict[str, str]:
    """Read the fields and their types from `{"fields": {…}}` or the bare object, in their order.

    What a schema is shown as (`{"version": 1, "fields": {…}}`) may be sent back. Raises Malformed, naming the fault.
    """
    given = _decode(body)
    if isinstance(given, dict):
        members = cast("dict[str, object]", given)
        enveloped = isinstance(members.get(FIELDS), dict)
        if enveloped and set(members) <= {FIELDS, VERSION} and members.get(VERSION, THE_VERSION) == THE_VERSION:
            return check_fields(members[FIELDS])
    return check_fields(given)


def _decode(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Malformed("Invalid JSON body") from None


def _members(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise Malformed(f"Invalid field name: {_shown(twice)} stands twice")
    return members


def _no_constant(name: str) -> Any:  # noqa: ANN401 - as json.loads has it; it never returns.
    raise ValueError(name)


def check_fields(given: object) -> dict[str, str]:
    """Check what is given as fields. Raises Malformed, naming the field and what is allowed."""
    if not isinstance(given, dict) or not given:
        raise Malformed("Schema must be a non-empty object of field names and types")
    declared = cast("dict[object, object]", given)
    if len(declared) > FIELDS_MAX:
        raise Malformed(f"Schema has {len(declared)} fields; the limit is {FIELDS_MAX}")
    alike: dict[str, str] = {}
    fields: dict[str, str] = {}
    for name, kind in declared.items():
        checked = _check_name(name)
        if not isinstance(kind, str) or kind not in TYPES:
            raise Malformed(f"Invalid type of field {checked}: must be one of {', '.join(TYPES)}")
        other = alike.setdefault(checked.lower(), checked)
        if other is not checked:
            raise Malformed(f"Invalid field name: {checked} differs from {other} only in upper and lower case")
        fields[checked] = kind
    return fields


def _check_name(name: object) -> str:
    # In a YAML file, `yes: string` has a name that is no text.
    if not isinstance(name, str) or not is_name(name):
        raise Malformed(f"Invalid field name: {_shown(name)} must match {NAME_PATTERN}")
    # In whatever case: DuckDB does not tell columns by it.
    if name.lower() in RESERVED or name.startswith(RESERVED_PREFIX):
        raise Malformed(f"Invalid field name: {name} is reserved")
    return name


def _shown(name: object) -> str:
    return str(name)[:_SHOWN_MAX].encode("utf-8", "replace").decode()
