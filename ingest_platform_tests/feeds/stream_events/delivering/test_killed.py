"""Destinations that die in the middle, and several workers and deliverers at once, over real HTTP and real files."""

import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_platform.feeds.stream_events import FEED
from ingest_platform.feeds.stream_events.delivering.deliverer import Deliverer
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.storage import catalog, workspaces
from ingest_platform_tests.feeds.stream_events.delivering import searching
from ingest_platform_tests.feeds.stream_events.delivering.consigned import HASTY, ids_of, let_all_be_due
from ingest_platform_tests.feeds.stream_events.delivering.consigned import figures as figures_of
from ingest_platform_tests.making import accept, body_of, new_job, open_stores
from ingest_platform_tests.receiving import LOOPBACK, Answer, Received, receiving
from ingest_platform_tests.serving import fresh_database

STREAM = "orders"
PATIENCE_SECONDS = 60.0


@pytest.fixture
def platforms(server_url: str, template: str, tmp_path: Path) -> Iterator[Sequence[Platform]]:
    """Open the stores of two processes that share a database and a data folder."""
    with fresh_database(server_url, template) as url, ExitStack() as opened:
        both = [open_stores(url, tmp_path, outbound=LOOPBACK) for _ in range(2)]
        for each in both:
            opened.callback(each.close)
        yield both


def declare(platform: Platform, destinations: Mapping[str, Mapping[str, object]]) -> None:
    """Declare a stream of which every event goes to all of these."""
    routes = {"match": "first", "rules": [], "otherwise": list(destinations)}
    body = {"name": "orders", "envelope": "strict", "routes": routes}
    with platform.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme"))
        entries = [("destinations", name, each) for name, each in destinations.items()]
        entries.append(("streams", STREAM, body))
        catalog.put(tx, [catalog.Declared(workspace="acme", kind=k, id=i, body=b) for k, i, b in entries])


def land(platform: Platform, *, events: int) -> list[str]:
    """Have events accepted; their ids."""
    numbered = [
        {"timestamp": "2026-05-06T10:15:30Z", "source": "shop", "event": {"number": number}} for number in range(events)
    ]
    job = new_job(body_of(numbered, envelope_key=""), feed=FEED.name)
    (accepted,) = accept(platform.ledger, replace(job, target=STREAM))
    return ids_of(accepted.id, range(events))


@contextmanager
def at_work(*works: Callable[[Callable[[], bool]], None]) -> Iterator[None]:
    """Do something in threads through a with block; each is given what tells it to stop."""
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=len(works)) as pool:
        done = [pool.submit(each, stop.is_set) for each in works]
        try:
            yield
        finally:
            stop.set()
    for each in done:
        each.result()


def working(platform: Platform) -> Callable[[Callable[[], bool]], None]:
    """Work off what waits, as a worker does."""

    def work(stop: Callable[[], bool]) -> None:
        while not stop():
            done = work_until_idle(platform, FEED, day=None, run_id="run", linger_seconds=0.05, stop=stop)
            assert done.faults == []
            time.sleep(0.01)

    return work


def delivering(platform: Platform) -> Callable[[Callable[[], bool]], None]:
    """Deliver, with short pauses."""

    def work(stop: Callable[[], bool]) -> None:
        Deliverer(platform, patience=HASTY).run(stop=stop, wait=lambda _: time.sleep(0.02))

    return work


def await_true(happened: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def search_engine(port: int, kept: Path, *, dies_after: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run the stand-in."""
    more = [] if dies_after is None else [str(dies_after)]
    process = subprocess.Popen([sys.executable, searching.__file__, str(port), str(kept), *more])
    try:
        await_true(lambda: _listens(port), "it listens")
        yield process
    finally:
        process.kill()
        process.wait()


def files_of(platform: Platform, destination: str) -> Counter[str]:
    """Count the events in the files of a destination, by their ids."""
    paths = (platform.data_dir / "exports" / "acme" / destination).rglob("dlv_*")
    lines = [line for path in paths for line in path.read_bytes().splitlines()]
    return Counter(json.loads(line)["event_id"] for line in lines)


def test_a_destination_that_is_killed_in_a_request_and_comes_back_has_everything_and_delays_no_other(
    platforms: Sequence[Platform], tmp_path: Path
) -> None:
    (platform, _), port, kept = platforms, free_port(), tmp_path / "kept"
    here = {"batch_seconds": 0, "batch_events": 20}
    declare(
        platform,
        {
            "search": {"type": "elasticsearch", "url": f"http://127.0.0.1:{port}", "index": "orders", **here},
            "disk": {"type": "files", "path": "exports/disk/", "format": "ndjson", **here},
        },
    )
    with at_work(working(platform), delivering(platform)):
        with search_engine(port, kept, dies_after=50) as engine:
            ids = [each for _ in range(3) for each in land(platform, events=40)]
            await_true(lambda: engine.poll() is not None, "it is killed")
        # It is away: what is sent now goes to the other one all the same.
        ids += land(platform, events=40)
        await_true(lambda: files_of(platform, "disk").total() >= len(ids), "the other one has everything")
        (consigned, delivered, waiting, dead) = figures_of(platform, "search")
        assert (consigned, waiting + delivered, dead) == (160, 160, 0)
        assert 40 <= len(kept.read_text().splitlines()) <= 60
        assert delivered < 50
        with search_engine(port, kept):
            # It opens after five seconds at the latest by itself; nobody waits for that here.
            let_all_be_due(platform)
            await_true(lambda: figures_of(platform, "search") == (160, 160, 0, 0), "all is delivered")
    taken = [line.split() for line in kept.read_text().splitlines()]
    # What it took before it was killed it has taken again, as the same under the same id.
    assert {event_id for event_id, _ in taken} == set(ids)
    assert len({(event_id, digest) for event_id, digest in taken}) == len(ids)
    assert len(taken) > len(ids)
    assert files_of(platform, "disk") == dict.fromkeys(ids, 1)
    assert figures_of(platform, "disk") == (160, 160, 0, 0)


def test_several_workers_and_deliverers_at_once_lose_nothing_and_deliver_nothing_twice(
    platforms: Sequence[Platform],
) -> None:
    lock, under_way, twice = threading.Lock(), Counter[str](), list[str]()
    taken = Counter[str]()

    def answer(received: Received) -> Answer:
        ids = [each["event_id"] for each in json.loads(received.body)]
        with lock:
            under_way.update(ids)
            twice.extend(each for each in ids if under_way[each] > 1)
        time.sleep(0.03)
        with lock:
            under_way.subtract(ids)
            taken.update(ids)
        return Answer()

    (one, other), ids = platforms, list[str]()
    with receiving(answer) as receiver:
        here = {"batch_seconds": 0, "batch_events": 7}
        declare(
            one,
            {
                "hook": {"type": "http", "url": receiver.url, "at_once": 4, **here},
                "disk": {"type": "files", "path": "exports/disk/", "format": "ndjson", **here},
            },
        )
        works = [work(platform) for platform in (one, other) for work in (working, delivering)]
        with at_work(*works):
            for number in range(40):
                ids += land(platforms[number % 2], events=1 + number % 9)
            done = (len(ids), len(ids), 0, 0)
            await_true(lambda: all(figures_of(one, name) == done for name in ("hook", "disk")), "all is delivered")
    assert twice == []
    assert taken == dict.fromkeys(ids, 1)
    assert files_of(one, "disk") == dict.fromkeys(ids, 1)
    with one.ledger.connection() as tx:
        ((loads,),) = tx.execute("SELECT count(DISTINCT load_id) FROM jobs").fetchall()
    assert loads > 1
