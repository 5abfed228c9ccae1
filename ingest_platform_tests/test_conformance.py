"""The laws that every feed keeps. Feeds are found, never listed; the example beside the tests is one of them."""

import importlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import TypeGuard

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_platform.api.replies import JSON
from ingest_platform.api.route import API_KEY, PAT, ApiRoute
from ingest_platform.api.services import Limits, Services
from ingest_platform.app import create_app
from ingest_platform.domain.contract import Field, Kind
from ingest_platform.domain.feed import AppendTable, DeclaredKind, Feed, FoldedTable, KeyedTable, Table
from ingest_platform.domain.ids import is_id, new_id
from ingest_platform.domain.outcome import Outcome
from ingest_platform.domain.submission import Format
from ingest_platform.domain.timestamps import parse_instant
from ingest_platform.feeds import discover
from ingest_platform.pipeline.archive import archive_days
from ingest_platform.pipeline.backfill import work_day_again
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.door import check_record
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import catalog, inbox, keys, workspaces
from ingest_platform.storage.jobs import NewJob
from ingest_platform.storage.warehouse import columns_of
from ingest_platform_tests.making import accept, body_of
from ingest_platform_tests.pipeline.sent import known, origins
from ingest_platform_tests.pipeline.working import fates_of, job_of, move_to, rejections_of, rows, work
from ingest_platform_tests.serving import listening

PACKAGES = ("ingest_platform.feeds", "ingest_platform_tests.example_feed")
# What moves when a record is said again with nothing new: its place in the order of acceptance.
PLACE = ("accepted_seq", "accepted_index")
# What moves besides when a folded table's row is said again: how often it was said, and who said so last.
COUNTED = (*PLACE, "occurrences", "last_seen_at", "updated_at", "job_id", "record_index", "accepted_at")
SCHEMA_TYPES = {"string", "number", "integer", "boolean", "object", "array"}

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class Found:
    """A feed and the package in which it was found."""

    feed: Feed
    package: str


FEEDS = [Found(feed, package) for package in PACKAGES for feed in discover(package)]
every_feed = pytest.mark.parametrize("feed", [found.feed for found in FEEDS], ids=lambda feed: feed.name)
every_folded = pytest.mark.parametrize(
    "feed", [found.feed for found in FEEDS if isinstance(found.feed.table, FoldedTable)], ids=lambda feed: feed.name
)
# Whose records are about something, so that the same said again is nothing new.
every_about_keys = pytest.mark.parametrize(
    "feed", [found.feed for found in FEEDS if not isinstance(found.feed.table, AppendTable)], ids=lambda feed: feed.name
)
every_appended = pytest.mark.parametrize(
    "feed", [found.feed for found in FEEDS if isinstance(found.feed.table, AppendTable)], ids=lambda feed: feed.name
)
every_found = pytest.mark.parametrize("found", FEEDS, ids=lambda found: found.feed.name)


# What is made from a feed's own declarations


def good(feed: Feed, *, minute: int = 0) -> Record:
    """Make a record from the contract's examples; its timestamps, and what else is of its key, move on by minutes."""
    record: Record = {field.name: field.example for field in feed.contract.fields}
    for field in feed.contract.fields:
        if field.kind is Kind.TIMESTAMP:
            instant = parse_instant(str(field.example))
            assert instant is not None, field
            record[field.name] = (instant + timedelta(minutes=minute)).isoformat()
        elif isinstance(feed.table, FoldedTable) and field.name in feed.table.key and minute:
            record[field.name] = f"{field.example}-{minute}"
    return record


def is_folded(table: Table) -> TypeGuard[FoldedTable]:
    """Tell whether a row is what all records of its key say, not what the last one says."""
    return isinstance(table, FoldedTable)


