"""A submission that breaks its parser costs itself only; what is read apart is what is read here."""

import ctypes
import gzip
import io
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest_platform.domain.errors import ParserFault, Unreadable
from ingest_platform.domain.feed import Feed
from ingest_platform.domain.rejection import Rejection
from ingest_platform.domain.submission import Encoding, Format
from ingest_platform.feeds.machine_data import FEED
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.given import Withdrawn
from ingest_platform.pipeline.sandbox import REJECTIONS_MAX, ReadSubmission, Sandbox, run_apart
from ingest_platform_tests.pipeline.sent import GOOD, config, known, lines_of, origins, parsed, record
from ingest_platform_tests.pipeline.test_parse import submission

SECONDS_MAX = 20.0


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Start a sandbox; ended afterwards."""
    opened = Sandbox()
    opened.start()
    yield opened
    opened.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What was read apart: the frames that count in the end, and all that was given on the way."""

    frames: list[pl.DataFrame]
    given: list[Path | Withdrawn]
    received: int
    rejections: list[Rejection]


def read(
    sandbox: Sandbox,
    folder: Path,
    body: bytes | Path,
    form: Format = Format.NDJSON,
    *,
    feed: Feed = FEED,
    workspace: str = "acme",
    progress: Callable[[], None] = lambda: None,
    rejections_max: int = REJECTIONS_MAX,
) -> Read:
    path = body if isinstance(body, Path) else folder / "body"
    if isinstance(body, bytes):
        path.write_bytes(body)
    steps = steps_of(
        sandbox,
        folder,
        path,
        form,
        feed=feed,
        workspace=workspace,
        progress=progress,
        rejections_max=rejections_max,
    )
    frames: list[pl.DataFrame] = []
    given: list[Path | Withdrawn] = []
    with closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                return Read(frames=frames, given=given, received=end.value.received, rejections=end.value.rejections)
            given.append(step)
            frames = [] if isinstance(step, Withdrawn) else [*frames, pl.read_ipc(step.read_bytes())]


def steps_of(
    sandbox: Sandbox,
    folder: Path,
    path: Path,
    form: Format = Format.NDJSON,
    *,
    encoding: Encoding = Encoding.IDENTITY,
    feed: Feed = FEED,
    workspace: str = "acme",
    progress: Callable[[], None] = lambda: None,
    rejections_max: int = REJECTIONS_MAX,
) -> Generator[Path | Withdrawn, None, ReadSubmission]:
    return run_apart(
        sandbox,
        path,
        submission=replace(submission(b"", form), body=None, blob="b", encoding=encoding),
        ordinal=0,
        feed=feed,
        contract=feed.contract,
        origins=origins({"workspace": workspace}),
        known=known(config()),
        folder=folder,
        progress=progress,
        rejections_max=rejections_max,
    )


# What a hostile file would bring about, brought about by the references of a feed.


