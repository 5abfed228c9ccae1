"""One JSON record and the verdict on it, after its contract. Documents of many records are cut up in `documents.py`.

The rules beyond the contract's: no key twice in any object (`duplicate_key`), no number that a double can't hold and no
integer that an int64 can't hold (`not_finite`; integers beyond 2^53 become the nearest double, unless their field takes
exact ones only), nesting of at most 64 levels counted from the record (`too_deep`), no lone surrogates and no broken
UTF-8 (`invalid_json`). They hold for ignored keys too. A problem of something that the contract does not declare is the
record's: its field is None.
"""

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Iterable
from typing import TypeGuard, cast

import msgspec

from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.pipeline.rules import EXACT_INTEGER_MAX, integer_doubt, problem, rules_of

# Contract, section 0.
DEPTH_MAX = 64
# The limit of a whole JSON body, so that whatever can be sent in one can be sent as a line of a file.
RECORD_BYTES_MAX = 16 * 1024 * 1024
# A record with a thousand undeclared keys is not explained better by a thousand problems.
EXTRA_PROBLEMS_MAX = 20
KEY_CHARACTERS_MAX = 200
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
INT64_CHARACTERS_MAX = len(str(INT64_MIN))
BLANKS = b" \t\r\n"

# What msgspec raises for bytes that are no such record; the last two are not its own errors.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_TYPES: dict[Kind, type] = {
    Kind.STRING: str,
    Kind.NUMBER: float,
    Kind.BOOLEAN: bool,
    Kind.TIMESTAMP: str,
    Kind.OBJECT: msgspec.Raw,
}
_WANTED = {
    Kind.STRING: "a string",
    Kind.NUMBER: "a number",
    Kind.BOOLEAN: "true or false",
    Kind.TIMESTAMP: "a string",
    Kind.OBJECT: "an object",
}
# A string that never ends goes to the end, so that no byte is looked at twice.
_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)
# A number long enough or of a form to be doubted; looked for outside strings only.
_DOUBTED_NUMBER = re.compile(rb"[0-9]{19}|[0-9.][eE]").search
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]").search
_anything: Callable[[bytes], object] = msgspec.json.Decoder().decode


class _Unfit:
    """A number that does not fit, or NaN or an infinity."""


class _Object(list[tuple[str, object]]):
    """An object's members as sent, repeated keys included."""


_UNFIT = _Unfit()
_NAMES: dict[type, str] = {
    str: "a string",
    int: "a number",
    float: "a number",
    _Unfit: "a number",
    bool: "a boolean",
    type(None): "null",
    list: "an array",
    _Object: "an object",
}


