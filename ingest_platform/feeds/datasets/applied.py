"""Datasets as `ingest apply` declares them: made, changed or deleted until the registry says what the file says."""

from collections.abc import Sequence
from typing import cast

from ingest_platform.domain.errors import Refusal
from ingest_platform.domain.feed import Kept
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.datasets.registry import Dataset
from ingest_platform.feeds.datasets.schema import check_fields
from ingest_platform.storage.catalog import Declared
from ingest_platform.storage.ledger import Transaction


def keep(tx: Transaction, declared: Sequence[Declared]) -> list[Kept]:
    """Bring datasets to what is declared; one that can't be is told with the reason, and then nothing is applied."""
    return [_keep(tx, each) for each in declared]


def _keep(tx: Transaction, declared: Declared) -> Kept:
    workspace, project = declared.workspace, str(declared.body["project"])
    registry.lock(tx, workspace)
    if not registry.has_project(tx, workspace=workspace, project=project):
        return Kept(wrong=f"{workspace} has no project {project!r}; list it under the workspace's `projects:`")
    if not registry.is_name(declared.id):
        return Kept(wrong=f"its name {registry.NAME_RULE}")
    found = registry.find_named(tx, workspace=workspace, project=project, name=declared.id)
    if declared.retired:
        return _retire(tx, found)
    try:
        return _put(tx, found, declared, project=project)
    except Refusal as refusal:
        return Kept(wrong=refusal.message)


def _retire(tx: Transaction, found: Dataset | None) -> Kept:
    if found is None:
        return Kept()
    registry.delete(tx, found)
    return Kept(retired=True, assigned=str(found.id))


def _put(tx: Transaction, found: Dataset | None, declared: Declared, *, project: str) -> Kept:
    given = declared.body.get("fields")
    fields = None if given is None else check_fields(given)
    # What is not said of a dataset that stands stays as it is.
    description = cast("str | None", declared.body.get("description"))
    if found is None:
        made = registry.create(
            tx, workspace=declared.workspace, project=project, name=declared.id, description=description or ""
        )
        if fields is not None:
            registry.register_schema(tx, made, fields)
        return Kept(created=True, assigned=str(made.id))
    changed: dict[str, tuple[object, object]] = {}
    if description is not None and description != found.description:
        registry.change(tx, found, description=description)
        changed["description"] = (found.description, description)
    if fields is not None and registry.register_schema(tx, found, fields):
        changed["fields"] = (None, fields)
    return Kept(changed=changed, assigned=str(found.id))