def said_again(feed: Feed, *, times: int) -> list[str]:
    """List the outcomes of one record that comes several times in one load."""
    if is_folded(feed.table):
        return ["created"] + ["unchanged"] * (times - 1)
    if isinstance(feed.table, AppendTable):
        return ["created"] * times
    return ["superseded"] * (times - 1) + ["created"]


def bad(feed: Feed) -> list[Record]:
    """Break each rule of each field, one a record."""
    records: list[Record] = []
    for field in feed.contract.fields:
        wrong: list[object] = [[], {}] if field.kind is not Kind.OBJECT else [[], 1]
        wrong += [] if field.nullable else [None]
        wrong += ["x" * (field.length_max + 1)] if field.length_max is not None else []
        wrong += [] if field.blank_allowed else ["", " \t"]
        wrong += ["\x00 no such thing"] if field.choices or field.pattern else []
        wrong += ["yesterday"] if field.kind is Kind.TIMESTAMP else []
        records += [good(feed) | {field.name: value} for value in wrong]
        if field.required:
            records.append({name: value for name, value in good(feed).items() if name != field.name})
    return records


def _id_of(feed: Feed, kind: DeclaredKind) -> str:
    """Name a thing as the contract's examples refer to it."""
    examples = [str(field.example) for field in feed.contract.fields]
    return next((text for text in [*examples, "example-1"] if re.fullmatch(kind.id_pattern, text)), "example")


def _target(feed: Feed) -> str | None:
    """Name the target that is declared, for feeds whose targets are in the catalog."""
    return next((_id_of(feed, kind) for kind in feed.kinds if feed.shapes is not None and kind.example), None)


def _value(schema: Mapping[str, object]) -> object:
    return {"string": "example", "number": 2.0, "integer": 2, "boolean": True}.get(str(schema["type"]), {})


def declare(platform: Platform, feed: Feed, *, workspace: str) -> None:
    """Declare whatever the feed's example refers to."""
    ids = {kind.section: _id_of(feed, kind) for kind in feed.kinds}
    entries = [
        catalog.Declared(
            workspace=workspace,
            kind=kind.section,
            id=ids[kind.section],
            body={
                **(kind.example or {}),
                **(kind.defaults or {}),
                **{name: _value(schema) for name, schema in kind.fields.items()},
                **{name: ids[section] for name, section in (kind.refers or {}).items()},
            },
        )
        for kind in feed.kinds
        if kind.keep is None
    ]
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name=workspace))
        catalog.put(tx, entries)


def submission(feed: Feed, *records: object, workspace: str = "acme") -> NewJob:
    """Make a submission."""
    body = body_of(records, envelope_key=feed.envelope_key)
    return NewJob(
        id=new_id(feed.job_prefix),
        workspace=workspace,
        feed=feed.name,
        target=_target(feed),
        format=Format.JSON,
        bytes_in=len(body),
        body=body,
    )


def submit(platform: Platform, feed: Feed, *records: object, workspace: str = "acme") -> str:
    """Submit records and work them off; the job's id."""
    (accepted,) = accept(platform.ledger, submission(feed, *records, workspace=workspace))
    work(platform, feed)
    return accepted.id


# Declarations


def test_feeds_do_not_share_a_name_a_folder_a_prefix_or_a_table() -> None:
    for name in ("name", "folder", "job_prefix", "write_scope"):
        told = [getattr(found.feed, name) for found in FEEDS]
        assert len(set(told)) == len(told), name
    tables = [found.feed.table for found in FEEDS]
    names = [name for each in tables for name in (each.name, *([each.records_name] if is_folded(each) else []))]
    assert len(set(names)) == len(names)


@every_feed
def test_a_feeds_names_fit_where_they_are_used(feed: Feed) -> None:
    assert re.fullmatch(r"[a-z][a-z_]*", feed.name)
    assert re.fullmatch(r"[a-z][a-z-]*", feed.folder)
    assert re.fullmatch(r"(?:[a-z]+_)+", feed.job_prefix)
    assert re.fullmatch(r"[a-z][a-z-]*:write", feed.write_scope)
    assert feed.contract.name == feed.name
    assert feed.rate_per_minute > 0
    assert feed.title


