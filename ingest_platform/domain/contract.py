"""A record's fields and rules, declared once; every engine's checks are derived from the declaration.

The door (`pipeline/door.py`) evaluates it per record, the run (`pipeline/check.py`) per frame with Pandera, the
warehouse (`pipeline/load.py`) as a typed staging table. How any of them does it is not known here.
"""

from dataclasses import dataclass
from enum import Enum, unique

# Every character that Python's str.strip takes away: Unicode's white space and four separators of ASCII. Written out,
# because the engines do not agree on what is blank.
WHITE_SPACE = (
    "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
# What a load's frames and staging tables call their own columns, in whatever case: engines do not tell names by it.
_TAKEN = frozenset({"submission", "record_index", "workspace", "accepted_seq", "rowid"})


def column_of(name: str) -> str:
    """Name the column in which a field's values wait on their way into its table; there it has the field's own name.

    >>> column_of("amount"), column_of("Workspace")
    ('amount', 'Workspace as declared')
    """
    # With blanks in it, so that it is no field's name.
    return f"{name} as declared" if name.lower() in _TAKEN else name


@unique
class Kind(Enum):
    """The JSON types that a field may have; a timestamp is a string that keeps the grammar of `timestamps.py`."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIMESTAMP = "timestamp"
    OBJECT = "object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a record.

    `pattern` (a whole-string regular expression that Python's re, Rust's regex and RE2 read alike), `length_max` (in
    characters) and `choices` are rules on strings. Each failing rule has its own closed code. Unless `blank_allowed`,
    what has nothing but white space in it says nothing: it is missing. `exact_integers` is a rule on numbers: an
    integer beyond 2^53, where doubles have gaps, is of the wrong type; elsewhere it becomes the nearest double.
    """

    name: str
    kind: Kind
    required: bool = True
    nullable: bool = False
    blank_allowed: bool = True
    exact_integers: bool = False
    pattern: str | None = None
    pattern_code: str = "invalid_format"
    length_max: int | None = None
    choices: tuple[str, ...] = ()
    description: str = ""
    example: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The fields of a record, in the order in which faults are reported; whether others may stand beside them.

    `whole` names a column besides the fields', in which the whole record stands as JSON text, the others included; of a
    row of a table, an object made of its cells.
    """

    name: str
    fields: tuple[Field, ...]
    extra_allowed: bool
    whole: str | None = None

    def field(self, name: str) -> Field:
        """Look up a field that is known to be declared."""
        return next(field for field in self.fields if field.name == name)
