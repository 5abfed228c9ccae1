"""Linear's webhooks: `Issue` events. https://linear.app/developers/webhooks has the fields."""

from collections.abc import Mapping

from ingest_platform.feeds.issues.connectors.payload import Ignored, Payload, Record, metadata_of, record_of

_ISSUE = "Issue"
_NOT_TAKEN = frozenset({"remove"})
# 0 is no priority.
_SEVERITIES = {1: "p1", 2: "p2", 3: "p3", 4: "p4"}


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload."""
    del headers
    kind, action = payload.require_text("type"), payload.require_text("action")
    if kind != _ISSUE or action in _NOT_TAKEN:
        return Ignored(f"{kind}.{action}")
    issue = payload.require("data")
    return record_of(
        external_id=_identifier(issue),
        title=issue.require_text("title"),
        body=issue.text("description"),
        severity=_SEVERITIES.get(issue.number("priority") or 0),
        team=issue.text("team.name", "team.key"),
        external_url=payload.text("url") or issue.text("url"),
        source_created_at=issue.instant("createdAt"),
        source_updated_at=issue.instant("updatedAt"),
        metadata=metadata_of(
            event=f"{kind}.{action}",
            state=issue.text("state.name"),
            labels=[name for label in issue.objects("labels") if (name := label.text("name")) is not None],
            assignee=issue.text("assignee.name"),
            project=issue.text("project.name"),
            id=issue.text("id"),
        ),
    )


def _identifier(issue: Payload) -> str:
    key, number = issue.text("team.key"), issue.text("number")
    made = None if key is None or number is None else f"{key}-{number}"
    return issue.text("identifier") or made or issue.require_text("identifier")