@every_feed
def test_every_field_is_described_and_has_an_example(feed: Feed) -> None:
    names = [field.name for field in feed.contract.fields]
    assert len(set(names)) == len(names)
    for field in feed.contract.fields:
        assert field.description.endswith("."), field
        assert field.example is not None, field


@every_feed
def test_the_table_is_declared_of_columns_that_exist(feed: Feed) -> None:
    columns = [column.name for column in feed.table.columns]
    assert len(set(columns)) == len(columns)
    if isinstance(feed.table, AppendTable):
        assert feed.table.day_column in columns
        everything = [column.name.lower() for column in columns_of(feed.table)]
        assert len(set(everything)) == len(everything)
    else:
        assert set(feed.table.key) <= {*columns, "workspace"}
    if isinstance(feed.table, KeyedTable):
        assert feed.table.range_column in feed.table.key
        assert set(feed.table.compared) <= set(columns)
        assert set(feed.table.compared).isdisjoint(feed.table.key)
        assert not any(column.nullable for column in feed.table.columns)
    if not is_folded(feed.table):
        assert feed.derive is None
    if feed.refer is None:
        assert set(columns) <= {field.name for field in feed.contract.fields}


@every_folded
def test_a_folded_table_is_declared_of_what_records_give_and_what_follows_from_the_key(feed: Feed) -> None:
    table = feed.table
    assert isinstance(table, FoldedTable)
    types = {column.name: column.type for column in table.columns}
    assert types[table.identity] == "BIGINT"
    assert types[table.newer] == "TIMESTAMPTZ"
    assert set(table.defaults) <= set(table.given) <= set(types)
    assert set(table.given).isdisjoint({*table.key, table.identity})
    assert set(table.fallbacks) <= set(table.given) - set(table.defaults)
    assert set(table.fallbacks.values()) <= set(types) - set(table.given)
    assert table.newer in table.given
    assert {column.name for column in table.columns if column.nullable} <= set(table.given)
    assert all(types[name] == "VARCHAR" for name in table.defaults)
    names = [column.name for column in columns_of(table)]
    assert len(set(names)) == len(names)
    assert (feed.derive is not None) == bool(table.derived)


@every_feed
def test_what_can_be_declared_has_a_sane_schema(feed: Feed) -> None:
    sections = {kind.section for found in FEEDS for kind in found.feed.kinds}
    for kind in feed.kinds:
        assert kind.id_pattern.startswith("^")
        assert kind.id_pattern.endswith("$")
        assert re.fullmatch(kind.id_pattern, _id_of(feed, kind))
        assert kind.id_field not in kind.fields
        assert {schema["type"] for schema in kind.fields.values()} <= SCHEMA_TYPES
        assert set(kind.required) <= set(kind.fields)
        assert kind.check is not None or set(kind.defaults or ()) <= set(kind.fields) - set(kind.required)
        assert set(kind.refers or ()) <= set(kind.fields)
        assert kind.within is None or kind.within in kind.required
        assert (kind.check is None) == (kind.example is None)
        if kind.check is not None and kind.example is not None:
            assert not kind.check(kind.example, given={})
        assert set((kind.refers or {}).values()) <= sections


# Verdicts


@every_feed
def test_the_examples_make_a_good_record_and_each_broken_rule_a_bad_one(feed: Feed) -> None:
    assert check_record(json.dumps(good(feed)).encode(), feed.contract) == []
    for record in bad(feed):
        assert check_record(json.dumps(record).encode(), feed.contract), record


