"""The control plane of datasets: made, shown, changed and deleted, and their schemas registered, with a PAT.

What the routes promise is in `declared.py`; how datasets are kept, in `registry.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.lists import list_reply
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.services import Services
from ingest_platform.domain.contract import Kind
from ingest_platform.domain.errors import Malformed, NotFound
from ingest_platform.feeds.datasets import registry, wire
from ingest_platform.feeds.datasets.registry import (
    DESCRIPTION_CHARACTERS_MAX,
    NAME_CHARACTERS_MAX,
    Dataset,
)
from ingest_platform.feeds.datasets.schema import read_schema
from ingest_platform.feeds.datasets.standing import StandingDatasets
from ingest_platform.storage.ledger import Transaction

Value = TypeVar("Value")
ROOT = "/api/datasets"
_MEMBERS = ("name", "description")
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """What is said of a dataset; None where nothing is."""

    name: str | None
    description: str | None


class ControlRoutes:
    """The handlers."""

    def __init__(self, services: Services, standing: StandingDatasets) -> None:
        self._services = services
        self._standing = standing

    async def list_datasets(self, call: Call) -> Reply:
        """List the datasets of a project."""
        workspace, project = call.who.workspace, call.require("project", str)
        limit, cursor = call.require("limit", int), call.get("cursor", str)
        purpose = f"datasets:{workspace}:{project}"
        after = 0 if cursor is None else int(self._services.cursors.read(cursor, purpose=purpose)[0] or 0)

        def read(tx: Transaction) -> tuple[list[Dataset], int]:
            _require_project(tx, call)
            found = registry.list_datasets(tx, workspace=workspace, project=project, after=after, limit=limit + 1)
            return found, registry.count(tx, workspace=workspace, project=project)

        found, total = await self._services.read(read)
        page = found[:limit]
        more = len(found) > limit
        next_cursor = self._services.cursors.write(purpose=purpose, place=[page[-1].id]) if more else None
        return list_reply([wire.shown_dataset(each) for each in page], next_cursor=next_cursor, total=total)

    async def create(self, call: Call) -> Reply:
        """Make a dataset."""
        given = _read_given(await _body(call))
        if given.name is None:
            raise Malformed("Missing field: name")
        name, description = given.name, given.description or ""

        def write(tx: Transaction) -> Reply:
            _require_project(tx, call)
            made = registry.create(
                tx,
                workspace=call.who.workspace,
                project=call.require("project", str),
                name=name,
                description=description,
            )
            return call.kept(tx, _about(made, status=201))

        return await self._services.write(write)

    async def get(self, call: Call) -> Reply:
        """Show a dataset."""
        return _about(await self._services.read(lambda tx: dataset_of(tx, call)))

    async def change(self, call: Call) -> Reply:
        """Give a dataset another name or description."""
        given = _read_given(await _body(call))
        changed = await self._write(
            call, lambda tx, dataset: registry.change(tx, dataset, name=given.name, description=given.description)
        )
        return _about(changed)

    async def delete(self, call: Call) -> Reply:
        """Delete a dataset."""
        try:
            await self._write(call, registry.delete)
        finally:
            # Also if it is not known whether it was.
            self._standing.forget()
        return json_reply(200, {"success": True})

    async def get_schema(self, call: Call) -> Reply:
        """Show the schema of a dataset, or of the project's default dataset."""

        def read(tx: Transaction) -> Dataset | None:
            return dataset_of(tx, call) if call.get("id", str) is not None else _default(tx, call)

        dataset = await self._services.read(read)
        if dataset is None or dataset.fields is None:
            raise wire.no_schema()
        return _about_schema(dataset, status=200)

    async def register_schema(self, call: Call) -> Reply:
        """Register the schema of a dataset, or of the project's default dataset, which is made if there is none."""
        fields = read_schema(await _body(call))

        def write(tx: Transaction) -> Reply:
            registry.lock(tx, call.who.workspace)
            dataset = dataset_of(tx, call) if call.get("id", str) is not None else _default_or_new(tx, call)
            made = registry.register_schema(tx, dataset, fields)
            found = registry.find(tx, workspace=dataset.workspace, project=dataset.project, dataset_id=dataset.id)
            assert found is not None
            return call.kept(tx, _about_schema(found, status=201 if made else 200))

        return await self._services.write(write)

    async def _write(self, call: Call, work: Callable[[Transaction, Dataset], Value]) -> Value:
        def write(tx: Transaction) -> Value:
            registry.lock(tx, call.who.workspace)
            return work(tx, dataset_of(tx, call))

        return await self._services.write(write)


