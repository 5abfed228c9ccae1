"""Reading machine data back: points from the warehouse, and what is declared from the catalog. Only the key's sites."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from ingest_platform.api.call import Call
from ingest_platform.api.cursors import Cursors
from ingest_platform.api.lists import list_reply
from ingest_platform.api.replies import Reply
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Malformed
from ingest_platform.domain.timestamps import format_instant
from ingest_platform.feeds.machine_data.load import TABLE
from ingest_platform.pipeline.admit import Principal
from ingest_platform.storage import catalog
from ingest_platform.storage.ledger import Transaction
from ingest_platform.storage.warehouse import rows_of

CONFIGS = "machine_data_point_configs"
SITES = "sites"
PAGE_MAX = 50
POINTS_PAGE, POINTS_PAGE_MAX = 1_000, 10_000

Item = dict[str, object]


class ReadRoutes:
    """The handlers that read."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def list_points(self, call: Call) -> Reply:
        """List points by instant."""
        who = call.who
        entries = await self._services.read(lambda tx: _configs(tx, who))
        allowed = [entry.id for entry in entries]
        config_id = call.get("config_id", str)
        if config_id is not None:
            allowed = [each for each in allowed if each == config_id]
        query = PointsQuery(call, workspace=who.workspace, config_ids=allowed, cursors=self._services.cursors)
        return await self._services.run(lambda: self._points(query))

    def _points(self, query: "PointsQuery") -> Reply:
        warehouse = self._services.warehouse
        if not query.config_ids:
            return list_reply([], next_cursor=None, total=0)
        warehouse.ensure([TABLE])
        rows = warehouse.query(*query.page()).to_pylist()
        total = int(cast("int", warehouse.query(*query.count()).to_pylist()[0]["n"]))
        page = rows[: query.limit]
        next_cursor = query.cursor_behind(page[-1]) if len(rows) > query.limit else None
        return list_reply([_point(row) for row in page], next_cursor=next_cursor, total=total)

    async def list_configs(self, call: Call) -> Reply:
        """List the configured data points."""
        wanted = {name: call.get(name, str) for name in ("site", "machine", "measurement")}

        def chosen(tx: Transaction) -> list[Item]:
            return [
                {"id": entry.id, "version": entry.version, **entry.body}
                for entry in _configs(tx, call.who)
                if all(value is None or entry.body.get(name) == value for name, value in wanted.items())
            ]

        return await self._page(call, chosen, purpose=f"configs:{wanted}", key="id")

    async def list_machines(self, call: Call) -> Reply:
        """List the machines of the configured data points."""
        return await self._page(call, lambda tx: _grouped(tx, call.who, "machine"), purpose="machines", key="machine")

    async def list_measurements(self, call: Call) -> Reply:
        """List what is measured."""
        return await self._page(
            call, lambda tx: _grouped(tx, call.who, "measurement"), purpose="measurements", key="measurement"
        )

    async def list_sites(self, call: Call) -> Reply:
        """List the sites."""

        def sites(tx: Transaction) -> list[Item]:
            entries = catalog.current(tx, workspace=call.who.workspace, kind=SITES)
            return [{"site": entry.id} for entry in entries if _may_see(call.who, entry.id)]

        return await self._page(call, sites, purpose="sites", key="site")

    async def _page(self, call: Call, read: Callable[[Transaction], list[Item]], *, purpose: str, key: str) -> Reply:
        """Page through a list that is short enough to be read whole; by its key, so that inserts shift nothing."""
        limit, cursor, cursors = call.require("limit", int), call.get("cursor", str), self._services.cursors

        def page(tx: Transaction) -> Reply:
            after = "" if cursor is None else str(cursors.read(cursor, purpose=purpose)[0])
            everything = sorted(read(tx), key=lambda item: str(item[key]))
            behind = [item for item in everything if str(item[key]) > after]
            shown, more = behind[:limit], len(behind) > limit
            next_cursor = cursors.write(purpose=purpose, place=[str(shown[-1][key])]) if more else None
            return list_reply(shown, next_cursor=next_cursor, total=len(everything))

        return await self._services.read(page)


