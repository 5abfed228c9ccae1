"""GitHub's webhooks: `issues` events. https://docs.github.com/webhooks/webhook-events-and-payloads#issues."""

from collections.abc import Mapping

from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    Record,
    metadata_of,
    record_of,
    severity_of_labels,
)

EVENT_HEADER = "x-github-event"
ISSUES = "issues"


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload. Without the header that names the event (some proxies drop it) its shape has to do."""
    event = headers.get(EVENT_HEADER) or _guess(payload)
    if event != ISSUES:
        return Ignored(event)
    action = payload.require_text("action")
    if action == "deleted":
        return Ignored(f"{ISSUES}.{action}")
    issue = payload.require("issue")
    labels = [name for label in issue.objects("labels") if (name := label.text("name")) is not None]
    repository = payload.require("repository").require_text("full_name")
    return record_of(
        external_id=f"{repository}#{issue.require_text('number')}",
        title=issue.require_text("title"),
        body=issue.text("body"),
        severity=severity_of_labels(labels),
        external_url=issue.text("html_url"),
        source_created_at=issue.instant("created_at"),
        source_updated_at=issue.instant("updated_at"),
        metadata=metadata_of(
            event=f"{ISSUES}.{action}",
            state=issue.text("state"),
            state_reason=issue.text("state_reason"),
            labels=labels,
            author=issue.text("user.login"),
            assignees=[name for each in issue.objects("assignees") if (name := each.text("login")) is not None],
            milestone=issue.text("milestone.title"),
        ),
    )


def _guess(payload: Payload) -> str:
    if payload.text("zen") is not None:
        return "ping"
    whole = payload.at("issue") is not None and payload.text("action") is not None
    return ISSUES if whole and payload.at("comment") is None else payload.require_text("action")
