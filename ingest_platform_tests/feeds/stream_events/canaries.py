"""Values that may be nowhere behind a mask, events full of them, and the search for them wherever bytes are kept.

The search sees through what hides them from a plain one: Parquet, gzip, zstd, the columns of the database. What must be
found where is said by the test.
"""

import gzip
import io
import itertools
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl
import psycopg
import zstandard
from psycopg import sql

from ingest_platform.feeds.stream_events.processing.detectors import luhn

AT = "2026-05-06T10:15:30.123Z"
KEPT = "kept-as-it-is"
# How every canary looks, so that one pass over some bytes finds all of them.
_LOOK = re.compile(
    rb"canary\d{6}@birds\.example|411111\d{10}|(?:password|user|secret|key)\d{6}|10\.\d{3}\.\d{3}\.\d{3}"
    rb"|2001:db8::[0-9a-f]{3}:[0-9a-f]{5}|\+40 721 \d{6}|DE\d{20}|tok\d{6}\.canary|4111(?: \d{4}){3}"
    rb"|eyJhbGciOiJIUzI1NiJ9\.eyJjYW5hcnki\d{6}\.c2lnbmVk\d{6}"
)
MASKS: list[Mapping[str, object]] = [
    {"field": "event.password", "how": "redact"},
    {"field": "event.card_number", "how": "partial", "keep_last": 4},
    {"field": "event.user_id", "how": "hash"},
    {"field": "event.secret", "how": "drop"},
    {"field": "event.note", "how": "regex", "pattern": "key[0-9]+", "replacement": "key***"},
    {"pattern": "email", "how": "redact"},
    {"pattern": "card", "how": "redact"},
    {"pattern": "ipv4", "how": "partial", "keep_last": 3},
    {"pattern": "ipv6", "how": "hash"},
    {"pattern": "phone", "how": "drop"},
    {"pattern": "iban", "how": "partial", "keep_last": 2},
    {"pattern": "jwt", "how": "redact"},
    {"pattern": "bearer", "how": "hash"},
]


