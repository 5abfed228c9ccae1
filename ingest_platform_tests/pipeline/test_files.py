"""Dropped files: taken when complete, once by content, each answered, whatever stops whom in between."""

import errno
import gzip
import hashlib
import json
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from ingest_platform.domain import crashpoint
from ingest_platform.domain.contract import Contract, Field, Kind
from ingest_platform.domain.errors import LedgerFault, NotFound, PayloadTooLarge, UnsupportedFormat
from ingest_platform.domain.feed import Column, Feed, KeyedTable
from ingest_platform.domain.job import Job, JobState
from ingest_platform.domain.outcome import Tally
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.pipeline.claims import SETTLE_SECONDS, Memory, claim, complete_files
from ingest_platform.pipeline.files import Taken, collect, land_file
from ingest_platform.pipeline.filing import file_outcomes, forget_old_filed
from ingest_platform.pipeline.shapes import ShapeCache
from ingest_platform.storage import durable, jobs, outcomes, workspaces
from ingest_platform.storage.blobs import Blobs, open_blobs
from ingest_platform.storage.jobs import Costs, Settlement
from ingest_platform.storage.ledger import Ledger

FEED = Feed(
    name="machine_data",
    folder="machine-data",
    title="Machine data",
    job_prefix="job_",
    contract=Contract(name="machine_data", fields=(Field(name="timestamp", kind=Kind.TIMESTAMP),), extra_allowed=True),
    envelope_key="items",
    rate_per_minute=1500,
    write_scope="machine-data:write",
    table=KeyedTable(
        name="readings",
        columns=(Column(name="timestamp", type="TIMESTAMPTZ"),),
        key=("timestamp",),
        range_column="timestamp",
        compared=(),
    ),
)
OTHER = "globex"
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    file_bytes_max: int = 64 * MIB
    disk_free_bytes_min: int = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    data_dir: Path
    ledger: Ledger
    blobs: Blobs
    limits: Limits = field(default_factory=Limits)

    @property
    def shapes(self) -> ShapeCache:
        return ShapeCache(self.ledger)

    @property
    def drop(self) -> Path:
        return self.data_dir / "landing" / "acme" / "machine-data"

    def dropped(self, name: str, data: bytes = b'{"timestamp":"2026-01-01T00:00:00Z"}\n') -> Path:
        path = self.drop / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def collect(self, *, settled: bool = True, **options: object) -> list[Taken]:
        """Look once; `settled` as if the settle time had passed since everything was dropped."""
        later = 1.5 * SETTLE_SECONDS if settled else 0.0
        return collect(self, [FEED], now=lambda: time.time() + later, memory=Memory(), **options)  # type: ignore[arg-type]

    def jobs(self) -> list[Job]:
        with self.ledger.connection() as tx:
            return jobs.list_jobs(tx, jobs.JobFilter(), before_seq=None, limit=1000)[::-1]

    def submitted(self, job_id: str) -> bytes | None:
        """Read what a worker would work."""
        with self.ledger.connection() as tx:
            (submission,) = jobs.submissions(tx, [job_id])
        if submission.blob is None:
            return submission.body
        with self.blobs.open(submission.blob) as source:
            return source.read()

    def work(self, *, rejected: tuple[Rejection, ...] = (), received: int = 3, error: str | None = None) -> None:
        """Settle all that waits."""
        with self.ledger.transaction() as tx:
            load = jobs.claim(tx, feed=FEED.name, bytes_max=MIB, submissions_max=100, lease_seconds=60)
            assert load is not None
            tally = Tally.of(received=received, rejected=len(rejected), created=received - len(rejected))
            results = [
                Settlement(job_id=each.job_id, error_code=error, error_message="It is broken.")
                if error
                else Settlement(job_id=each.job_id, tally=tally)
                for each in load.submissions
            ]
            jobs.settle(tx, load, results, Costs())
            if not error:
                outcomes.put(
                    tx,
                    [
                        outcomes.JobOutcomes(job_id=each.job_id, codes=bytes([1] * received), rejections=rejected)
                        for each in load.submissions
                    ],
                )

    def files(self, root: str) -> dict[str, bytes]:
        """Read all files below archive/ or quarantine/, by their names (the parts that are ids and days left out)."""
        top = self.data_dir / root
        assert list(top.rglob(".*")) == []
        return {path.name: path.read_bytes() for path in top.rglob("*") if path.is_file()}

    def landed(self) -> list[str]:
        """List the files anywhere below the landing folder, claims included."""
        top = self.data_dir / "landing"
        return sorted(path.name for path in top.rglob("*") if path.is_symlink() or path.is_file())