def _may_see(who: Principal, site: object) -> bool:
    return who.sites is None or site in who.sites


def _configs(tx: Transaction, who: Principal) -> Sequence[catalog.Entry]:
    entries = catalog.current(tx, workspace=who.workspace, kind=CONFIGS)
    return [entry for entry in entries if _may_see(who, entry.body["site"])]


def _grouped(tx: Transaction, who: Principal, name: str) -> list[Item]:
    """Group the configured data points by a word of theirs."""
    groups: dict[str, list[catalog.Entry]] = {}
    for entry in _configs(tx, who):
        groups.setdefault(str(entry.body[name]), []).append(entry)
    other = "measurement" if name == "machine" else "machine"
    return [
        {
            name: word,
            "sites": sorted({str(entry.body["site"]) for entry in entries}),
            f"{other}s": sorted({str(entry.body[other]) for entry in entries}),
            "data_points": len(entries),
        }
        for word, entries in groups.items()
    ]


class PointsQuery:
    """A request for points as a query of the warehouse: all values are parameters."""

    def __init__(self, call: Call, *, workspace: str, config_ids: Sequence[str], cursors: Cursors) -> None:
        self.limit = call.require("limit", int)
        self.config_ids = list(config_ids)
        self._cursors = cursors
        self._workspace = workspace
        self._from, self._to = call.get("from", datetime), call.get("to", datetime)
        if self._from is not None and self._to is not None and self._from > self._to:
            raise Malformed("from must not be after to.", code="invalid_range", param="from")
        self._purpose = f"points:{workspace}:{call.get('config_id', str)}:{self._from}:{self._to}"
        cursor = call.get("cursor", str)
        self._behind = None if cursor is None else cursors.read(cursor, purpose=self._purpose)

    def _where(self) -> tuple[str, list[object]]:
        marks = ", ".join("?" for _ in self.config_ids)
        where = f"workspace = ? AND machine_data_point_config_id IN ({marks})"
        values: list[object] = [self._workspace, *self.config_ids]
        if self._from is not None:
            where += " AND timestamp >= ?"
            values.append(self._from)
        if self._to is not None:
            where += " AND timestamp < ?"
            values.append(self._to)
        return where, values

    def page(self) -> tuple[str, list[object]]:
        """Ask for a page, and one point more, which tells whether there is a next page."""
        where, values = self._where()
        if self._behind is not None:
            where += " AND (timestamp, machine_data_point_config_id) > (make_timestamptz(?::BIGINT), ?)"
            values += self._behind
        query = (
            f"SELECT machine_data_point_config_id, epoch_us(timestamp) AS us, value, raw_value, config_version, job_id"  # noqa: S608 - the names are ours
            f" FROM {rows_of(TABLE.name)} WHERE {where} ORDER BY timestamp, machine_data_point_config_id LIMIT ?"
        )
        return query, [*values, self.limit + 1]

    def count(self) -> tuple[str, list[object]]:
        """Ask how many there are on all pages."""
        where, values = self._where()
        return f"SELECT count(*) AS n FROM {rows_of(TABLE.name)} WHERE {where}", values  # noqa: S608 - as above

    def cursor_behind(self, row: Item) -> str:
        """Make the cursor of the page behind a row."""
        place = [cast("int", row["us"]), str(row["machine_data_point_config_id"])]
        return self._cursors.write(purpose=self._purpose, place=place)


def _point(row: Item) -> Item:
    instant = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=cast("int", row["us"]))
    return {
        "timestamp": format_instant(instant),
        "machine_data_point_config_id": row["machine_data_point_config_id"],
        "value": row["value"],
        "raw_value": row["raw_value"],
        "config_version": row["config_version"],
        "job_id": row["job_id"],
    }
