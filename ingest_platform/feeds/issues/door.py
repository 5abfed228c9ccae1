"""What the run would say of records, said before they are taken; and records sent alone, completed to whole ones.

The run's `refer` rejects nothing, so the kernel's verdict by record (`pipeline/door.py`) is the run's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from ingest_platform.domain.contract import WHITE_SPACE, Contract
from ingest_platform.domain.ids import new_id
from ingest_platform.domain.rejection import Code, Problem
from ingest_platform.feeds.issues import wire
from ingest_platform.feeds.issues.contract import CONTRACT, TITLE_CHARACTERS_MAX
from ingest_platform.feeds.issues.identity import identify, source_key_of
from ingest_platform.feeds.issues.references import CUSTOM
from ingest_platform.feeds.issues.sources import Source
from ingest_platform.pipeline.documents import BOM
from ingest_platform.pipeline.door import check_record

EVENT_PREFIX = "evt-"


class _Key(msgspec.Struct, gc=False):
    source: str
    external_id: str


_key_of = msgspec.json.Decoder(_Key).decode
_members_of = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text_of = msgspec.json.Decoder(str | None).decode
_encode = msgspec.json.Encoder().encode


def _lenient(*names: str) -> Contract:
    """Let text fields be left out, or say nothing; what else is wrong with them shows once the record is whole."""
    return replace(
        CONTRACT,
        fields=tuple(
            replace(field, required=False, nullable=True, blank_allowed=True, pattern=None)
            if field.name in names
            else field
            for field in CONTRACT.fields
        ),
    )


EVENT_CONTRACT = _lenient("external_id", "source", "title")
SOURCED_CONTRACT = _lenient("source")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The verdict on each record: id and hash of the issue of every good one, all problems of every other, in order."""

    issues: Sequence[tuple[str, int]]
    rejections: Sequence[tuple[int, tuple[Problem, ...]]]

    @property
    def subjects(self) -> list[int]:
        """List the hashes of the issues, each once."""
        return list(dict.fromkeys(key_hash for _, key_hash in self.issues))


def judge(records: Sequence[bytes], *, workspace: str) -> Judged:
    """Judge records as the run will."""
    issues: list[tuple[str, int]] = []
    rejections: list[tuple[int, tuple[Problem, ...]]] = []
    for index, raw in enumerate(records):
        problems = check_record(raw, CONTRACT)
        if problems:
            rejections.append((index, tuple(problems)))
        else:
            key = _key_of(raw)
            issues.append(identify(workspace, source_key_of(key.source), key.external_id))
    return Judged(issues=issues, rejections=rejections)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """A record that was sent alone, as a whole record; `named` is False if its external id was made here."""

    record: bytes
    named: bool = True

    @property
    def body(self) -> bytes:
        """Write it as a submission, which is what is landed."""
        return b'{"%b":[%b]}' % (wire.RECORDS.encode(), self.record)


Complete = Callable[[bytes], Alone]


def complete_event(raw: bytes) -> Alone:
    """Complete an event: its source, title and external id may be left out. Raises Malformed for a bad one.

    >>> complete_event(b'{"external_id": "db-3", "source": "zabbix"}').record
    b'{"external_id":"db-3","source":"zabbix","title":"db-3"}'
    """
    members = _members(raw, EVENT_CONTRACT)
    external_id, title = _said(members, "external_id"), _said(members, "title")
    if external_id is None and title is None:
        message = "title is required where there is no external_id"
        raise wire.bad_record([Problem(code=Code.MISSING_FIELD.value, field="title", message=message)])
    members["external_id"] = external_id or new_id(EVENT_PREFIX)
    members["source"] = _said(members, "source") or CUSTOM
    members["title"] = title or (external_id or "")[:TITLE_CHARACTERS_MAX]
    return Alone(record=_whole(members), named=external_id is not None)


def complete_sourced(raw: bytes, source: Source) -> Alone:
    """Complete a record of a source's own route, by that source's own requirements. Raises Malformed for a bad one."""
    members = _members(raw, SOURCED_CONTRACT)
    sent = _said(members, "source")
    if sent is not None and source_key_of(sent) != source.name:
        message = f"source must be {source.name}, as in the path, or be left out"
        raise wire.bad_record([Problem(code=Code.INVALID_CHOICE.value, field="source", message=message)])
    members["source"] = source.name
    external_id = _said(members, "external_id")
    assert external_id is not None
    problems = source.problems(external_id=external_id, has_url=_said(members, "external_url") is not None)
    if problems:
        raise wire.bad_record(problems)
    return Alone(record=_whole(members))


def _members(raw: bytes, contract: Contract) -> dict[str, object]:
    """Read the members of an object that keeps a contract's rules, each value as it was sent."""
    raw = raw.removeprefix(BOM)
    problems = check_record(raw, contract)
    if problems:
        raise wire.bad_record(problems)
    return dict(_members_of(raw))


def _said(members: Mapping[str, object], name: str) -> str | None:
    """Read a text; None if it is missing, null or blank."""
    sent = members.get(name)
    text = None if sent is None else _text_of(sent)  # type: ignore[arg-type]
    return text if text and text.strip(WHITE_SPACE) else None


def _whole(members: Mapping[str, object]) -> bytes:
    """Write a record, and see that it is a good one now."""
    record = _encode(members)
    problems = check_record(record, CONTRACT)
    if problems:
        raise wire.bad_record(problems)
    return record