class RecordReader:
    """Reads records of one contract. Make it with `reader_of`."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.decode = _decoder(contract)
        self.getters = {field.name: operator.attrgetter(f"f{place}") for place, field in enumerate(contract.fields)}
        self.quotes_min = _quotes_min(contract)
        self.rules = {field.name: rules_of(field) for field in contract.fields}
        self._fields = contract.fields
        self._declared = frozenset(field.name for field in contract.fields)

    def doubtful(self, raw: bytes) -> bool:
        """Tell whether a record that could be decoded needs the exact look of `problems` all the same.

        The decoder lets repeated keys, deep nesting and numbers of ignored keys pass. A record with no more quotes than
        the required keys and strings need has nothing of the kind, and need not be asked about.
        """
        if b"\\" in raw:
            return True
        skeleton = b"".join(raw.split(b'"')[::2])
        if _DOUBTED_NUMBER(skeleton):
            return True
        # The exact look knows depth better than this one.
        if skeleton.count(b"{") + skeleton.count(b"[") > DEPTH_MAX:
            return True
        try:
            # A repeated key has a colon of its own, and is one member with the other.
            return _count_members(_anything(raw)) != skeleton.count(b":")
        except DECODE_ERRORS:
            return True

    def is_good(self, raw: bytes) -> bool:
        """Tell of most good records that they are, at a tenth of the cost of `problems`; False says nothing."""
        if len(raw) > RECORD_BYTES_MAX:
            return False
        try:
            if not raw.isascii():
                # The decoder does not look into what it skips.
                raw.decode()
            decoded = self.decode(raw)
            doubtful = raw.count(b'"') != self.quotes_min and self.doubtful(raw)
        except DECODE_ERRORS:
            return False
        return not doubtful and all(self._keeps(field, self.getters[field.name](decoded)) for field in self._fields)

    def _keeps(self, field: Field, value: object) -> bool:
        """Tell whether a decoded value is surely good; None is one that may be missing, or null."""
        match field.kind:
            case Kind.STRING | Kind.TIMESTAMP:
                return value is None or all(rule.keeps(cast("str", value)) for rule in self.rules[field.name])
            case Kind.NUMBER:
                return value is None or abs(cast("float", value)) < integer_doubt(field)
            case Kind.OBJECT:
                return value is None or bytes(cast("msgspec.Raw", value)).startswith(b"{")
            case Kind.BOOLEAN:
                return True

    def problems(self, raw: bytes) -> tuple[Problem, ...]:
        """List everything that is wrong with a record: what concerns it as a whole, then its fields in order."""
        read = _read(raw)
        if isinstance(read, Problem):
            return (read,)
        # Two records of one fault share the tuple, not only the problem.
        return _shared((*self._problems_of_whole(read), *self._problems_of_fields(read))) or self._not_decodable(raw)

    def _not_decodable(self, raw: bytes) -> tuple[Problem, ...]:
        try:
            self.decode(raw)
        except DECODE_ERRORS:
            return (_INVALID_JSON,)
        return ()

    def _problems_of_whole(self, members: _Object) -> Iterable[Problem]:
        extras = _Object(member for member in members if member[0] not in self._declared)
        if not extras:
            return
        if _repeats(extras):
            yield problem(Code.DUPLICATE_KEY, None, "A key occurs twice in one object.")
        if _has_unfit(extras):
            yield problem(
                Code.NOT_FINITE, None, "A number is not finite, or fits neither a double nor a 64-bit integer."
            )
        if not self.contract.extra_allowed:
            for key in list(dict(extras))[:EXTRA_PROBLEMS_MAX]:
                # Not shared, and not repeated at any length: clients choose the keys.
                name = key[:KEY_CHARACTERS_MAX]
                yield Problem(code=Code.EXTRA_FIELD.value, field=name, message=f"{name} is not a declared field.")

    def _problems_of_fields(self, members: _Object) -> Iterable[Problem]:
        values = dict(members)
        repeated = _twice(members) if len(values) != len(members) else ()
        for field in self.contract.fields:
            if field.name in repeated:
                yield problem(Code.DUPLICATE_KEY, field.name, f"{field.name} occurs twice.")
            elif field.name not in values:
                if field.required:
                    yield missing(field)
            else:
                yield from self._problems_of_value(field, values[field.name])

    def _problems_of_value(self, field: Field, value: object) -> Iterable[Problem]:
        if value is None and field.nullable:
            return
        if not _has_type(field.kind, value):
            message = f"{field.name} must be {_WANTED[field.kind]}, but is {_NAMES[type(value)]}."
            yield problem(Code.INVALID_TYPE, field.name, message)
        elif isinstance(value, str):
            for rule in self.rules[field.name]:
                if not rule.keeps(value):
                    yield rule.problem
        elif field.exact_integers and isinstance(value, int) and abs(value) > EXACT_INTEGER_MAX:
            message = f"{field.name} must be a number, and an integer at most 2^53 away from 0, to be kept as it is."
            yield problem(Code.INVALID_TYPE, field.name, message)
        else:
            yield from _problems_within(field, value)


def _count_members(value: object) -> int:
    """Count the members of all objects in a decoded value."""
    if isinstance(value, dict):
        members = cast("dict[str, object]", value)
        return len(members) + sum(_count_members(each) for each in members.values() if isinstance(each, dict | list))
    return sum(_count_members(each) for each in value if isinstance(each, dict | list)) if _is_array(value) else 0


class _Same:
    """A contract as a key: the same object, as an example in it need not be hashable."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract

    def __hash__(self) -> int:
        return id(self.contract)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.contract is self.contract


def reader_of(contract: Contract) -> RecordReader:
    """Find or make the reader of a contract."""
    return _reader_of(_Same(contract))


@functools.lru_cache(maxsize=256)
def _reader_of(same: _Same) -> RecordReader:
    return RecordReader(same.contract)


def missing(field: Field) -> Problem:
    """Say that a required field is missing."""
    return problem(Code.MISSING_FIELD, field.name, f"{field.name} is missing.")


def _decoder(contract: Contract) -> Callable[[bytes], object]:
    required = [(place, field) for place, field in enumerate(contract.fields) if field.required]
    optional = [(place, field) for place, field in enumerate(contract.fields) if not field.required]
    fields: list[tuple[str, object] | tuple[str, object, object]] = [
        (f"f{place}", _annotation(field)) for place, field in required
    ]
    fields += [(f"f{place}", _annotation(field), None) for place, field in optional]
    # Attributes are numbered, because a field's name need not be one that Python takes.
    struct = msgspec.defstruct(
        "Record",
        fields,  # type: ignore[arg-type]
        rename={f"f{place}": field.name for place, field in enumerate(contract.fields)},
        forbid_unknown_fields=not contract.extra_allowed,
        gc=False,
    )
    return msgspec.json.Decoder(struct).decode


