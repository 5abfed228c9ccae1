"""What a machine does to a platform: its database stops or hangs, its disk fills, shrinks away, or refuses to write.

Whatever can't be promised is refused before it is taken, what was taken waits, and all of it mends itself.
"""

import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import psutil
import pytest

from ingest_platform.api.services import Limits
from ingest_platform.domain.job import JobState
from ingest_platform.domain.submission import Format
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import connect, migrate
from ingest_platform_tests.making import accept, new_job, open_stores
from ingest_platform_tests.pipeline.working import POINT, declare, job_of, put_blob, reading, rows, submit, work
from ingest_platform_tests.serving import CONFIG, Site, serving

IMPORT = "/v1/machine-data/import-jobs"
ITEM = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}
BODY = {"items": [ITEM]}
MIB = 1024 * 1024
# Beyond what lies in a row.
LARGE_BODY = {"items": [ITEM] * 3_000}
# "503 within 2 s", and what a busy machine adds to it.
REFUSED_SECONDS_MAX = 2.5
RECOVERED_SECONDS_MAX = 10.0
SENDERS = 8


def _within(seconds: float, happened: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


# The database.


@dataclass(slots=True)
class Database:
    """A server of the test's own, which may be taken away."""

    folder: Path
    server: embedded.EmbeddedServer

    def take(self, how: str) -> None:
        """Take the server away."""
        match how:
            case "frozen":
                self._signal(signal.SIGSTOP)
            case "stopped":
                self.server.stop()
            case _:
                self._signal(signal.SIGKILL)
                assert self.server.wait(seconds_max=5)

    def _signal(self, number: signal.Signals) -> None:
        first = psutil.Process(self.server.pid)
        for process in (first, *first.children(recursive=True)):
            process.send_signal(number)

    def give_back(self, how: str) -> None:
        """Let the server go on."""
        if how == "frozen":
            self._signal(signal.SIGCONT)
        else:
            self.server = embedded.start(self.folder)


@pytest.fixture
def database() -> Iterator[Database]:
    """Start a server of the test's own."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-away-"))
    database = Database(folder, embedded.start(folder))
    try:
        migrate(database.server.url)
        yield database
    finally:
        database.server.stop()
        shutil.rmtree(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a client was told of a submission, and after how long."""

    request_id: str
    status: int
    code: str
    seconds: float


@dataclass(slots=True)
class Sender:
    """A client that sends one submission after the other and keeps what it was told of each."""

    url: str
    token: str
    ended: threading.Event
    answers: list[Told] = field(default_factory=list)

    def send(self) -> None:
        """Send until told to end."""
        with httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=20) as client:
            while not self.ended.is_set():
                request_id = f"sent-{id(self)}-{len(self.answers)}"
                began = time.monotonic()
                body = LARGE_BODY if len(self.answers) % 4 == 3 else BODY
                answer = client.post(IMPORT, json=body, headers={"X-Request-Id": request_id})
                seconds = time.monotonic() - began
                code = answer.json().get("error", {}).get("code", "")
                self.answers.append(Told(request_id=request_id, status=answer.status_code, code=code, seconds=seconds))


