"""Reading issues back, and saying where the work on one stands. What the routes promise: `reading_declared.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import cast

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.lists import list_reply
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import NotFound
from ingest_platform.feeds.issues import FEED, memberships, statuses, wire
from ingest_platform.feeds.issues.history import read_history
from ingest_platform.feeds.issues.identity import source_key_of
from ingest_platform.feeds.issues.listing import Wanted, read_page
from ingest_platform.feeds.issues.pending import Issue, Issues
from ingest_platform.feeds.issues.reading_declared import declare_reading
from ingest_platform.feeds.issues.references import severity_of
from ingest_platform.feeds.issues.shown import Shown, issue_object
from ingest_platform.feeds.issues.statuses import UNTOUCHED, Status
from ingest_platform.pipeline.door import check_record

# What people may change of an issue; the rest is its source's to say.
CHANGE = Contract(
    name="issue_change",
    extra_allowed=False,
    fields=(Field(name="status", kind=Kind.STRING, choices=tuple(Status), description="Where the work on it stands."),),
)


class _Change(msgspec.Struct):
    status: Status


_decode = msgspec.json.Decoder(_Change).decode


class IssueRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._issues = Issues(services.platform, FEED)

    async def get_issue(self, call: Call) -> Reply:
        """Show an issue as it stands."""
        workspace, issue_id = call.who.workspace, call.require("issue_id", str)
        return await self._services.run(
            lambda: json_reply(200, self._shown(workspace, self._find(workspace, issue_id)))
        )

    async def change_issue(self, call: Call) -> Reply:
        """Set an issue's status."""
        assert call.body is not None
        status = _status_in(await call.body.read())
        who, issue_id = call.who, call.require("issue_id", str)

        def change() -> Reply:
            issue = self._find(who.workspace, issue_id)
            with self._services.ledger.transaction() as tx:
                statuses.put(tx, workspace=who.workspace, issue_id=issue_id, status=status, by=who.key_id)
            return json_reply(200, self._shown(who.workspace, issue))

        return await self._services.run(change)

    async def list_issues(self, call: Call) -> Reply:
        """List issues."""
        wanted, limit, cursor = _wanted(call), call.require("limit", int), call.get("cursor", str)
        cursors, purpose = self._services.cursors, f"issues:{wanted}"

        def page() -> Reply:
            behind = None if cursor is None else tuple(cursors.read(cursor, purpose=purpose))
            with self._services.ledger.connection() as tx:
                frames = wanted.frames(tx)
            # No connection is held while the lake is searched: there are fewer of them than threads.
            place = cast("tuple[int | str, str] | None", behind)
            found = read_page(self._services.warehouse, wanted, frames, behind=place, limit=limit)
            issues = [Issue(row=row, pending=False) for row in found.rows]
            shown = self._shown_all(wanted.workspace, issues, status=wanted.status)
            next_cursor = None if found.last is None else cursors.write(purpose=purpose, place=found.last)
            return list_reply(shown, next_cursor=next_cursor, total=found.total)

        return await self._services.run(page)

    async def list_history(self, call: Call) -> Reply:
        """List what records said of an issue and what people did about it."""
        workspace, issue_id = call.who.workspace, call.require("issue_id", str)
        limit, cursor = call.require("limit", int), call.get("cursor", str)
        cursors, purpose = self._services.cursors, f"issue history:{workspace}:{issue_id}"

        def page() -> Reply:
            behind = None if cursor is None else tuple(cursors.read(cursor, purpose=purpose))
            # Also for the refusal of an issue that is not there.
            self._find(workspace, issue_id)
            found = read_history(
                self._services.platform,
                workspace=workspace,
                issue_id=issue_id,
                behind=cast("tuple[int, int, int, int] | None", behind),
                limit=limit,
            )
            next_cursor = None if found.last is None else cursors.write(purpose=purpose, place=found.last)
            return list_reply(found.entries, next_cursor=next_cursor, total=found.total)

        return await self._services.run(page)

    def _find(self, workspace: str, issue_id: str) -> Issue:
        """Look up an issue; NotFound in the same words whether there is none or it is another workspace's."""
        issue = self._issues.find(workspace=workspace, issue_id=issue_id)
        if issue is None:
            raise NotFound("There is no such issue.")
        return issue

    def _shown(self, workspace: str, issue: Issue) -> Shown:
        return self._shown_all(workspace, [issue])[0]

    def _shown_all(self, workspace: str, issues: Iterable[Issue], *, status: Status | None = None) -> list[Shown]:
        """Add status and pattern, and show; `status` is known if only issues of that one were asked for."""
        by_id = {cast("str", issue.row["issue_id"]): issue for issue in issues}
        if not by_id:
            return []
        fingerprints = {issue_id: cast("str", issue.row["fingerprint"]) for issue_id, issue in by_id.items()}
        with self._services.ledger.connection() as tx:
            standings = statuses.standings(tx, workspace=workspace, issue_ids=by_id)
            patterns = memberships.patterns_of(tx, workspace=workspace, issues=fingerprints)
        if status is not None:
            # As it was when the list was made, whatever somebody has made of it since.
            standings = {each: replace(standings.get(each, UNTOUCHED), status=status) for each in by_id}
        return [
            issue_object(
                issue.row,
                standing=standings.get(issue_id, UNTOUCHED),
                pattern_id=patterns.get(issue_id),
                pending=issue.pending,
            )
            for issue_id, issue in by_id.items()
        ]


def _status_in(body: bytes) -> Status:
    """Read the status from the body of a change; raise Malformed naming each field that is wrong."""
    problems = check_record(body, CHANGE)
    if problems:
        raise wire.bad_record(problems)
    return _decode(body).status


def _wanted(call: Call) -> Wanted:
    status, severity, source = (call.get(name, str) for name in ("status", "severity", "source"))
    return Wanted(
        workspace=call.who.workspace,
        status=None if status is None else Status(status),
        severity=None if severity is None else severity_of(severity),
        source_key=None if source is None else source_key_of(source),
        team=call.get("team", str),
        pattern_id=call.get("pattern_id", str),
        text=call.get("q", str),
        sort=call.require("sort", str),
    )


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = IssueRoutes(services)
    return declare_reading(
        get_issue=handlers.get_issue,
        change_issue=handlers.change_issue,
        list_issues=handlers.list_issues,
        list_history=handlers.list_history,
        change=CHANGE,
    )
