"""PagerDuty's V3 webhooks: events about incidents. https://developer.pagerduty.com/docs/webhooks-overview says more."""

from collections.abc import Mapping

from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    Record,
    metadata_of,
    record_of,
    severity_of_word,
)

# A notification or a note about an incident has another kind of data.
_INCIDENT = "incident"
_OF_URGENCY = {"high": "p2", "low": "p4"}


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload."""
    del headers
    event = payload.require("event")
    kind = event.require_text("event_type")
    data = event.at("data")
    if not kind.startswith(f"{_INCIDENT}.") or (data is not None and data.text("type") not in {None, _INCIDENT}):
        return Ignored(kind)
    incident = event.require("data")
    teams = [name for team in incident.objects("teams") if (name := team.text("summary", "name")) is not None]
    priority, urgency = incident.text("priority.summary", "priority.name"), incident.text("urgency")
    return record_of(
        external_id=incident.require_text("id"),
        title=incident.require_text("title", "summary"),
        severity=severity_of_word(priority) or _OF_URGENCY.get(urgency or ""),
        team=teams[0] if teams else incident.text("service.summary", "service.name"),
        external_url=incident.text("html_url"),
        source_created_at=incident.instant("created_at"),
        source_updated_at=event.instant("occurred_at"),
        metadata=metadata_of(
            event=kind,
            status=incident.text("status"),
            number=incident.number("number"),
            urgency=urgency,
            priority=priority,
            service=incident.text("service.summary", "service.name"),
            incident_key=incident.text("incident_key"),
            assignees=[name for each in incident.objects("assignees") if (name := each.text("summary")) is not None],
        ),
    )