@contextmanager
def _senders(site: Site) -> Iterator[list[Sender]]:
    ended = threading.Event()
    senders = [Sender(site.url, site.token, ended) for _ in range(SENDERS)]
    threads = [threading.Thread(target=sender.send) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        yield senders
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _answered(senders: list[Sender], status: int) -> bool:
    return all(any(answer.status == status for answer in sender.answers) for sender in senders)


@pytest.mark.parametrize("how", ["frozen", "stopped", "killed"])
def test_without_its_database_everything_is_refused_in_time_and_nothing_is_taken(
    database: Database, tmp_path: Path, how: str
) -> None:
    with serving(database.server.url, tmp_path) as site:
        with _senders(site) as senders:
            assert _within(30, lambda: all(len(sender.answers) > 4 for sender in senders))
            database.take(how)
            assert _within(10, lambda: _answered(senders, 503))
        for method, path in (("POST", IMPORT), ("GET", "/v1/jobs"), ("GET", "/readyz"), ("GET", "/v1/sites")):
            began = time.monotonic()
            refused = site.client.request(method, path, json=BODY if method == "POST" else None)
            assert refused.status_code == 503, (path, refused.text)
            assert int(refused.headers["Retry-After"]) > 0
            assert time.monotonic() - began < REFUSED_SECONDS_MAX, path
        assert site.anyone.get("/healthz").status_code == 200
        assert site.anyone.get("/openapi.json").status_code == 200

        database.give_back(how)
        assert _within(RECOVERED_SECONDS_MAX, lambda: site.client.post(IMPORT, json=BODY).status_code == 202)
        assert _within(1, lambda: site.anyone.get("/readyz").status_code == 200)
        _require_true(site, [answer for sender in senders for answer in sender.answers])


def _require_true(site: Site, answers: list[Told]) -> None:
    with connect(site.platform.ledger.database_url, application="test") as connection:
        found = connection.execute("SELECT request_id FROM jobs WHERE request_id LIKE 'sent-%'").fetchall()
        blobs = connection.execute("SELECT blob FROM submissions WHERE blob IS NOT NULL").fetchall()
    assert blobs
    assert [blob for (blob,) in blobs if not site.platform.blobs.exists(blob)] == []
    taken = {row[0] for row in found}
    good = {told.request_id for told in answers if told.status == 202}
    # What was being committed at that very moment may be there or not, and the client was told so.
    refused = {told.request_id for told in answers if told.status == 503 and told.code != "unconfirmed"}
    assert good <= taken
    assert refused & taken == set()
    assert good | refused | {told.request_id for told in answers if told.code == "unconfirmed"} == {
        told.request_id for told in answers
    }
    # Admission and landing may each have waited once.
    assert max(told.seconds for told in answers) < 2 * REFUSED_SECONDS_MAX


# The disk.


@contextmanager
def _disk(folder: Path, *, size: int) -> Iterator[Path]:
    """Put a small real file system in a folder's place."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount file systems")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def _fill(folder: Path) -> Path:
    """Write until the file system is full."""
    path = folder / "ballast"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(64 * 1024))
        except OSError:
            return path


def test_a_disk_that_fills_up_stops_intake_and_nothing_else_until_there_is_room_again(
    database_url: str, tmp_path: Path
) -> None:
    limits = Limits(disk_free_bytes_min=4 * MIB)
    with _disk(tmp_path / "data", size=16 * MIB) as data, serving(database_url, data, limits=limits) as site:
        job_id = site.client.post(IMPORT, json=BODY).json()["job_id"]
        ballast = data / "ballast"
        ballast.write_bytes(bytes(13 * MIB))
        assert _within(3, lambda: site.anyone.get("/readyz").status_code == 503)
        for content_type, content in (("application/json", b'{"items":[1]}'), ("text/csv", b"value\n1\n")):
            refused = site.client.post(IMPORT, content=content, headers={"Content-Type": content_type})
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "disk_full")
            assert int(refused.headers["Retry-After"]) > 0
        assert site.client.get(f"{IMPORT}/{job_id}").json()["status"] == "accepted"
        assert site.client.get("/v1/jobs").json()["page"]["total"] == 1
        assert site.anyone.get("/healthz").status_code == 200
        ballast.unlink()
        assert _within(3, lambda: site.client.post(IMPORT, json=BODY).status_code == 202)
        assert site.anyone.get("/readyz").status_code == 200


CSV = "timestamp,machine_data_point_config_id,value\n" + "".join(
    f"2026-05-06T10:{number // 60:02}:{number % 60:02}Z,{POINT},{number}\n" for number in range(1_000)
)
LINE = b'{"timestamp":"2026-05-06T10:15:00Z","machine_data_point_config_id":"%b","value":1.5}\n' % CONFIG.encode()


def _uploads() -> list[Callable[[httpx.Client], httpx.Response]]:
    large = LINE * (12 * MIB // len(LINE))

    def ndjson(client: httpx.Client) -> httpx.Response:
        pieces = (large[start : start + 64 * 1024] for start in range(0, len(large), 64 * 1024))
        return client.post(IMPORT, content=pieces, headers={"Content-Type": "application/x-ndjson"})

    def form(client: httpx.Client) -> httpx.Response:
        return client.post(IMPORT, files={"file": ("a.ndjson", large)})

    def json(client: httpx.Client) -> httpx.Response:
        content = b'{"items":[' + large.rstrip().replace(b"\n", b",") + b"]}"
        return client.post(IMPORT, content=content, headers={"Content-Type": "application/json"})

    return [ndjson, form, json]


@pytest.mark.parametrize("upload", _uploads(), ids=lambda upload: upload.__name__)
def test_a_disk_that_fills_up_in_the_middle_of_an_upload_leaves_nothing_of_it(
    database_url: str, tmp_path: Path, upload: Callable[[httpx.Client], httpx.Response]
) -> None:
    with _disk(tmp_path / "data", size=4 * MIB) as data, serving(database_url, data) as site:
        refused = upload(site.client)
        assert refused.status_code == 503, refused.text
        assert int(refused.headers["Retry-After"]) > 0
        assert [path for path in (data / "blobs").rglob("*") if path.is_file()] == []
        assert site.client.get("/v1/jobs").json()["page"]["total"] == 0
        assert site.client.post(IMPORT, json=BODY).status_code == 202
        _mount(data, f"size={64 * MIB}")
        assert upload(site.client).status_code == 202


def test_a_data_folder_that_is_away_is_refused_and_comes_back(database_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with serving(database_url, data) as site:
        assert site.client.post(IMPORT, json=BODY).status_code == 202
        data.rename(tmp_path / "elsewhere")
        assert _within(3, lambda: site.client.post(IMPORT, json=BODY).status_code == 503)
        assert site.anyone.get("/readyz").status_code == 503
        assert site.client.get("/v1/jobs").status_code == 200
        (tmp_path / "elsewhere").rename(data)
        assert _within(3, lambda: site.client.post(IMPORT, json=BODY).status_code == 202)


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[tuple[Platform, Path]]:
    """Open a platform whose lake lies on a small disk of its own."""
    with _disk(tmp_path / "data" / "lake", size=8 * MIB) as folder:
        platform = open_stores(database_url, tmp_path / "data")
        try:
            declare(platform)
            # The first load makes the table.
            submit(platform, reading(0.0))
            work(platform)
            yield platform, folder
        finally:
            platform.close()


def _submit_many(platform: Platform) -> str:
    """Submit more readings than DuckLake keeps in its catalog."""
    return submit(platform, *(reading(float(minute), minute=minute) for minute in range(20_000)))


def _require_waiting_then_done(platform: Platform, job_id: str, mend: Callable[[], object]) -> None:
    for _ in range(2):
        report = work(platform)
        waiting = job_of(platform, job_id)
        assert waiting.state in {JobState.ACCEPTED, JobState.PROCESSING}, waiting
        assert waiting.error_code is None
    assert report is not None
    mend()
    assert _within(60, lambda: bool(work(platform)) and job_of(platform, job_id).state.terminal)
    done = job_of(platform, job_id)
    assert (done.state, done.rejected) == (JobState.FINISHED, 0)


def test_a_lake_without_room_lets_jobs_wait_and_they_finish_once_there_is_room(lake: tuple[Platform, Path]) -> None:
    platform, folder = lake
    ballast = _fill(folder)
    job_id = _submit_many(platform)
    _require_waiting_then_done(platform, job_id, ballast.unlink)
    assert len(rows(platform)) == 20_000


def test_a_lake_that_refuses_to_be_written_lets_jobs_wait_too(lake: tuple[Platform, Path]) -> None:
    platform, folder = lake
    _mount(folder, "ro")
    job_id = _submit_many(platform)
    _require_waiting_then_done(platform, job_id, lambda: _mount(folder, "rw"))
    assert len(rows(platform)) == 20_000


def _submit_csv(platform: Platform) -> str:
    body = CSV.encode()
    job = replace(new_job(body), format=Format.CSV)
    (accepted,) = accept(platform.ledger, job)
    return accepted.id


def test_a_disk_without_room_for_a_loads_files_lets_jobs_wait_too(database_url: str, tmp_path: Path) -> None:
    platform = open_stores(database_url, tmp_path)
    try:
        with _disk(platform.staging_dir, size=MIB) as folder:
            declare(platform)
            ballast = _fill(folder)
            _require_waiting_then_done(platform, _submit_csv(platform), ballast.unlink)
            assert len(rows(platform)) == 1_000
    finally:
        platform.close()


def test_a_disk_without_room_for_a_loads_frames_lets_its_job_wait_and_no_other(
    database_url: str, tmp_path: Path
) -> None:
    platform = open_stores(database_url, tmp_path)
    try:
        with _disk(platform.staging_dir, size=MIB) as folder:
            declare(platform)
            job = replace(new_job(CSV.encode()), format=Format.CSV, body=None, blob="submissions/large")
            put_blob(platform, "submissions/large", CSV.encode())
            ballast = _fill(folder)
            (large,) = accept(platform.ledger, job)
            small = submit(platform, reading(minute=1))
            work(platform)
            assert job_of(platform, small).state is JobState.FINISHED
            _require_waiting_then_done(platform, large.id, ballast.unlink)
    finally:
        platform.close()


def test_a_dry_run_that_finds_no_room_is_refused(database_url: str, tmp_path: Path) -> None:
    with serving(database_url, tmp_path) as site, _disk(site.platform.staging_dir, size=64 * 1024) as folder:
        ballast = _fill(folder)

        def ask() -> int:
            headers = {"Content-Type": "text/csv"}
            return site.client.post(IMPORT, params={"dry_run": "true"}, content=CSV, headers=headers).status_code

        assert ask() == 503
        ballast.unlink()
        _mount(folder, f"size={16 * MIB}")
        assert ask() == 200