@pytest.fixture
def stores(ledger: Ledger, tmp_path: Path) -> Stores:
    """Open stores with the workspace acme and an empty landing folder."""
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme"))
    made = Stores(data_dir=tmp_path, ledger=ledger, blobs=open_blobs(tmp_path / "blobs"))
    made.drop.mkdir(parents=True)
    return made


@contextmanager
def disk_that_takes(size: int) -> Iterator[None]:
    """Let this process write no file larger than this: the kernel refuses the rest as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_dropped_file_becomes_one_job_with_its_bytes_and_hash(stores: Stores) -> None:
    data = b'{"timestamp":"2026-01-01T00:00:00Z"}\n' * 10
    stores.dropped("readings.ndjson", data)
    (taken,) = stores.collect()
    (job,) = stores.jobs()
    assert (job.id, job.workspace, job.origin, job.state) == (taken.job_id, "acme", "file", JobState.ACCEPTED)
    assert (job.file_name, job.file_sha256) == ("readings.ndjson", hashlib.sha256(data).hexdigest())
    assert job.bytes_in == len(data)
    assert stores.submitted(job.id) == data
    assert stores.landed() == []


@pytest.mark.parametrize(
    ("name", "format_", "encoding"),
    [
        ("a.json", "json", "identity"),
        ("a.NDJSON", "ndjson", "identity"),
        ("a.jsonl.gz", "ndjson", "gzip"),
        ("a.csv.zst", "csv", "zstd"),
        ("a.b.parquet", "parquet", "identity"),
        ("a.arrow.GZ", "arrow", "gzip"),
    ],
)
def test_the_name_tells_the_format(stores: Stores, name: str, format_: str, encoding: str) -> None:
    stores.dropped(name, gzip.compress(b"x"))
    (taken,) = stores.collect()
    with stores.ledger.connection() as tx:
        (submission,) = jobs.submissions(tx, [taken.job_id])
    assert (submission.format, submission.encoding) == (format_, encoding)


def test_nested_folders_are_looked_through(stores: Stores) -> None:
    stores.dropped("kiln-1/2026/readings.csv")
    (taken,) = stores.collect()
    assert taken.name == "kiln-1/2026/readings.csv"
    assert (stores.drop / "kiln-1" / "2026").is_dir()


def test_files_are_taken_in_the_order_in_which_they_arrived(stores: Stores) -> None:
    for name in ("b.csv", "c.csv", "a.csv"):
        stores.dropped(name, name.encode())
        # The clock of the file system ticks every few milliseconds.
        _next_tick(stores.data_dir)
    assert [taken.name for taken in stores.collect()] == ["b.csv", "c.csv", "a.csv"]


def _next_tick(folder: Path) -> None:
    probe = folder / "probe"
    probe.touch()
    begun = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == begun:
        probe.touch()
    probe.unlink()


# Completeness


def test_a_file_is_left_until_it_has_stayed_unchanged(stores: Stores) -> None:
    stores.dropped("readings.csv")
    assert stores.collect(settled=False) == []
    assert stores.landed() == ["readings.csv"]
    assert len(stores.collect()) == 1


def test_a_file_seen_being_renamed_into_place_is_taken_at_once(stores: Stores) -> None:
    path = stores.dropped("readings.csv")
    assert len(stores.collect(settled=False, complete={path})) == 1


def test_an_old_mtime_makes_no_file_complete(stores: Stores) -> None:
    path = stores.dropped("readings.csv")
    os.utime(path, (0, 0))
    assert stores.collect(settled=False) == []


def test_a_file_from_the_future_is_taken_once_it_was_seen_unchanged(stores: Stores) -> None:
    path = stores.dropped("readings.csv")
    os.utime(path, (time.time() + 86_400, time.time() + 86_400))
    memory, now = Memory(), time.time()
    assert collect(stores, [FEED], now=lambda: now, memory=memory) == []
    path.write_bytes(b"more")
    os.utime(path, (now + 86_400, now + 86_400))
    assert collect(stores, [FEED], now=lambda: now + 3, memory=memory) == []
    assert len(collect(stores, [FEED], now=lambda: now + 6, memory=memory)) == 1


@pytest.mark.parametrize("name", [".hidden.csv", "a.csv.tmp", "a.csv.part", "a.PART", "up.part/a.csv", ".git/a.csv"])
def test_names_of_unfinished_files_are_left_alone(stores: Stores, name: str) -> None:
    path = stores.dropped(name)
    assert stores.collect() == []
    assert path.exists()
    assert stores.jobs() == []


def test_a_file_written_to_after_it_was_claimed_is_taken_when_it_has_settled(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stores.dropped("readings.csv", b"one\n")
    with path.open("ab") as writer:
        _at("file.copied", monkeypatch, lambda: _append(writer.fileno(), b"two\n"))
        assert stores.collect() == []
    monkeypatch.undo()
    (taken,) = stores.collect()
    assert stores.submitted(taken.job_id) == b"one\ntwo\n"
    assert stores.landed() == []
    assert list(stores.blobs.list()) == [f"files/acme/machine_data/{taken.job_id}"]


def test_what_is_written_after_the_commit_is_taken_as_another_file(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stores.dropped("readings.csv", b"one\n")
    with path.open("ab") as writer:
        _at("file.after_commit", monkeypatch, lambda: _append(writer.fileno(), b"two\n"))
        (first,) = stores.collect()
    monkeypatch.undo()
    (second,) = stores.collect()
    assert stores.submitted(first.job_id) == b"one\n"
    assert stores.submitted(second.job_id) == b"one\ntwo\n"
    assert stores.landed() == []


def _append(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)


def _at(point: str, monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something at a named point of the path, as another process might."""

    def reached(name: str) -> None:
        if name == point:
            act()

    monkeypatch.setattr("ingest_platform.pipeline.files.reach", reached)