def abort(_frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    os.abort()


def devour(frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    return devour_bytes(1 << 40), frame


def devour_bytes(count: int) -> pl.DataFrame:
    return pl.DataFrame({"a": [bytes(count)]})


def spin(_frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    while True:
        pass


def say_and_spin(frame: pl.DataFrame, *, origins: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    Path(origins["workspace"].item()).open("wb").close()
    return spin(frame)


def stumble(_frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    raise KeyError("nobody expected this")


def corrupt(frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    ctypes.string_at(1)
    return frame, frame


def print_much(frame: pl.DataFrame, **_: object) -> tuple[pl.DataFrame, pl.DataFrame]:
    for _number in range(20_000):
        sys.stderr.write("x" * 100 + "\n")
        sys.stdout.write("not a reply\n")
    return FEED.refer(frame, **_) if FEED.refer else (frame, frame)


def test_what_is_read_apart_is_what_is_read_here(sandbox: Sandbox, tmp_path: Path) -> None:
    body = lines_of(GOOD, record(value="1"), record(timestamp="x"), record(machine_data_point_config_id="y"), GOOD)
    staged = read(sandbox, tmp_path, body)
    (frame,) = parsed(body, FEED.contract)
    here = check(frame, FEED.contract, refer=FEED.refer, origins=origins(), known=known(config()))
    assert staged.received == 5
    assert staged.rejections == here.rejections
    (given,) = staged.frames
    assert given.equals(here.accepted)
    assert staged.given == [tmp_path / "0-0.arrow"]


def test_every_frame_is_a_sign_of_progress(sandbox: Sandbox, tmp_path: Path) -> None:
    signs: list[float] = []
    staged = read(sandbox, tmp_path, lines_of(GOOD) * 600_000, progress=lambda: signs.append(time.monotonic()))
    assert len(signs) == len(staged.frames) == 3
    assert (staged.received, staged.rejections) == (600_000, [])
    # Promised: a file of a million readings within 700 MB.
    assert sandbox.pid is not None
    peak = next(line for line in Path(f"/proc/{sandbox.pid}/status").read_text().splitlines() if "VmHWM" in line)
    assert int(peak.split()[1]) < 700 * 1024


def test_whoever_follows_the_progress_can_end_it(sandbox: Sandbox, tmp_path: Path) -> None:
    def lose() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        read(sandbox, tmp_path, lines_of(GOOD) * 300_000, progress=lose)
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


def test_what_cannot_be_read_says_why(sandbox: Sandbox, tmp_path: Path) -> None:
    pid = sandbox.pid
    with pytest.raises(Unreadable) as raised:
        read(sandbox, tmp_path, b"[", Format.JSON)
    assert raised.value.code == "invalid_json"
    assert sandbox.pid == pid


@pytest.mark.parametrize("refer", [abort, corrupt])
def test_bytes_that_break_the_parser_cost_their_own_submission_only(
    sandbox: Sandbox, tmp_path: Path, refer: object
) -> None:
    with pytest.raises(Unreadable) as raised:
        read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=refer))
    assert raised.value.code == "unreadable"
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


def test_memory_is_limited(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(Unreadable) as raised:
        read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=devour))
    assert raised.value.code == "too_heavy"
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


@pytest.mark.parametrize("limit", ["silence_seconds_max", "total_seconds_max"])
def test_time_is_limited(tmp_path: Path, limit: str) -> None:
    sandbox = Sandbox(**{limit: 0.5})
    try:
        with pytest.raises(Unreadable) as raised:
            read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=spin))
        assert raised.value.code == "too_heavy"
        assert sandbox.pid is None
    finally:
        sandbox.close()


def test_an_error_of_ours_is_a_fault_with_its_trace(sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ParserFault, match="nobody expected this"):
        read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=stumble))


def test_whatever_is_printed_is_no_reply(sandbox: Sandbox, tmp_path: Path) -> None:
    assert read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=print_much)).received == 1


def test_a_child_killed_between_two_submissions_is_replaced(sandbox: Sandbox, tmp_path: Path) -> None:
    assert sandbox.pid is not None
    os.kill(sandbox.pid, signal.SIGKILL)
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


def test_a_child_killed_by_somebody_else_is_not_held_against_the_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    pids: list[int] = []

    def kill_once() -> None:
        assert sandbox.pid is not None
        if not pids:
            os.kill(sandbox.pid, signal.SIGKILL)
        pids.append(sandbox.pid)

    staged = read(sandbox, tmp_path, lines_of(GOOD) * 600_000, progress=kill_once)
    assert staged.received == sum(frame.height for frame in staged.frames) == 600_000
    assert len(set(pids)) == 2
    assert Withdrawn(0) in staged.given


def test_a_file_of_records_is_gone_once_it_was_used(sandbox: Sandbox, tmp_path: Path) -> None:
    staged = read(sandbox, tmp_path, lines_of(GOOD) * 600_000)
    assert len(staged.given) == 3
    assert list(tmp_path.glob("*.arrow")) == []


def test_a_child_reads_on_while_its_frames_are_used(tmp_path: Path) -> None:
    """Whoever uses a frame for long finds the next ones ready, and is not held against the bytes."""
    path = tmp_path / "body"
    path.write_bytes(lines_of(GOOD) * 600_000)
    hurried = Sandbox(total_seconds_max=4.0)
    try:
        with closing(steps_of(hurried, tmp_path, path)) as steps:
            first = next(steps)
            assert isinstance(first, Path)
            until = time.monotonic() + SECONDS_MAX
            while len(list(tmp_path.glob("*.arrow"))) < 3 and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(4.0)
            assert [each.name for each in (first, *steps)] == ["0-0.arrow", "0-1.arrow", "0-2.arrow"]
    finally:
        hurried.close()


