"""Zendesk's webhooks: ticket events, and what triggers and automations send.

Events have the form of https://developer.zendesk.com/api-reference/webhooks/event-types/ticket-events/. The body of a
trigger is written by an administrator; ours is in docs/webhooks.md: an object `ticket` with the same names.
"""

from collections.abc import Mapping

from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    Record,
    metadata_of,
    record_of,
    severity_of_word,
)

_PREFIX = "zen:event-type:"
_TICKET = "ticket."
_NOT_TAKEN = frozenset({"ticket.deleted", "ticket.soft_deleted", "ticket.permanently_deleted", "ticket.marked_as_spam"})


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload."""
    del headers
    kind = payload.text("type")
    if kind is not None and kind.startswith(_PREFIX):
        event = kind.removeprefix(_PREFIX)
        if not event.startswith(_TICKET) or event in _NOT_TAKEN:
            return Ignored(event)
        return _record(payload.require("detail"), event=event, at=payload.instant("time"))
    return _record(payload.require("ticket"), event=payload.text("event"), at=None)


def _record(ticket: Payload, *, event: str | None, at: str | None) -> Record:
    return record_of(
        external_id=ticket.require_text("id"),
        title=ticket.require_text("subject", "title"),
        body=ticket.text("description"),
        severity=severity_of_word(ticket.text("priority")),
        team=ticket.text("group.name", "group_name", "group", "group_id"),
        external_url=_url(ticket),
        source_created_at=ticket.instant("created_at"),
        source_updated_at=ticket.instant("updated_at") or at,
        metadata=metadata_of(
            event=event,
            status=ticket.text("status"),
            type=ticket.text("type"),
            priority=ticket.text("priority"),
            tags=ticket.texts("tags"),
            requester=ticket.text("requester", "requester_id"),
            external_id=ticket.text("external_id"),
        ),
    )


def _url(ticket: Payload) -> str | None:
    """Read the ticket's address; the placeholder for it has no scheme."""
    link = ticket.text("url", "link")
    return link if link is None or "://" in link else f"https://{link}"