def _values_of(field: Field) -> st.SearchStrategy[str]:
    near = [field.example, *field.choices, "", "NaN", "2026-02-30T00:00:00Z", "x" * ((field.length_max or 0) + 1)]
    plain = st.one_of(st.sampled_from(near), st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
    return st.one_of(plain, st.lists(plain, max_size=1), st.dictionaries(st.text(max_size=2), plain, max_size=1)).map(
        json.dumps
    )


@st.composite
def sent_records(draw: st.DrawFn, feed: Feed) -> bytes:
    """Draw a record near the contract: members left out, repeated, of other types, or not declared."""
    members: list[str] = []
    for field in feed.contract.fields:
        times = draw(st.sampled_from([1, 1, 1, 1, 0, 2]))
        value = st.one_of(st.just(json.dumps(field.example)), _values_of(field))
        members += [f"{json.dumps(field.name)}: {draw(value)}" for _ in range(times)]
    members += draw(st.lists(st.sampled_from(['"extra": 1', '"extra": {"a": 1, "a": 2}', '"": null']), max_size=1))
    return ("{" + ", ".join(draw(st.permutations(members))) + "}").encode()


@every_feed
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_door_and_the_run_agree_on_every_record(feed: Feed, data: st.DataObject) -> None:
    records = data.draw(st.lists(sent_records(feed), min_size=1, max_size=6))
    at_the_door = {index: check_record(raw, feed.contract) for index, raw in enumerate(records)}
    parsed = parse_lines(records, 0, feed.contract)
    checked = check(parsed, feed.contract, refer=None, origins=origins(), known=known())
    in_the_run = {each.record_index: list(each.problems) for each in checked.rejections}
    assert in_the_run == {index: problems for index, problems in at_the_door.items() if problems}


# The path


@every_feed
def test_what_was_received_is_accepted_or_rejected(feed: Feed, platform: Platform) -> None:
    declare(platform, feed, workspace="acme")
    broken = bad(feed)
    job_id = submit(platform, feed, good(feed), *broken, good(feed, minute=1), "no record", good(feed, minute=2))
    job = job_of(platform, job_id)
    assert (job.received, job.accepted, job.rejected) == (len(broken) + 4, 3, len(broken) + 1)
    assert job.created == 3
    assert is_id(job.id, prefix=feed.job_prefix)
    fates = fates_of(platform, job_id)
    assert len(fates) == job.received
    found = rejections_of(platform, job_id)
    assert [each.record_index for each in found] == [n for n, fate in enumerate(fates) if fate == "rejected"]
    assert all(each.problems for each in found)
    assert json.loads(found[0].raw) == broken[0]
    assert len(rows(platform, feed)) == 3


@every_appended
def test_the_same_submission_twice_is_there_twice_with_ids_of_its_own(feed: Feed, platform: Platform) -> None:
    records = [good(feed, minute=minute) for minute in range(3)]
    declare(platform, feed, workspace="acme")
    job_ids = [submit(platform, feed, *records) for _ in range(2)]
    assert [fates_of(platform, job_id) for job_id in job_ids] == [["created"] * 3] * 2
    found = rows(platform, feed)
    assert [(row["job_id"], row["record_index"]) for row in found] == [(each, n) for each in job_ids for n in range(3)]
    assert isinstance(feed.table, AppendTable)
    assert len({row[feed.table.id_column] for row in found}) == len(found)


@every_about_keys
def test_the_same_submission_twice_changes_nothing(feed: Feed, platform: Platform) -> None:
    declare(platform, feed, workspace="acme")
    records = [good(feed, minute=minute) for minute in range(3)]
    moving = COUNTED if is_folded(feed.table) else PLACE
    submit(platform, feed, *records)
    before = rows(platform, feed, without=moving)
    again = submit(platform, feed, *records)
    assert fates_of(platform, again) == [Outcome.UNCHANGED.word] * 3
    assert rows(platform, feed, without=moving) == before


@every_about_keys
def test_of_one_key_the_last_accepted_record_stays(feed: Feed, platform: Platform) -> None:
    declare(platform, feed, workspace="acme")
    job_id = submit(platform, feed, good(feed), good(feed))
    assert fates_of(platform, job_id) == said_again(feed, times=2)
    (row,) = rows(platform, feed)
    assert row["record_index"] == 1


@every_feed
def test_records_of_two_workspaces_do_not_mix(feed: Feed, platform: Platform) -> None:
    for workspace in ("acme", "globex"):
        declare(platform, feed, workspace=workspace)
    both = [submission(feed, good(feed), workspace=workspace) for workspace in ("acme", "globex")]
    accept(platform.ledger, *both)
    work(platform, feed)
    assert [fates_of(platform, each.id) for each in both] == [["created"], ["created"]]
    assert [(row["workspace"], row["job_id"]) for row in rows(platform, feed)] == [
        ("acme", both[0].id),
        ("globex", both[1].id),
    ]


def _needs_declared(feed: Feed) -> bool:
    parsed = parse_lines([json.dumps(good(feed)).encode()], 0, feed.contract)
    return bool(check(parsed, feed.contract, refer=feed.refer, origins=origins(), known=known()).rejections)


@pytest.mark.parametrize(
    # What belongs to a target that is not there is no record of a job at all.
    "feed",
    [found.feed for found in FEEDS if found.feed.shapes is None and _needs_declared(found.feed)],
    ids=lambda feed: feed.name,
)
def test_records_that_refer_to_something_need_it_in_their_own_workspace(feed: Feed, platform: Platform) -> None:
    declare(platform, feed, workspace="acme")
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="globex"))
    job_id = submit(platform, feed, good(feed), workspace="globex")
    assert [problem.code for each in rejections_of(platform, job_id) for problem in each.problems] == ["not_found"]
    assert rows(platform, feed) == []


