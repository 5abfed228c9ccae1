"""Workspaces: what an entry of that section must be, and how it is kept."""

import re
from typing import cast

from ingest_platform.declaring.changes import AppliedChange, Sign
from ingest_platform.declaring.files import WORKSPACES
from ingest_platform.declaring.mistakes import Entry, Mistake, Place
from ingest_platform.storage import workspaces
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.workspaces import Workspace

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_NAME_RULE = "1 to 63 of a-z, 0-9 and -, not beginning with -"
_FEED_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")


def check_workspace(entry: Entry, mistakes: list[Mistake]) -> Workspace | None:
    """Hold an entry against what a workspace is; None if something is wrong, which is added to the mistakes."""
    before, values, place = len(mistakes), entry.values, entry.place
    allowed = ("name", "projects", "quotas", "rate_limits")
    mistakes += [
        place.wrong(f"is unknown; there are {', '.join(allowed)}", field=name) for name in values if name not in allowed
    ]
    name = values.get("name")
    projects: object = values.get("projects") or cast("list[object]", [])
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        mistakes.append(place.wrong(f"must be {_NAME_RULE}", field="name"))
    if not isinstance(projects, list) or not all(
        isinstance(each, str) and _NAME.fullmatch(each) for each in cast("list[object]", projects)
    ):
        mistakes.append(place.wrong(f"must be a list of names, each {_NAME_RULE}", field="projects"))
    limits = {
        field: _check_limits(values.get(field) or {}, entry.place, field=field, least=least, mistakes=mistakes)
        for field, least in (("quotas", -1), ("rate_limits", 1))
    }
    if len(mistakes) > before:
        return None
    return Workspace(
        name=cast("str", name),
        projects=cast("list[str]", projects),
        quotas=limits["quotas"],
        rate_limits=limits["rate_limits"],
    )


def _check_limits(given: object, place: Place, *, field: str, least: int, mistakes: list[Mistake]) -> dict[str, int]:
    if not isinstance(given, dict):
        mistakes.append(place.wrong("must be a mapping of feeds to whole numbers", field=field))
        return {}
    limits: dict[str, int] = {}
    for name, limit in cast("dict[object, object]", given).items():
        here = f"{field}.{name}"
        if not isinstance(name, str) or _FEED_NAME.fullmatch(name) is None:
            mistakes.append(place.wrong("must be the name of a feed", field=here))
        elif not isinstance(limit, int) or isinstance(limit, bool) or limit < least:
            mistakes.append(place.wrong(f"must be a whole number, {least} or more, not {limit!r}", field=here))
        else:
            limits[name.replace("-", "_")] = limit
    return limits


def put_workspace(tx: Transaction, workspace: Workspace) -> AppliedChange:
    """Keep a workspace as it is declared."""
    before = workspaces.find(tx, workspace.name)
    fields = ("projects", "rate_limits", "quotas")
    wanted: dict[str, object] = {name: getattr(workspace, name) for name in fields}
    found: dict[str, object] = {} if before is None else {name: getattr(before, name) for name in fields}
    changed = {name: (found.get(name), value) for name, value in wanted.items() if found.get(name) != value}
    if changed or before is None:
        workspaces.put(tx, workspace)
    sign = Sign.CREATED if before is None else Sign.CHANGED if changed else Sign.UNCHANGED
    return AppliedChange(
        sign=sign, section=WORKSPACES, workspace=workspace.name, id=workspace.name, version=None, fields=changed
    )