# Links, and whatever is no plain file


def test_links_and_what_is_no_file_are_never_opened(stores: Stores, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"secret")
    (stores.drop / "symbolic.csv").symlink_to(secret)
    (stores.drop / "dangling.csv").symlink_to(tmp_path / "absent")
    (stores.drop / "hard.csv").hardlink_to(secret)
    os.mkfifo(stores.drop / "pipe.csv")
    (stores.drop / "folder.csv").mkdir()
    before = stores.landed()
    assert stores.collect() == []
    assert stores.landed() == before
    assert stores.jobs() == []


def test_linked_folders_are_not_entered(stores: Stores, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"secret")
    (stores.drop / "linked").symlink_to(outside)
    (stores.data_dir / "landing" / "globex").symlink_to(outside)
    with stores.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name=OTHER))
    (outside / "machine-data").symlink_to(outside)
    assert stores.collect() == []
    assert (outside / "secret.csv").exists()


def test_a_file_replaced_by_a_link_between_look_and_claim_is_not_read(stores: Stores, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"secret")
    path = stores.dropped("readings.csv")
    landing, memory = stores.data_dir / "landing", Memory()
    (seen,) = complete_files(landing, {"machine-data"}, memory=memory, now=time.time() + 3)
    _replace(path, secret)
    assert claim(landing, seen, job_id="job_x", memory=memory) is None
    assert path.is_symlink()


@pytest.mark.parametrize("by", ["link", "folder", "other file"])
def test_a_file_replaced_between_opening_and_rename_is_put_back(
    stores: Stores, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_bytes(b"secret")
    path = stores.dropped("readings.csv")
    make_folder = durable.make_folder

    def replaced_meanwhile(folder: Path, *, mode: int) -> None:
        make_folder(folder, mode=mode)
        if by == "link":
            _replace(path, secret)
        elif by == "folder":
            path.unlink()
            path.mkdir()
        else:
            path.unlink()
            path.write_bytes(b"another")

    monkeypatch.setattr("ingest_platform.pipeline.claims.durable.make_folder", replaced_meanwhile)
    assert stores.collect() == []
    monkeypatch.undo()
    assert stores.jobs() == []
    assert secret.read_bytes() == b"secret"
    if by == "other file":
        (taken,) = stores.collect()
        assert stores.submitted(taken.job_id) == b"another"
    elif by == "link":
        assert path.is_symlink()


def _replace(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def test_unknown_workspaces_and_feeds_are_left_alone(stores: Stores) -> None:
    for name in ("nobody/machine-data/a.csv", "acme/unknown/a.csv", "a.csv", "acme/a.csv"):
        path = stores.data_dir / "landing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    assert stores.collect() == []
    assert stores.landed() == ["a.csv"] * 4
    with stores.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="nobody"))
    assert [taken.workspace for taken in stores.collect()] == ["nobody"]


