"""Jira's webhooks: `jira:issue_…` events, and the issue data that its automation sends.

https://developer.atlassian.com/server/jira/platform/webhooks/ has the fields. A description of the newer API is a tree
of nodes (Atlassian Document Format), of which the text is taken.
"""

from collections.abc import Iterator, Mapping
from typing import cast
from urllib.parse import quote, urlsplit

from ingest_platform.feeds.issues.connectors.payload import (
    Ignored,
    Payload,
    Record,
    metadata_of,
    record_of,
    severity_of_word,
)

_TAKEN = ("jira:issue_created", "jira:issue_updated")
_BLOCKS = frozenset({"paragraph", "heading", "codeBlock", "listItem", "blockquote", "tableRow", "rule"})
# Deeper than people nest lists, and far above the JSON's own limit.
_DEPTH_MAX = 64


def read(payload: Payload, headers: Mapping[str, str]) -> Record | Ignored:
    """Read a payload."""
    del headers
    event = payload.text("webhookEvent")
    if event is not None and event not in _TAKEN:
        return Ignored(event)
    # Automation sends the issue itself.
    issue = payload if event is None and payload.at("fields") is not None else payload.require("issue")
    fields, key = issue.require("fields"), issue.require_text("key")
    return record_of(
        external_id=key,
        title=fields.require_text("summary"),
        body=_body(fields),
        severity=severity_of_word(fields.text("priority.name")),
        team=_team(fields),
        external_url=_url(issue.text("self"), key),
        source_created_at=fields.instant("created"),
        source_updated_at=fields.instant("updated"),
        metadata=metadata_of(
            event=event,
            status=fields.text("status.name"),
            type=fields.text("issuetype.name"),
            project=fields.text("project.key"),
            priority=fields.text("priority.name"),
            labels=fields.texts("labels"),
            reporter=fields.text("reporter.displayName", "reporter.name"),
            assignee=fields.text("assignee.displayName", "assignee.name"),
        ),
    )


def _team(fields: Payload) -> str | None:
    """Tell who looks after it: its first component, or else its project."""
    components = [name for each in fields.objects("components") if (name := each.text("name")) is not None]
    return components[0] if components else fields.text("project.name", "project.key")


def _url(self: str | None, key: str) -> str | None:
    """Make the address for people of the one for programs.

    >>> _url("https://acme.atlassian.net/rest/api/2/issue/10002", "ABC-1")
    'https://acme.atlassian.net/browse/ABC-1'
    """
    parts = urlsplit(self or "")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        return None
    root = parts.path.partition("/rest/")[0]
    return f"{parts.scheme}://{parts.netloc}{root}/browse/{quote(key)}"


def _body(fields: Payload) -> str | None:
    tree = fields.at("description")
    return fields.text("description") if tree is None else "".join(_words(tree.members, depth=0)).strip() or None


def _words(node: Mapping[str, object], *, depth: int) -> Iterator[str]:
    text, content = node.get("text"), node.get("content")
    if isinstance(text, str):
        yield text
    if node.get("type") == "hardBreak":
        yield "\n"
    if isinstance(content, list) and depth < _DEPTH_MAX:
        for child in cast("list[object]", content):
            if isinstance(child, dict):
                yield from _words(cast("dict[str, object]", child), depth=depth + 1)
    if node.get("type") in _BLOCKS:
        yield "\n"
