"""ServiceNow's outbound REST messages: a record of the incident table, as a business rule sends it.

There is no form of ServiceNow's own; ours is in docs/webhooks.md: the table's fields by their names, in the body itself
or in an object `record` (or `result`, as its Table API answers). A field may be an object with `value` and
`display_value`. Times are those of the database: UTC, without a zone.
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

_NOT_TAKEN = frozenset({"delete", "deleted"})


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload."""
    del headers
    operation = payload.text("operation", "action")
    if operation is not None and operation.lower() in _NOT_TAKEN:
        return Ignored(operation)
    record = payload.at("record") or payload.at("result") or payload
    return record_of(
        external_id=_value(record, "number") or _value(record, "sys_id") or record.require_text("number"),
        title=_shown(record, "short_description") or record.require_text("short_description"),
        body=_shown(record, "description"),
        severity=_severity(record),
        team=_shown(record, "assignment_group"),
        external_url=record.text("url", "link") or payload.text("url", "link"),
        source_created_at=record.instant("sys_created_on.value", "sys_created_on"),
        source_updated_at=record.instant("sys_updated_on.value", "sys_updated_on"),
        metadata=metadata_of(
            event=operation,
            state=_shown(record, "state"),
            priority=_shown(record, "priority"),
            category=_shown(record, "category"),
            table=_value(record, "sys_class_name"),
            sys_id=_value(record, "sys_id"),
            assigned_to=_shown(record, "assigned_to"),
            caller=_shown(record, "caller_id"),
        ),
    )


def _severity(record: Payload) -> str | None:
    priority = _value(record, "priority") or _shown(record, "priority")
    return severity_of_word(priority) or severity_of_word(_value(record, "severity"))


def _value(record: Payload, name: str) -> str | None:
    return record.text(f"{name}.value", name)


def _shown(record: Payload, name: str) -> str | None:
    return record.text(f"{name}.display_value", f"{name}.value", name)