# Identity


def test_the_same_bytes_under_another_name_end_as_a_duplicate(stores: Stores) -> None:
    stores.dropped("one.csv", b"same")
    (first,) = stores.collect()
    stores.work()
    stores.dropped("two.csv", b"same")
    (second,) = stores.collect()
    assert second.duplicate_of == first.job_id
    job = stores.jobs()[1]
    assert (job.state, job.verdict, job.duplicate_of) == ("finished", "succeeded", first.job_id)
    assert (job.received, job.accepted, job.duplicate) == (3, 3, 3)
    assert file_outcomes(stores) == [first.job_id, second.job_id]
    assert list(stores.blobs.list()) == [f"files/acme/machine_data/{first.job_id}"]
    archived = stores.files("archive")
    assert archived["two.csv"] == b"same"
    assert json.loads(archived["two.csv.outcome.json"])["duplicate_of"] == first.job_id


def test_the_same_bytes_twice_in_one_look_are_worked_once(stores: Stores) -> None:
    stores.dropped("one.csv", b"same")
    stores.dropped("two.csv", b"same")
    first, second = stores.collect()
    assert second.duplicate_of == first.job_id
    assert stores.jobs()[1].received == 0


def test_content_whose_job_failed_may_be_tried_again(stores: Stores) -> None:
    stores.dropped("one.csv", b"same")
    (first,) = stores.collect()
    stores.work(error="unreadable")
    stores.dropped("one.csv", b"same")
    (second,) = stores.collect()
    assert second.duplicate_of is None
    stores.dropped("one.csv", b"same")
    (third,) = stores.collect()
    assert third.duplicate_of == second.job_id
    assert [job.state for job in stores.jobs()] == ["failed", "accepted", "finished"]
    assert first.job_id != second.job_id


def test_the_same_bytes_in_another_workspace_are_another_file(stores: Stores) -> None:
    with stores.ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name=OTHER))
    stores.dropped("one.csv", b"same")
    other = stores.data_dir / "landing" / OTHER / "machine-data" / "one.csv"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"same")
    assert [taken.duplicate_of for taken in stores.collect()] == [None, None]


def test_the_same_name_with_other_bytes_is_another_file(stores: Stores) -> None:
    for data in (b"one", b"two"):
        stores.dropped("readings.csv", data)
        (taken,) = stores.collect()
        assert taken.duplicate_of is None