class Canaries:
    """Makes values that were never made before, and events of them; remembers each with where it was put."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        # What was sent as it is, and not refused.
        self.taken: set[str] = set()
        self._numbers = itertools.count(123_456)

    def _new(self, value: str, where: str) -> str:
        assert value not in self.values
        assert _LOOK.fullmatch(value.encode()), value
        self.values[value] = where
        return value

    def email(self, where: str) -> str:
        """Make a mail address."""
        return self._new(f"canary{next(self._numbers)}@birds.example", f"{where}: email")

    def card(self, where: str) -> str:
        """Make a card number."""
        first = f"411111{next(self._numbers):09d}"
        (whole,) = (number for digit in "0123456789" if luhn(number := first + digit))
        return self._new(whole, f"{where}: card")

    def field(self, name: str, where: str) -> str:
        """Make a value that only its field makes a secret."""
        return self._new(f"{name}{next(self._numbers)}", f"{where}: {name}")

    def text(self, where: str) -> str:
        """Make a text in which there is something for each detector."""
        number = next(self._numbers)
        account = f"37040044{number:010d}"
        check = 98 - int(f"{account}131400") % 97
        found = {
            "ipv4": f"10.{number // 10_000 + 100}.{number // 100 % 100 + 100}.{number % 100 + 100}",
            "ipv6": f"2001:db8::{number // 100:x}:{number:x}",
            "phone": f"+40 721 {number}",
            "iban": f"DE{check:02d}{account}",
            "jwt": f"eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnki{number}.c2lnbmVk{number}",
            "bearer": f"tok{number}.canary",
        }
        spaced = self.card(where)
        del self.values[spaced]
        found["card in groups"] = " ".join(spaced[at : at + 4] for at in range(0, 16, 4))
        for name, value in found.items():
            self._new(value, f"{where}: {name}")
        found["bearer"] = f"Bearer {found['bearer']}"
        return f"{self.email(where)} said: " + ", ".join(found.values())

    def event(self, where: str, **members: object) -> dict[str, object]:
        """Make an event that has canaries wherever they can be."""
        return {
            "timestamp": AT,
            "source": f"web {self.email(f'{where}, source')}",
            "event": {
                "level": "ERROR",
                "kept": KEPT,
                "message": f"status=declined user={self.email(f'{where}, logfmt')}",
                "inner": json.dumps({"deep": [{"mail": self.email(f"{where}, JSON in a text")}]}),
                "password": self.field("password", where),
                "card_number": self.card(f"{where}, field"),
                "user_id": self.field("user", where),
                "secret": {"in": [self.field("secret", where)]},
                "note": f"of {self.field('key', where)}",
                "text": self.text(where),
                self.email(f"{where}, key"): True,
                "list": [1, {"a": {"b": self.text(f"{where}, list")}}, 'quoted " \\ ' + self.email(f"{where}, quoted")],
                "number": int(self.card(f"{where}, number")),
            },
            "metadata": {"from": self.text(f"{where}, metadata")},
            "trace": self.text(f"{where}, top"),
        } | members

    def small(self, where: str) -> dict[str, object]:
        """Make a small event with one canary."""
        return {"timestamp": AT, "source": "web", "event": {"level": "ERROR", "kept": KEPT, "is": self.email(where)}}

    def dropped(self, where: str) -> dict[str, object]:
        """Make an event that no rule wants."""
        event = self.event(f"{where}, dropped")
        return event | {"event": {**json.loads(json.dumps(event["event"])), "level": "DEBUG"}}

    def unparsable(self, where: str) -> dict[str, object]:
        """Make an event that a parse step rejects."""
        event = self.event(f"{where}, unparsable")
        inner = f"no JSON: {self.email(f'{where}, unparsable')}"
        return event | {"event": {**json.loads(json.dumps(event["event"])), "inner": inner}}

    def bad(self, where: str) -> Iterator[bytes]:
        """Make events that are rejected, each for another reason, as JSON."""
        events: list[object] = [
            self.event(f"{where}, timestamp", timestamp=f"yesterday {self.email(f'{where}, timestamp')}"),
            self.unparsable(where),
            f"only {self.email(f'{where}, no object')}",
            self.event(f"{where}, metadata", metadata=self.email(f"{where}, metadata")),
            self.event(f"{where}, no event", event=[self.email(f"{where}, no event")]),
        ]
        yield from (json.dumps(each).encode() for each in events)
        twice = json.dumps(self.email(f"{where}, key twice"))
        yield f'{{"timestamp":"{AT}","source":"a","event":{{}},{twice}:1,{twice}:2}}'.encode()
        yield f'{{"timestamp":"{AT}","source":"a","event":{{{twice}:1,{twice}:2}}}}'.encode()
        yield f'{{"timestamp":"{AT}","source":"a","event":{{{twice}:1e999}}}}'.encode()

    def note_taken(self, content: bytes) -> None:
        """Note what is to be found until it was worked."""
        for each in readings(content):
            self.taken |= self.found_in(each)

    def found_in(self, content: bytes) -> set[str]:
        """Tell which canaries are in some bytes."""
        return {found.decode() for found in _LOOK.findall(content)} & self.values.keys()


def readings(content: bytes) -> Iterator[bytes]:
    """Give bytes as they are, and as what they are read as."""
    yield content
    if content.startswith(b"\x1f\x8b"):
        yield zlib.decompressobj(wbits=31).decompress(content)
    elif content.startswith(b"\x28\xb5\x2f\xfd"):
        yield zstandard.ZstdDecompressor().decompressobj().decompress(content)
    elif content.startswith(b"PAR1") and content.endswith(b"PAR1"):
        yield pl.read_parquet(io.BytesIO(content)).write_json().encode()


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Read all files below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            for each in readings(path.read_bytes()):
                yield str(path.relative_to(folder)), each


def rows_of_all_tables(database_url: str) -> Iterator[tuple[str, bytes]]:
    """Read every row of every table of every schema, what PostgreSQL itself notes of their values included."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
            " WHERE c.relkind = 'r' AND n.nspname <> 'information_schema'"
            " AND (n.nspname <> 'pg_catalog' OR c.relname IN ('pg_statistic', 'pg_largeobject'))"
            " ORDER BY 1, 2"
        ).fetchall()
        for schema, table in tables:
            whole = sql.SQL("SELECT * FROM {}.{}").format(sql.Identifier(schema), sql.Identifier(table))
            for row in connection.execute(whole):
                for each in map(_as_bytes, row):
                    for reading in readings(each):
                        yield f"{schema}.{table}", reading


def _as_bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        # What is kept of a bytea as text is its digits in hex.
        return value.encode() + _unhexed(value)
    return json.dumps(value, default=str, ensure_ascii=False).encode()


def _unhexed(text: str) -> bytes:
    found = bytearray()
    for part in text.split("\\x")[1:]:
        digits = part[: len(part) - len(part.lstrip("0123456789abcdef"))]
        found += b" " + bytes.fromhex(digits[: len(digits) // 2 * 2])
    return bytes(found)


def compressed(content: bytes) -> bytes:
    """Compress as a client does."""
    return gzip.compress(content, mtime=0)
