"""Connectors: each tool's own webhook payloads, read as records of issues. One module a tool.

What a connector is called, who may use it and how its record is taken is not known here (`inbound.py`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ingest_platform.feeds.issues.connected import TOOLS
from ingest_platform.feeds.issues.connectors import (
    github,
    jira,
    linear,
    opsgenie,
    pagerduty,
    servicenow,
    zendesk,
)
from ingest_platform.feeds.issues.connectors.payload import Ignored, Payload, Record

Read = Callable[[Payload, Mapping[str, str]], Record | Ignored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """How a tool's payloads are read (`headers` by lower-case name), and what of them is taken."""

    read: Read
    taken: str


# By the tool's name, which is the connector's type and the source of its records.
READERS: Mapping[str, Reader] = {
    "github": Reader(read=github.read, taken="`issues` events but `deleted`"),
    "jira": Reader(read=jira.read, taken="`jira:issue_created` and `jira:issue_updated`, and automation's issue data"),
    "pagerduty": Reader(read=pagerduty.read, taken="V3 events about incidents (`incident.…`)"),
    "opsgenie": Reader(read=opsgenie.read, taken="alert actions but `Delete`"),
    "zendesk": Reader(read=zendesk.read, taken="ticket events, and triggers whose body has a `ticket`"),
    "linear": Reader(read=linear.read, taken="`Issue` events but `remove`"),
    "servicenow": Reader(read=servicenow.read, taken="a record as JSON, as business rules send it, but deletions"),
}

assert set(READERS) == set(TOOLS), READERS