def test_whoever_gives_up_in_the_middle_leaves_the_sandbox_to_the_next(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(lines_of(GOOD) * 600_000)
    with closing(steps_of(sandbox, tmp_path, path)) as steps:
        next(steps)
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


def test_what_can_not_be_read_to_its_end_was_given_in_part(sandbox: Sandbox, tmp_path: Path) -> None:
    body = gzip.compress(lines_of(GOOD) * 600_000)
    path = tmp_path / "body"
    path.write_bytes(body[: len(body) // 2])
    steps = steps_of(sandbox, tmp_path, path, encoding=Encoding.GZIP)
    with closing(steps):
        assert isinstance(next(steps), Path)
        with pytest.raises(Unreadable, match="damaged"):
            list(steps)


def test_a_child_that_keeps_too_much_memory_is_replaced(tmp_path: Path) -> None:
    sandbox = Sandbox(resident_bytes_max=1)
    try:
        assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1
        assert sandbox.pid is None
        assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1
    finally:
        sandbox.close()


def test_more_rejections_than_anybody_reads_fail_the_whole(sandbox: Sandbox, tmp_path: Path) -> None:
    assert len(read(sandbox, tmp_path, b"x\n" * 10, rejections_max=10).rejections) == 10
    with pytest.raises(Unreadable) as raised:
        read(sandbox, tmp_path, b"x\n" * 11, rejections_max=10)
    assert raised.value.code == "too_many_rejections"


def test_the_child_has_no_environment_of_ours_and_loads_no_store(sandbox: Sandbox, tmp_path: Path) -> None:
    read(sandbox, tmp_path, lines_of(GOOD))
    assert sandbox.pid is not None
    child = psutil.Process(sandbox.pid)
    assert set(child.environ()) <= {"PYTHONPATH", "LANG", "POLARS_MAX_THREADS", "LC_CTYPE"}
    mapped = " ".join(each.path for each in child.memory_maps())
    assert "polars" in mapped
    assert "duckdb" not in mapped
    assert "psycopg" not in mapped


def test_closing_ends_what_is_being_read(tmp_path: Path) -> None:
    sandbox = Sandbox()
    sandbox.start()
    raised: list[BaseException] = []
    begun = tmp_path / "begun"
    os.mkfifo(begun)

    def work() -> None:
        try:
            read(sandbox, tmp_path, lines_of(GOOD), feed=replace(FEED, refer=say_and_spin), workspace=str(begun))
        except ParserFault as fault:
            raised.append(fault)

    reading = threading.Thread(target=work)
    reading.start()
    # Opening does not wait for the other end: a child that ends before it gets there must not hold up the test.
    descriptor = os.open(begun, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while reading.is_alive() and not select.select([descriptor], [], [], 0.1)[0]:
            pass
    finally:
        os.close(descriptor)
    sandbox.close()
    reading.join(timeout=SECONDS_MAX)
    assert [type(each) for each in raised] == [ParserFault]
    with pytest.raises(ParserFault):
        sandbox.start()


@pytest.mark.corpus
def test_hostile_parquet_is_staged_or_refused_and_harms_nobody(sandbox: Sandbox, shared: Path, tmp_path: Path) -> None:
    root = shared / "corpus/parquet-testing"
    paths = sorted(
        path
        for folder in ("data", "bad_data", "variant", "shredded_variant")
        for path in (root / folder).glob("**/*.parquet")
    )
    assert paths
    refused = 0
    for number, path in enumerate(paths):
        folder = tmp_path / str(number)
        folder.mkdir()
        begun = time.monotonic()
        try:
            staged = read(sandbox, folder, path, Format.PARQUET)
        except Unreadable:
            refused += 1
        else:
            # None of them has the columns of a reading.
            assert staged.received == len(staged.rejections), path.name
        assert time.monotonic() - begun < SECONDS_MAX, path.name
    assert 0 < refused < len(paths)
    assert read(sandbox, tmp_path, lines_of(GOOD)).received == 1


def test_many_small_damages_of_a_file_harm_nobody(sandbox: Sandbox, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({name: [value] * 100 for name, value in GOOD.items()}), buffer)
    body = buffer.getvalue()
    for place in range(0, len(body), max(len(body) // 100, 1)):
        damaged = body[:place] + bytes([body[place] ^ 0xFF]) + body[place + 1 :]
        try:
            staged = read(sandbox, tmp_path, damaged, Format.PARQUET)
        except Unreadable:
            continue
        assert staged.received >= len(staged.rejections)
