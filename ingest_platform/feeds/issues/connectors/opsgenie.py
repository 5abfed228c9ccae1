"""Opsgenie's webhook integration: actions on alerts. Its documentation of "Opsgenie Edge / Webhook" has the fields."""

from collections.abc import Mapping

from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    Record,
    metadata_of,
    record_of,
    severity_of_word,
)

_NOT_TAKEN = frozenset({"Delete"})


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload. Times are in milliseconds (`createdAt`) and nanoseconds (`updatedAt`) since 1970."""
    del headers
    action = payload.require_text("action")
    alert = payload.at("alert")
    if action in _NOT_TAKEN or alert is None:
        return Ignored(action)
    teams = alert.texts("teams") or [
        name for team in alert.objects("teams") if (name := team.text("name", "id")) is not None
    ]
    return record_of(
        external_id=alert.require_text("alertId", "id"),
        title=alert.require_text("message"),
        body=alert.text("description"),
        severity=severity_of_word(alert.text("priority")),
        team=alert.text("team") or (teams[0] if teams else None),
        external_url=alert.text("url"),
        source_created_at=alert.instant("createdAt"),
        source_updated_at=alert.instant("updatedAt"),
        metadata=metadata_of(
            event=action,
            tiny_id=alert.text("tinyId"),
            alias=alert.text("alias"),
            entity=alert.text("entity"),
            source=alert.text("source"),
            tags=alert.texts("tags"),
            user=alert.text("username", "userId"),
            integration=payload.text("integrationName"),
        ),
    )
