"""Patterns over HTTP: listed, shown with their reasons, merged, split, pinned to. Promises: `pattern_declared.py`."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.lists import list_reply
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.domain.contract import WHITE_SPACE
from ingest_platform.domain.errors import Malformed, NotFound
from ingest_platform.feeds.issues import FEED, pattern_changes, pattern_shown
from ingest_platform.feeds.issues.pattern_declared import declare_patterns
from ingest_platform.feeds.issues.pattern_stats import (
    WORDINGS_SHOWN_MAX,
    Frames,
    Memberships,
    Place,
    Row,
    read_one,
    read_page,
)
from ingest_platform.feeds.issues.pending import Issues
from ingest_platform.pipeline.admit import Principal
from ingest_platform.storage.ledger import Transaction

Asked = TypeVar("Asked", bound=msgspec.Struct)
IDS_MAX = 500
NAME_CHARACTERS_MAX = 200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Merge(msgspec.Struct, forbid_unknown_fields=True):
    """What is merged: this pattern into another, or others into this one."""

    into: str | None = None
    pattern_ids: list[str] | None = None


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """Which wordings are taken out, and the name of their pattern."""

    fingerprints: list[str]
    name: str | None = None


class Pin(msgspec.Struct, forbid_unknown_fields=True):
    """Which issues are put here, or let go."""

    issue_ids: list[str]


class Undo(msgspec.Struct, forbid_unknown_fields=True):
    """Which change is undone; the last one of a person, if none is named."""

    change_id: int | None = None


class PatternRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._memberships = Memberships()
        self._issues = Issues(services.platform, FEED)

    async def list_patterns(self, call: Call) -> Reply:
        """List patterns that have issues."""
        workspace, limit = call.who.workspace, call.require("limit", int)
        status, sort, cursor = call.get("status", str), call.require("sort", str), call.get("cursor", str)
        cursors, purpose = self._services.cursors, f"patterns:{workspace}:{status}:{sort}"

        def page() -> Reply:
            at, behind = _moment_and_place(None if cursor is None else cursors.read(cursor, purpose=purpose))
            with self._services.ledger.connection() as tx:
                frames = self._memberships.frames(tx, workspace)
            found = read_page(
                self._services.warehouse,
                frames,
                workspace=workspace,
                at=at,
                status=status,
                sort=sort,
                behind=behind,
                limit=limit,
            )
            ids = [cast("str", row["pattern_id"]) for row in found.rows]
            with self._services.ledger.connection() as tx:
                names = pattern_shown.names_of(tx, ids)
            shown = [
                pattern_shown.pattern_object(each, names[each], row) for each, row in zip(ids, found.rows, strict=True)
            ]
            place = None if found.last is None else [(at - _EPOCH) // _MICROSECOND, *found.last]
            next_cursor = None if place is None else cursors.write(purpose=purpose, place=place)
            return list_reply(shown, next_cursor=next_cursor, total=found.total)

        return await self._services.run(page)

    async def get_pattern(self, call: Call) -> Reply:
        """Show a pattern, and why its issues are in it."""
        workspace, asked = call.who.workspace, call.require("pattern_id", str)

        def show() -> Reply:
            with self._services.ledger.connection() as tx:
                pattern_id = pattern_changes.find(tx, workspace=workspace, pattern_id=asked)
                frames = self._memberships.frames(tx, workspace)
            # No connection is held while the lake is searched: there are fewer of them than threads.
            found = self._figures(frames, workspace, pattern_id)
            with self._services.ledger.connection() as tx:
                return json_reply(200, _explained(tx, workspace, pattern_id, found))

        return await self._services.run(show)

    async def get_issue_pattern(self, call: Call) -> Reply:
        """Show why an issue is in its pattern."""
        workspace, issue_id = call.who.workspace, call.require("issue_id", str)

        def show() -> Reply:
            issue = self._issues.find(workspace=workspace, issue_id=issue_id)
            if issue is None:
                raise NotFound("There is no such issue.")
            with self._services.ledger.connection() as tx:
                fingerprint = cast("str", issue.row["fingerprint"])
                shown = pattern_shown.issue_assignment(
                    tx, workspace=workspace, issue_id=issue_id, fingerprint=fingerprint
                )
            return json_reply(200, shown)

        return await self._services.run(show)

    async def merge(self, call: Call) -> Reply:
        """Merge patterns."""

        def do(tx: Transaction, who: Principal, pattern_id: str, asked: Merge) -> str:
            if (asked.into is None) == (asked.pattern_ids is None):
                raise Malformed("Give either into or pattern_ids.", param="into")
            gone = [pattern_id] if asked.pattern_ids is None else _ids("pattern_ids", asked.pattern_ids)
            into = pattern_id if asked.into is None else _ids("into", [asked.into])[0]
            return pattern_changes.merge(tx, workspace=who.workspace, pattern_ids=gone, into=into, by=who.key_id)

        return await self._change(call, Merge, do)

    async def split(self, call: Call) -> Reply:
        """Split wordings off a pattern."""

        def do(tx: Transaction, who: Principal, pattern_id: str, asked: Split) -> str:
            fingerprints = _ids("fingerprints", asked.fingerprints)
            name = None if asked.name is None else _name(asked.name)
            return pattern_changes.split(
                tx,
                workspace=who.workspace,
                pattern_id=pattern_id,
                fingerprints=fingerprints,
                name=name,
                by=who.key_id,
            )

        return await self._change(call, Split, do)

    async def pin(self, call: Call) -> Reply:
        """Put issues into a pattern."""

        def do(tx: Transaction, who: Principal, pattern_id: str, asked: Pin) -> str:
            ids = self._known_issues(who.workspace, asked)
            return pattern_changes.pin(tx, workspace=who.workspace, pattern_id=pattern_id, issue_ids=ids, by=who.key_id)

        return await self._change(call, Pin, do)

    async def unpin(self, call: Call) -> Reply:
        """Let issues go where their wording belongs."""

        def do(tx: Transaction, who: Principal, pattern_id: str, asked: Pin) -> str:
            ids = _ids("issue_ids", asked.issue_ids)
            return pattern_changes.unpin(
                tx, workspace=who.workspace, pattern_id=pattern_id, issue_ids=ids, by=who.key_id
            )

        return await self._change(call, Pin, do)

    async def undo(self, call: Call) -> Reply:
        """Undo what a person did to a pattern."""

        def do(tx: Transaction, who: Principal, pattern_id: str, asked: Undo) -> str:
            return pattern_changes.undo(
                tx, workspace=who.workspace, pattern_id=pattern_id, change=asked.change_id, by=who.key_id
            )

        return await self._change(call, Undo, do)

    async def _change(
        self, call: Call, kind: type[Asked], do: Callable[[Transaction, Principal, str, Asked], str]
    ) -> Reply:
        """Read what is asked, do it, and show the pattern that has come of it: all or nothing, the answer included."""
        assert call.body is not None
        body = await call.body.read()
        who, pattern_id = call.who, call.require("pattern_id", str)
        # What is asked of one pattern is not what is asked of another, whatever the bodies say.
        call.know_body(body, salt=pattern_id.encode())
        asked = _read(body, kind)

        def change() -> Reply:
            with self._services.ledger.transaction() as tx:
                changed = pattern_changes.find(tx, workspace=who.workspace, pattern_id=do(tx, who, pattern_id, asked))
                # Memberships of its own: what is not committed yet is nobody else's to see.
                found = self._figures(Memberships().frames(tx, who.workspace), who.workspace, changed)
                return call.kept(tx, json_reply(200, _explained(tx, who.workspace, changed, found)))

        return await self._services.run(change)

    def _figures(self, frames: Frames, workspace: str, pattern_id: str) -> tuple[Row | None, list[Row]]:
        return read_one(
            self._services.warehouse, frames, workspace=workspace, pattern_id=pattern_id, at=datetime.now(UTC)
        )

    def _known_issues(self, workspace: str, asked: Pin) -> list[str]:
        ids = _ids("issue_ids", asked.issue_ids)
        for issue_id in ids:
            if self._issues.find(workspace=workspace, issue_id=issue_id) is None:
                raise NotFound(f"{issue_id} is no issue.", param="issue_ids")
        return ids


def _explained(
    tx: Transaction, workspace: str, pattern_id: str, figures: tuple[Row | None, list[Row]]
) -> pattern_shown.Shown:
    row, counted = figures
    name = pattern_shown.names_of(tx, [pattern_id])[pattern_id]
    wordings, of = pattern_shown.wordings_of(
        tx, workspace=workspace, pattern_id=pattern_id, counted=counted, limit=WORDINGS_SHOWN_MAX
    )
    changes = pattern_changes.changes_of(tx, workspace=workspace, pattern_id=pattern_id)
    shown = pattern_shown.pattern_object(pattern_id, name, row)
    return pattern_shown.explained(shown, row, wordings=wordings, of=of, changes=changes)


def _moment_and_place(cursor: Sequence[str | int | None] | None) -> tuple[datetime, Place | None]:
    """Tell the moment that all pages of a list are of, and where the last one ended."""
    if cursor is None:
        return datetime.now(UTC), None
    us, value, pattern_id = cast("tuple[int, int, str]", tuple(cursor))
    return _EPOCH + us * _MICROSECOND, (value, pattern_id)


def _read(body: bytes, kind: type[Asked]) -> Asked:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise Malformed(f"The body does not fit: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not valid JSON in UTF-8.") from None


def _ids(name: str, ids: list[str]) -> list[str]:
    """Check a list of ids; none of what it may hold is known to be one yet."""
    wanted = list(dict.fromkeys(ids))
    if not 1 <= len(wanted) <= IDS_MAX:
        raise Malformed(f"{name} must have 1 to {IDS_MAX} entries.", param=name)
    if any("\x00" in each for each in wanted):
        raise Malformed(f"{name} must not have a NUL character.", param=name)
    return wanted


def _name(name: str) -> str:
    if not name.strip(WHITE_SPACE) or len(name) > NAME_CHARACTERS_MAX or "\x00" in name:
        raise Malformed(f"name must have 1 to {NAME_CHARACTERS_MAX} characters.", param="name")
    return name


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = PatternRoutes(services)
    return declare_patterns(
        {
            "list_patterns": handlers.list_patterns,
            "get_pattern": handlers.get_pattern,
            "get_issue_pattern": handlers.get_issue_pattern,
            "merge_pattern": handlers.merge,
            "split_pattern": handlers.split,
            "pin_pattern": handlers.pin,
            "unpin_pattern": handlers.unpin,
            "undo_pattern": handlers.undo,
        }
    )