def _annotation(field: Field) -> object:
    kind = _TYPES[field.kind]
    return kind | None if field.nullable and field.kind is not Kind.OBJECT else kind


def _quotes_min(contract: Contract) -> int:
    keys = sum(field.required for field in contract.fields)
    strings = sum(field.required and not field.nullable and _TYPES[field.kind] is str for field in contract.fields)
    return 2 * (keys + strings)


def _read(raw: bytes) -> "_Object | Problem":
    if len(raw) > RECORD_BYTES_MAX:
        return too_long()
    if not _shallow(raw):
        return problem(Code.TOO_DEEP, None, f"The record is nested more than {DEPTH_MAX} levels deep.")
    try:
        read: object = _decode_whole(raw.decode())
    except ValueError:
        return _INVALID_JSON
    if _SURROGATE_ESCAPE(raw) and not _encodable(read):
        return problem(Code.INVALID_JSON, None, "The record has a lone surrogate, which is no character.")
    if not isinstance(read, _Object):
        return problem(Code.NOT_AN_OBJECT, None, f"A record must be an object, but this is {_NAMES[type(read)]}.")
    return read


_INVALID_JSON = problem(Code.INVALID_JSON, None, "The record is not valid JSON in UTF-8.")


def too_long() -> Problem:
    """Say that a record is larger than any record may be."""
    return problem(Code.TOO_LONG, None, f"The record is larger than {RECORD_BYTES_MAX} bytes.")


def _integer(token: str) -> int | _Unfit:
    # The length first: Python refuses to read thousands of digits, and takes long for hundreds.
    if len(token) > INT64_CHARACTERS_MAX:
        return _UNFIT
    number = int(token)
    return number if INT64_MIN <= number <= INT64_MAX else _UNFIT


def _double(token: str) -> float | _Unfit:
    number = float(token)
    return number if math.isfinite(number) else _UNFIT


# Made once: `json.loads` would make one for each record.
_decode_whole: Callable[[str], object] = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_integer, parse_float=_double, parse_constant=lambda _: _UNFIT
).decode


def _shallow(raw: bytes) -> bool:
    if raw.count(b"{") + raw.count(b"[") <= DEPTH_MAX:
        return True
    depth = 0
    for found in _BRACKETS.finditer(raw):
        if found[1]:
            depth += 1
            if depth > DEPTH_MAX:
                return False
        elif found[2]:
            depth -= 1
    return True


def _encodable(value: object) -> bool:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    return all(_encodable(inner) for inner in _inner(value))


def _inner(value: object) -> Iterable[object]:
    if isinstance(value, _Object):
        return (part for member in value for part in member)
    return value if _is_array(value) else ()


def _is_array(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _has_unfit(value: object) -> bool:
    # Most values are no arrays and no objects, and need no more than this.
    if not isinstance(value, list):
        return value is _UNFIT
    return any(map(_has_unfit, _inner(cast("object", value))))


def _repeats(value: object) -> bool:
    if not isinstance(value, list):
        return False
    if isinstance(value, _Object) and len(dict(value)) != len(value):
        return True
    return any(map(_repeats, _inner(cast("object", value))))


def _twice(members: _Object) -> set[str]:
    seen: set[str] = set()
    return {key for key, _ in members if key in seen or seen.add(key)}  # type: ignore[func-returns-value]


def _problems_within(field: Field, value: object) -> Iterable[Problem]:
    if _repeats(value):
        yield problem(Code.DUPLICATE_KEY, field.name, f"A key occurs twice in an object in {field.name}.")
    if _has_unfit(value):
        words = "is not finite, or fits neither a double nor a 64-bit integer"
        message = f"{field.name} {words}." if field.kind is Kind.NUMBER else f"A number in {field.name} {words}."
        yield problem(Code.NOT_FINITE, field.name, message)


def _has_type(kind: Kind, value: object) -> bool:
    match kind:
        case Kind.STRING | Kind.TIMESTAMP:
            return isinstance(value, str)
        case Kind.NUMBER:
            return type(value) in {int, float, _Unfit}
        case Kind.BOOLEAN:
            return isinstance(value, bool)
        case Kind.OBJECT:
            return isinstance(value, _Object)


@functools.lru_cache(maxsize=4096)
def _shared(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return problems