@every_feed
def test_lines_and_documents_and_files_of_either_fare_the_same(feed: Feed, platform: Platform) -> None:
    declare(platform, feed, workspace="acme")
    records: list[object] = [good(feed), *bad(feed), "no record", good(feed, minute=1)]
    document = submission(feed, *records)
    lines = b"\n".join(json.dumps(each).encode() for each in records)
    made = [
        document,
        replace(document, id=new_id(feed.job_prefix), format=Format.NDJSON, body=lines, bytes_in=len(lines)),
        replace(document, id=new_id(feed.job_prefix), body=None, blob="files/document"),
        replace(document, id=new_id(feed.job_prefix), format=Format.NDJSON, body=None, blob="files/lines"),
    ]
    for key, content in (("files/document", document.body or b""), ("files/lines", lines)):
        with platform.blobs.writer(key) as writer:
            writer.write(content)
            writer.commit()
    accept(platform.ledger, *made)
    work(platform, feed)
    told = [[(each.record_index, each.problems) for each in rejections_of(platform, job.id)] for job in made]
    assert told == [told[0]] * 4
    assert {job_of(platform, job.id).accepted for job in made} == {2}
    assert [fates_of(platform, job.id)[0] for job in made] == said_again(feed, times=4)


@every_feed
@pytest.mark.parametrize("from_archive", [False, True])
def test_a_day_worked_again_leaves_the_table_as_it_was(feed: Feed, platform: Platform, *, from_archive: bool) -> None:
    declare(platform, feed, workspace="acme")
    ids = [submit(platform, feed, good(feed), *bad(feed)[:2], good(feed, minute=n), good(feed)) for n in range(2)]
    day = _days_ago(platform, 2)
    for job_id in ids:
        move_to(platform, job_id, day)
    before = rows(platform, feed)
    if from_archive:
        assert [each.day for each in archive_days(platform, [feed])] == [day]
    report = work_day_again(platform, feed, day=day)
    assert report.totals["jobs"] == 2
    assert rows(platform, feed) == before


def _days_ago(platform: Platform, days: int) -> date:
    with platform.ledger.connection() as connection:
        return inbox.today(connection) - timedelta(days=days)