def test_two_that_look_at_once_take_each_file_once(stores: Stores) -> None:
    for number in range(40):
        stores.dropped(f"{number}.csv", b"%d" % (number // 2))
    with ThreadPoolExecutor(4) as threads:
        looks = [threads.submit(stores.collect) for _ in range(4)]
        taken = [each for look in looks for each in look.result()]
    taken += stores.collect()
    assert sorted(each.name for each in taken) == sorted(f"{number}.csv" for number in range(40))
    assert len([each for each in taken if each.duplicate_of is None]) == 20
    assert len(stores.jobs()) == 40
    assert stores.landed() == []


# Files that are never read


@pytest.mark.parametrize("name", ["readings.xlsx", "readings", "csv", "a.csv.zip", "a.gz", "a.tar.gz"])
def test_a_file_of_no_known_format_is_answered_and_quarantined(stores: Stores, name: str) -> None:
    stores.dropped(name, b"PK")
    (taken,) = stores.collect()
    assert taken.refused == "unsupported_format"
    (job,) = stores.jobs()
    assert (job.state, job.error_code, job.file_name) == ("failed", "unsupported_format", name)
    assert stores.collect() == []
    assert file_outcomes(stores) == [job.id]
    quarantined = stores.files("quarantine")
    assert sorted(quarantined) == sorted([name, f"{name}.reason.json"])
    assert quarantined[name] == b"PK"
    assert json.loads(quarantined[f"{name}.reason.json"])["error"]["code"] == "unsupported_format"
    assert stores.landed() == []
    assert file_outcomes(stores) == []


def test_a_file_beyond_the_limit_is_answered_and_not_copied(stores: Stores) -> None:
    small = Stores(data_dir=stores.data_dir, ledger=stores.ledger, blobs=stores.blobs, limits=Limits(file_bytes_max=10))
    stores.dropped("large.csv", b"x" * 11)
    (taken,) = small.collect()
    assert taken.refused == "payload_too_large"
    assert list(stores.blobs.list()) == []
    file_outcomes(stores)
    assert stores.files("quarantine")["large.csv"] == b"x" * 11


def test_a_refused_file_holds_back_no_other(stores: Stores) -> None:
    stores.dropped("a.exe")
    stores.dropped("b.csv")
    assert {taken.name: taken.refused for taken in stores.collect()} == {"a.exe": "unsupported_format", "b.csv": None}


def test_a_file_that_can_not_be_read_now_holds_back_no_other_and_is_taken_later(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = stores.dropped("a.csv").stat().st_ino
    stores.dropped("b.csv", b"other")
    read = os.read

    def fail(descriptor: int, size: int) -> bytes:
        if os.fstat(descriptor).st_ino == broken:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size)

    with monkeypatch.context() as patched:
        patched.setattr("ingest_platform.pipeline.files.os.read", fail)
        assert [taken.name for taken in stores.collect()] == ["b.csv"]
        assert stores.collect() == []
    assert [taken.name for taken in stores.collect()] == ["a.csv"]


def test_a_file_of_another_file_system_holds_back_no_other(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    stores.dropped("mounted/a.csv")
    stores.dropped("b.csv", b"other")
    rename = os.rename

    def refuse(source: str, target: Path, **options: int) -> None:
        if source == "a.csv":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target, **options)

    monkeypatch.setattr("ingest_platform.pipeline.claims.os.rename", refuse)
    assert [taken.name for taken in stores.collect()] == ["b.csv"]
    assert stores.landed() == ["a.csv"]


# Filing


def test_a_finished_file_lies_in_the_archive_with_its_answer(stores: Stores) -> None:
    stores.dropped("kiln/readings.csv", b"abc")
    (taken,) = stores.collect()
    assert file_outcomes(stores) == []
    stores.work()
    assert file_outcomes(stores) == [taken.job_id]
    assert file_outcomes(stores) == []
    archived = stores.files("archive")
    assert sorted(archived) == ["readings.csv", "readings.csv.outcome.json"]
    assert archived["readings.csv"] == b"abc"
    outcome = json.loads(archived["readings.csv.outcome.json"])
    assert (outcome["id"], outcome["state"], outcome["verdict"]) == (taken.job_id, "finished", "succeeded")
    assert outcome["file"] == {"name": "kiln/readings.csv", "sha256": hashlib.sha256(b"abc").hexdigest()}
    assert outcome["counts"]["received"] == 3
    assert outcome["times"]["finished"].endswith("Z")
    # The submission stays readable, for backfills.
    assert stores.submitted(taken.job_id) == b"abc"
    (path,) = (stores.data_dir / "archive").rglob("readings.csv")
    day = stores.jobs()[0].accepted_at.date().isoformat()
    assert path.relative_to(stores.data_dir).parts[:-2] == ("archive", "acme", "machine-data", day)


def test_rejected_records_lie_beside_the_file_ready_to_be_mended(stores: Stores) -> None:
    stores.dropped("readings.ndjson", b"x")
    stores.collect()
    problems = (
        Problem(code="missing_field", field="timestamp", message="timestamp is required"),
        Problem(code="invalid_type", field="value", message='"ü" is no number'),
    )
    raw = (b'{"value":\r\n 1.50, "value": 2}', b'{"broken', b"\xff\xfe", b"[" * 2000, "ü".encode())
    stores.work(
        rejected=tuple(
            Rejection(submission=0, record_index=3 * place, problems=problems, raw=each)
            for place, each in enumerate(raw)
        ),
        received=20,
    )
    file_outcomes(stores)
    archived = stores.files("archive")
    lines = archived["readings.ndjson.rejected.ndjson"].splitlines()
    assert b'"record":{"value":   1.50, "value": 2}}' in lines[0]
    records = [json.loads(line) for line in lines]
    assert [each["index"] for each in records] == [0, 3, 6, 9, 12]
    assert [each["record"] for each in records[1:]] == ['{"broken', "\\xff\\xfe", "[" * 2000, "ü"]
    assert records[0]["reasons"][0] == {
        "code": "missing_field",
        "field": "timestamp",
        "message": "timestamp is required",
    }
    outcome = json.loads(archived["readings.ndjson.outcome.json"])
    assert (outcome["verdict"], outcome["counts"]["rejected"]) == ("partial", 5)
    assert [each["index"] for each in outcome["errors"]] == [0, 0, 3, 3, 6, 6, 9, 9, 12, 12]


def test_a_failed_file_lies_in_quarantine_with_its_reason(stores: Stores) -> None:
    stores.dropped("readings.parquet", b"broken")
    (taken,) = stores.collect()
    stores.work(error="unreadable")
    assert file_outcomes(stores) == [taken.job_id]
    quarantined = stores.files("quarantine")
    assert quarantined["readings.parquet"] == b"broken"
    reason = json.loads(quarantined["readings.parquet.reason.json"])
    assert reason["error"] == {"code": "unreadable", "message": "It is broken."}
    assert stores.files("archive") == {}


def test_files_of_one_name_never_meet_in_the_archive(stores: Stores) -> None:
    for data in (b"one", b"two"):
        stores.dropped("readings.csv", data)
        stores.collect()
        stores.work()
    file_outcomes(stores)
    found = sorted(path.read_bytes() for path in (stores.data_dir / "archive").rglob("readings.csv"))
    assert found == [b"one", b"two"]


def test_several_that_file_at_once_file_each_file_once(stores: Stores) -> None:
    for number in range(12):
        stores.dropped(f"{number}.csv", b"%d" % number)
    taken = stores.collect()
    stores.work()
    with ThreadPoolExecutor(3) as threads:
        filed = [job_id for done in threads.map(file_outcomes, [stores] * 3) for job_id in done]
    filed += file_outcomes(stores)
    assert sorted(filed) == sorted(each.job_id for each in taken)
    assert len(list((stores.data_dir / "archive").rglob("*.csv"))) == 12


def test_blobs_in_an_object_store_are_archived_as_files(stores: Stores, tmp_path: Path) -> None:
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import.

    from ingest_platform_tests.storage.test_blobs import _s3  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        remote = Stores(data_dir=tmp_path, ledger=stores.ledger, blobs=_s3(f"http://{host}:{port}", tmp_path))
        remote.dropped("readings.csv", b"abc")
        (taken,) = remote.collect()
        remote.work()
        assert remote.submitted(taken.job_id) == b"abc"
        file_outcomes(remote)
        assert remote.files("archive")["readings.csv"] == b"abc"
    finally:
        server.stop()


def test_old_days_are_deleted_from_the_archive_and_the_data_stays(stores: Stores) -> None:
    stores.dropped("readings.csv", b"abc")
    (taken,) = stores.collect()
    stores.work()
    file_outcomes(stores)
    day = stores.jobs()[0].accepted_at.date()
    assert forget_old_filed(stores.data_dir, days=2, today=day + timedelta(days=2)) == 0
    assert forget_old_filed(stores.data_dir, days=2, today=day + timedelta(days=3)) == 1
    assert stores.files("archive") == {}
    assert stores.submitted(taken.job_id) == b"abc"


# Local files


def test_a_local_file_goes_the_same_way_and_stays_where_it_is(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"abc")
    first = land_file(stores, FEED, "acme", path)
    second = land_file(stores, FEED, "acme", path, name="again.csv")
    assert path.exists()
    assert stores.submitted(first) == b"abc"
    assert [job.duplicate_of for job in stores.jobs()] == [None, first]
    assert stores.jobs()[1].id == second
    stores.work()
    file_outcomes(stores)
    assert stores.files("archive")["mine.csv"] == b"abc"


def test_a_local_file_that_can_not_be_read_is_refused(stores: Stores, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(b"x" * 11)
    small = Stores(data_dir=tmp_path, ledger=stores.ledger, blobs=stores.blobs, limits=Limits(file_bytes_max=10))
    with pytest.raises(PayloadTooLarge):
        land_file(small, FEED, "acme", path)
    with pytest.raises(UnsupportedFormat):
        land_file(stores, FEED, "acme", path, name="mine.xlsx")
    with pytest.raises(NotFound):
        land_file(stores, FEED, "nobody", path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UnsupportedFormat):
        land_file(stores, FEED, "acme", tmp_path / "pipe.csv")
    assert stores.jobs() == []


# Faults


def test_on_a_full_disk_a_file_stays_where_it_is_and_is_taken_later(stores: Stores) -> None:
    stores.dropped("large.csv", b"x" * (2 * MIB))
    with disk_that_takes(MIB):
        assert stores.collect() == []
    assert stores.landed() == ["large.csv"]
    assert (stores.drop / "large.csv").is_file()
    assert [path for path in (stores.data_dir / "blobs").rglob("*") if path.is_file()] == []
    assert stores.jobs() == []
    assert len(stores.collect()) == 1


def test_on_a_full_disk_filing_leaves_nothing_half_done_and_is_done_later(stores: Stores) -> None:
    stores.dropped("readings.csv", b"abc")
    stores.collect()
    stores.work(rejected=(Rejection(submission=0, record_index=0, problems=(), raw=b"x" * MIB),))
    with disk_that_takes(MIB // 2):
        assert file_outcomes(stores) == []
    assert [path for path in (stores.data_dir / "archive").rglob("*") if path.is_file()] == []
    assert len(file_outcomes(stores)) == 1


def test_a_file_that_the_disk_has_no_room_for_waits_where_it_is(stores: Stores) -> None:
    stores.dropped("large.csv", b"x" * MIB)
    free = os.statvfs(stores.data_dir)
    room = free.f_bavail * free.f_frsize
    assert stores.collect(room_bytes=2 * room) == []
    limits = Limits(disk_free_bytes_min=2 * room)
    assert Stores(data_dir=stores.data_dir, ledger=stores.ledger, blobs=stores.blobs, limits=limits).collect() == []
    assert stores.landed() == ["large.csv"]
    assert len(stores.collect()) == 1


def test_with_the_database_away_nothing_is_lost(stores: Stores) -> None:
    stores.dropped("readings.csv", b"abc")
    away = Ledger("postgresql://127.0.0.1:9/none", application="test")
    broken = Stores(data_dir=stores.data_dir, ledger=away, blobs=stores.blobs)
    with pytest.raises(LedgerFault):
        broken.collect()
    away.close()
    (taken,) = stores.collect()
    assert stores.submitted(taken.job_id) == b"abc"
    assert stores.landed() == []


def test_a_job_prefix_or_folder_of_a_stranger_in_the_claims_is_left_alone(stores: Stores) -> None:
    strange = stores.data_dir / "landing" / ".held" / "acme" / "unknown" / "x"
    strange.mkdir(parents=True)
    (strange / "a.csv").write_bytes(b"x")
    assert stores.collect() == []
    assert (strange / "a.csv").exists()


# Crashes


@pytest.mark.parametrize("name", ["readings.csv", "readings.xlsx"])
@pytest.mark.parametrize(
    "point", ["file.claimed", "file.copied", "file.before_commit", "file.after_commit", "file.archived"]
)
def test_killed_at_any_point_nothing_is_lost_and_nothing_doubled(
    stores: Stores, database_url: str, point: str, name: str
) -> None:
    if (point, name) == ("file.copied", "readings.xlsx"):
        pytest.skip("a file of no known format is not copied")
    stores.dropped(name, b"abc")
    killed = _run_apart(stores.data_dir, database_url, crash=point)
    assert killed == -signal.SIGKILL
    _run_apart(stores.data_dir, database_url)
    stores.collect()
    (job,) = stores.jobs()
    if name == "readings.csv":
        assert job.state == "accepted" or point == "file.archived"
        assert stores.submitted(job.id) == b"abc"
        if job.state == "accepted":
            stores.work()
    file_outcomes(stores)
    stores.collect()
    assert stores.landed() == []
    root = "archive" if name == "readings.csv" else "quarantine"
    found = [path for path in (stores.data_dir / root).rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in found if path.name == name] == [b"abc"]
    assert len(found) == 2
    assert len(stores.jobs()) == 1
    with stores.ledger.connection() as tx:
        assert tx.execute("SELECT count(*) FROM taken_files").fetchone() == (0,)


def _run_apart(data_dir: Path, database_url: str, *, crash: str | None = None) -> int | None:
    """Look, work and file in a process of its own, which may be killed at a point."""
    apart = multiprocessing.get_context("spawn").Process(target=_look_work_file, args=(data_dir, database_url, crash))
    apart.start()
    apart.join(60)
    return apart.exitcode


def _look_work_file(data_dir: Path, database_url: str, crash: str | None) -> None:
    if crash is not None:
        crashpoint.arm(crash)
    with Ledger(database_url, application="test") as ledger:
        stores = Stores(data_dir=data_dir, ledger=ledger, blobs=open_blobs(data_dir / "blobs"))
        stores.collect()
        if crash == "file.archived" and any(job.state == "accepted" for job in stores.jobs()):
            stores.work()
        file_outcomes(stores)


def test_killed_while_it_is_given_back_a_file_is_given_back(stores: Stores) -> None:
    path = stores.dropped("readings.csv", b"abc")
    claimed = stores.data_dir / "landing/.held/acme/machine-data/job_01kqzcjrpyf27tge33jwvjhkff/readings.csv"
    claimed.parent.mkdir(parents=True)
    claimed.hardlink_to(path)
    assert len(stores.collect()) == 1
    assert stores.landed() == []
    assert len(stores.jobs()) == 1


# Hostile names


HOSTILE = [
    b"new\nline.csv",
    b"tab\t\x1b[31mred.csv",
    b"\xff\xfe\x80.csv",
    b"-rf.csv",
    b"$(touch x).csv",
    b"'; DROP TABLE jobs; --.csv",
    "\u202egnp.csv".encode(),
    "ünï😀.csv".encode(),
    b"%s%d{0}.csv",
    b"CON.csv",
    b"a" * 251 + b".csv",
    b"\xff" * 251 + b".csv",
    "ü".encode() * 125 + b".csv",
    b"a.csv\\..\\..\\b.csv",
    b" .csv",
    b"a..csv",
    b"\x01\x02\x7f.csv",
    b"x.outcome.json",
    b"x.rejected.ndjson",
]


@pytest.mark.parametrize("raw", HOSTILE, ids=repr)
def test_hostile_names_are_answered_like_others(stores: Stores, raw: bytes) -> None:
    _archived_under(stores, os.fsdecode(raw))


def _archived_under(stores: Stores, name: str) -> None:
    (stores.drop / name).write_bytes(os.fsencode(name))
    (taken,) = stores.collect()
    assert taken.refused is None
    assert taken.name.isprintable()
    stores.work()
    assert file_outcomes(stores) == [taken.job_id]
    (folder,) = (stores.data_dir / "archive").glob(f"*/*/*/{taken.job_id}")
    files = sorted(folder.iterdir(), key=lambda path: len(path.name))
    assert files[0].read_bytes() == os.fsencode(name)
    assert json.loads(files[1].read_bytes())["file"]["name"] == taken.name
    assert files[1].name == files[0].name + ".outcome.json"
    assert stores.landed() == []


@pytest.mark.corpus
def test_naughty_strings_are_answered_as_file_names(stores: Stores, shared: Path) -> None:
    strings = json.loads((shared / "corpus/big-list-of-naughty-strings/blns.json").read_bytes())
    names = {
        f"{number}-{text.replace('/', '_').replace(chr(0), '')}"[:60] + ".csv" for number, text in enumerate(strings)
    }
    for name in names:
        (stores.drop / name).write_bytes(os.fsencode(name))
    taken = stores.collect()
    assert len(taken) == len(names)
    assert all(each.refused is None and each.name.isprintable() for each in taken)
    assert sorted(hashlib.sha256(os.fsencode(name)).hexdigest() for name in names) == sorted(
        str(job.file_sha256) for job in stores.jobs()
    )
    assert stores.landed() == []


def test_a_path_too_deep_or_too_long_is_left_alone(stores: Stores) -> None:
    stores.dropped("/".join(["d"] * 20) + "/a.csv")
    deep = "/".join(["e" * 200] * 11)
    stores.dropped(deep + "/a.csv")
    stores.dropped("b.csv")
    assert [taken.name for taken in stores.collect()] == ["b.csv"]