def _require_project(tx: Transaction, call: Call) -> None:
    """Raise NotFound unless the project is one of the workspace's, and the token's own if it has one."""
    project = call.require("project", str)
    own = call.who.project in {None, project}
    if not own or not registry.has_project(tx, workspace=call.who.workspace, project=project):
        raise NotFound(wire.NO_PROJECT)


def dataset_of(tx: Transaction, call: Call) -> Dataset:
    """Look up the dataset that a path speaks of. Raises NotFound for what is not the workspace's, or not there."""
    _require_project(tx, call)
    dataset_id = registry.read_id(call.require("id", str))
    assert dataset_id is not None
    found = registry.find(tx, workspace=call.who.workspace, project=call.require("project", str), dataset_id=dataset_id)
    if found is None:
        raise NotFound(wire.NO_DATASET)
    return found


def _default(tx: Transaction, call: Call) -> Dataset | None:
    _require_project(tx, call)
    return registry.default_of(tx, workspace=call.who.workspace, project=call.require("project", str))


def _default_or_new(tx: Transaction, call: Call) -> Dataset:
    _require_project(tx, call)
    return registry.default_or_new(tx, workspace=call.who.workspace, project=call.require("project", str))


async def _body(call: Call) -> bytes:
    assert call.body is not None
    body = await call.body.read()
    # The same key under another path is another request.
    call.know_body(body, salt=call.path.encode())
    return body


def _about(dataset: Dataset, *, status: int = 200) -> Reply:
    return json_reply(status, {"dataset": wire.shown_dataset(dataset)})


def _about_schema(dataset: Dataset, *, status: int) -> Reply:
    return json_reply(status, {"dataset": wire.shown_dataset(dataset), "schema": wire.shown_schema(dataset)})


# What is said of a dataset


def _read_given(body: bytes) -> _Given:
    try:
        given: object = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed(wire.INVALID_JSON) from None
    if not isinstance(given, dict):
        raise Malformed(wire.NOT_AN_OBJECT)
    members = cast("dict[str, object]", given)
    unknown = next((name for name in members if name not in _MEMBERS), None)
    if unknown is not None:
        raise Malformed(f"Extra field: {unknown[:NAME_CHARACTERS_MAX]}")
    name, description = members.get("name"), members.get("description")
    return _Given(
        name=None if "name" not in members else check_name(name),
        description=None if description is None else check_text("description", description),
    )


def check_name(given: object) -> str:
    """Check a dataset's name. Raises Malformed."""
    name = check_text("name", given)
    if not registry.is_name(name):
        raise Malformed(f"Invalid name: {registry.NAME_RULE}")
    return name


def check_text(field: str, given: object) -> str:
    """Check a text that is shown to people. Raises Malformed."""
    if not isinstance(given, str) or not _sound(given):
        raise Malformed(wire.wrong_type(field, Kind.STRING))
    if len(given) > DESCRIPTION_CHARACTERS_MAX:
        raise Malformed(f"Invalid {field}: must have at most {DESCRIPTION_CHARACTERS_MAX} characters")
    return given


def _sound(text: str) -> bool:
    """Tell whether PostgreSQL can keep a text: no NUL, and no half of a character."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