# HTTP


@contextmanager
def served(found: Found, platform: Platform) -> Iterator[tuple[httpx.Client, Sequence[ApiRoute]]]:
    """Serve one feed, on a free port."""
    limits = Limits(disk_free_bytes_min=1)
    app = create_app(feeds=[found.feed], platform=platform, limits=limits, package=found.package)
    with (
        listening(app) as (host, port),
        httpx.Client(base_url=f"http://{host}:{port}", timeout=20) as client,
    ):
        yield client, _routes(found, app.services)


def _routes(found: Found, services: Services) -> Sequence[ApiRoute]:
    return importlib.import_module(f"{found.package}.{found.feed.name}.routes").routes(services)


def _bearer(platform: Platform, *scopes: str, kind: str = "api") -> dict[str, str]:
    with platform.ledger.transaction() as tx:
        issued = keys.issue(tx, keys.NewKey(workspace="acme", scopes=scopes, kind=kind))
    return {"Authorization": f"Bearer {issued.token}"}


@every_found
def test_every_route_wants_a_token_and_a_scope(found: Found, platform: Platform) -> None:
    declare(platform, found.feed, workspace="acme")
    with served(found, platform) as (client, routes):
        assert routes
        nothing = {kind: _bearer(platform, kind=kind) for kind in API_KEY | PAT}
        for route in routes:
            if route.access is None:
                # Open to whoever signs what he sends; without a signature he is a stranger as well.
                url = re.sub(r"\{.*?\}", "x", route.path)
                assert client.request(route.method, url, content=b"{}").status_code == 401, route.path
                continue
            assert route.access.scopes, route.path
            for path in route.paths:
                url = re.sub(r"\{.*?\}", "x", path)
                assert client.request(route.method, url).status_code == 401, path
                for kind, headers in nothing.items():
                    refused = 403 if kind in route.access.kinds else 401
                    assert client.request(route.method, url, headers=headers).status_code == refused, (path, kind)


def _is_for_sending(feed: Feed, route: ApiRoute) -> bool:
    # Of a route that speaks of something made before there is no example that can be taken.
    guarded = route.access is not None and feed.write_scope in route.access.scopes
    return route.method == "POST" and guarded and "{" not in route.path


@every_found
def test_the_routes_are_documented_with_examples_that_are_taken(found: Found, platform: Platform) -> None:
    feed = found.feed
    declare(platform, feed, workspace="acme")
    with served(found, platform) as (client, routes):
        document = client.get("/openapi.json").json()
        token = _bearer(platform, feed.write_scope)
        # What else is posted is not for sending: the control plane's, or what people decide.
        posts = [route for route in routes if JSON in route.bodies and _is_for_sending(feed, route)]
        for route in routes:
            assert document["paths"][route.path][route.method.lower()]["summary"] == route.summary
        if feed.shapes is not None:
            # Records are sent to targets, which the feed's own tests make.
            return
        assert posts
        for route in posts:
            answer = client.post(route.path, json=route.bodies[JSON].example, headers=token)
            assert answer.status_code in {200, 202}, answer.text
            assert answer.headers["X-Request-Id"]
    work(platform, feed)
    with platform.ledger.connection() as connection:
        taken = connection.execute("SELECT id, verdict FROM jobs WHERE feed = %s", (feed.name,)).fetchall()
    assert len(taken) == len(posts)
    assert all(is_id(job_id, prefix=feed.job_prefix) and verdict == "succeeded" for job_id, verdict in taken)


@every_found
def test_the_folder_says_what_the_feed_is(found: Found) -> None:
    folder = Path(importlib.import_module(f"{found.package}.{found.feed.name}").__path__[0])
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert found.feed.title in readme
    assert [field.name for field in found.feed.contract.fields if field.name not in readme] == []
    assert found.feed.write_scope in readme
