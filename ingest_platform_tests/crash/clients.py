"""The clients of a trial: they send with keys and retry until they are answered, drop files, look on, and look back."""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from ingest_platform_tests.crash.checking import ENDED
from ingest_platform_tests.crash.installation import Lake, patience
from ingest_platform_tests.crash.issues import ids_told
from ingest_platform_tests.crash.journal import MARKED, OVERLAPPING, Afterwards, Family, Form, Journal, Sending, Shown
from ingest_platform_tests.crash.streams import SECRET, STREAM, Delivered

# The words of all families for a job that has ended.
ENDED_WORDS = ENDED | {"succeeded", "partial"}
# Promise 8: everything is settled so soon after what died was started again; a lost client retries as long.
RECOVERY_SECONDS_MAX = 30.0
RETRY_SECONDS = 0.1
LOOK_SECONDS = 0.1
# In flight, too many requests, not available now: to be sent again with the same key.
_RETRIED = frozenset({409, 429, 503})
_FAMILIES = {"issues": Family.ISSUES, "datasets": Family.DATASETS, "stream_events": Family.STREAMS}


def _where(job: Shown) -> str:
    return f"{_FAMILIES.get(str(job['family']), Family.READINGS).jobs_path}/{job['id']}"


class Clients:
    """The clients of one workspace, with one journal."""

    def __init__(self, *, port: int, workspace: str, token: str, data_dir: Path) -> None:
        self.journal = Journal()
        self.workspace = workspace
        self._data_dir = data_dir
        self._http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._failures: list[BaseException] = []

    def send(self, sending: Sending) -> None:
        """Send a submission until it is acknowledged."""
        self.journal.sendings.append(sending)
        sending.first_sent = time.monotonic()
        if sending.form is Form.FILE:
            self._drop(sending)
            sending.acked_at = time.monotonic()
            return
        deadline = sending.first_sent + patience(RECOVERY_SECONDS_MAX)
        while time.monotonic() < deadline:
            response = self._post(sending)
            if response is not None and response.status_code == sending.family.accepted:
                if sending.family is Family.DATASETS:
                    sending.location = response.headers["Location"]
                sending.answer, sending.acked_at = response.content, time.monotonic()
                return
            if response is not None and response.status_code not in _RETRIED:
                self.journal.wrong_answers.append(
                    f"submission {sending.number}: {response.status_code} {response.text}"
                )
                return
            sending.in_flight += response is not None and response.status_code == httpx.codes.CONFLICT
            self._over.wait(RETRY_SECONDS)

    def _post(self, sending: Sending) -> httpx.Response | None:
        headers = {"Content-Type": sending.form.value, "Idempotency-Key": f"{self.workspace}-{sending.number}"}
        if sending.family is Family.STREAMS:
            headers["X-Stream-Id"] = sending.target
        try:
            return self._http.post(sending.family.path, content=sending.content, headers=headers)
        except httpx.TransportError:
            # Nobody knows whether it was taken: that is what the key is for.
            return None

    def _drop(self, sending: Sending) -> None:
        folder = self._data_dir / "landing" / self.workspace / sending.family.folder / sending.target
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{sending.name}.part"
        unfinished.write_bytes(sending.content)
        unfinished.rename(folder / sending.name)

    def begin(self, work: Callable[[], None]) -> None:
        """Do something beside all else, until it is done."""

        def guarded() -> None:
            try:
                work()
            except BaseException as failure:  # noqa: BLE001 - it is raised where the trial is.
                self._failures.append(failure)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def begin_sending(self, sendings: Sequence[Sending]) -> None:
        """Send one submission after the other, beside all else."""

        def send_all() -> None:
            for sending in sendings:
                self.send(sending)

        self.begin(send_all)

    @property
    def sending(self) -> bool:
        """Whether any of them still sends."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._failures:
            raise self._failures[0]
        return bool(self._threads)

    @property
    def uploaded(self) -> bool:
        """Whether something large was sent; a second time would be more than one page of points shows."""
        return any(sending.marked and sending.form is Form.NDJSON for sending in self.journal.sendings)

    @contextmanager
    def looking_on(self) -> Iterator[None]:
        """Read what is stored, and poll jobs, all through a with block."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(LOOK_SECONDS):
                self._look_at_marked()
                self._look_at_issues()
                self.look_at_jobs()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _look_at_marked(self) -> None:
        found = self._try_get("/v1/machine-data/points", config_id=MARKED, limit=10_000)
        counts: dict[str, int] = {}
        for point in found["data"] if found else ():
            counts[point["job_id"]] = counts.get(point["job_id"], 0) + 1
        self.journal.sights.update(counts.items())

    def _look_at_issues(self) -> None:
        """Read some of the issues that clients were told of: each must be there at once, pending or stored."""
        told = ids_told(list(self.journal.sendings))
        for issue_id in random.sample(told, k=min(2, len(told))):
            with suppress(httpx.TransportError):
                if self._http.get(f"/v1/issues/{issue_id}").status_code == httpx.codes.NOT_FOUND:
                    self.journal.unread.add(issue_id)

    def look_at_jobs(self) -> None:
        """Poll every job once; the first terminal answer of each is kept."""
        for sending in list(self.journal.sendings):
            job_id = sending.job_id
            if job_id is not None and job_id not in self.journal.first_ends:
                answer = self._try_get(f"{sending.family.jobs_path}/{job_id}")
                if answer is not None and answer.get("status", answer.get("state")) in ENDED_WORDS:
                    self.journal.first_ends[job_id] = answer

    def _try_get(self, path: str, **parameters: str | int) -> Shown | None:
        try:
            response = self._http.get(path, params=parameters)
        except httpx.TransportError:
            return None
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR and response.status_code not in _RETRIED:
            self.journal.wrong_answers.append(f"GET {path}: {response.status_code} {response.text}")
        return response.json() if response.status_code == httpx.codes.OK else None

    def get(self, path: str, **parameters: str | int) -> Shown:
        """Read something that must be there; while the platform recovers, again."""
        deadline = time.monotonic() + patience(RECOVERY_SECONDS_MAX)
        while (found := self._try_get(path, **parameters)) is None:
            assert time.monotonic() < deadline, f"GET {path} had no answer for {RECOVERY_SECONDS_MAX:g} s"
            self._over.wait(RETRY_SECONDS)
        return found

    def _all(self, path: str, **parameters: str | int) -> list[Shown]:
        page = self.get(path, **parameters)
        found = list(page["data"])
        while (cursor := page["page"]["next_cursor"]) is not None:
            page = self.get(path, **parameters, cursor=cursor)
            found += page["data"]
        return found

    def jobs(self) -> list[Shown]:
        """List the workspace's jobs in order of acceptance."""
        return self._all("/v1/jobs", limit=100)[::-1]

    def settled(self) -> bool:
        """Whether all that was sent has a job, and every job an end, and every file its place."""
        files = sum(sending.form is Form.FILE for sending in self.journal.sendings)
        jobs = self.jobs()
        taken = sum(job["file"] is not None for job in jobs)
        ended = taken >= files and all(job["state"] in ENDED for job in jobs) and not self._not_archived_once()
        return ended and not self._undelivered()

    def _stats(self) -> Shown | None:
        """Read the accounts of the stream, if anything was sent to it."""
        sent = any(sending.family is Family.STREAMS for sending in self.journal.sendings)
        return self.get(f"/v1/streams/{STREAM}/stats") if sent else None

    def _undelivered(self) -> int:
        return sum(each["waiting"] for each in (self._stats() or {"destinations": ()})["destinations"])

    def unsettled(self) -> str:
        """Say what has not come to its end."""
        jobs = [f"{job['id']} is {job['state']}" for job in self.jobs() if job["state"] not in ENDED]
        files = [f"{name} is not archived once" for name in self._not_archived_once()]
        return ", ".join(
            [*jobs, *files, *([f"{waiting} events are not delivered"] if (waiting := self._undelivered()) else [])]
        )

    def _not_archived_once(self) -> list[str]:
        # Of files of a stream with masks only the answer is kept.
        files = {
            each.name: each.family is not Family.STREAMS for each in self.journal.sendings if each.form is Form.FILE
        }
        places = [self._data_dir / root / self.workspace for root in ("archive", "quarantine", "landing")]
        # Not rglob: it minds when a folder is renamed while it looks.
        found = [name for place in places for *_, names in os.walk(place) for name in names]
        return [
            name
            for name, kept in files.items()
            if (found.count(name), found.count(f"{name}.outcome.json")) != (int(kept), 1)
        ]

    def look_back(self, lake: Lake) -> Afterwards:
        """See everything that can be seen from outside, and send some of it again."""
        jobs = self.jobs()
        looks = [{str(job["id"]): self.get(_where(job)) for job in jobs} for _ in range(2)]
        acked = [sending for sending in self.journal.sendings if sending.answer is not None]
        replays: list[tuple[int, int, bytes]] = []
        for sending in acked[:: max(1, len(acked) // 4)]:
            response = self._post(sending)
            assert response is not None, "the API was away although nothing kills it any more"
            replays.append((sending.number, response.status_code, response.content))
        points = [
            point
            for config in (*OVERLAPPING, MARKED)
            for point in self._all("/v1/machine-data/points", config_id=config, limit=10_000)
        ]
        return Afterwards(
            jobs=jobs,
            looks=looks,
            points=points,
            issues=self._all("/v1/issues", limit=100),
            patterns=self._all("/v1/patterns", limit=100),
            repeated_keys=lake.repeated_keys,
            repeated_issues=lake.repeated_issues,
            kept_records=lake.kept_records,
            rows=lake.rows,
            quota_used=lake.quota_used,
            delivered=self._look_at_deliveries(lake.bodies_kept),
            replays=replays,
            not_archived_once=self._not_archived_once(),
        )

    def _look_at_deliveries(self, bodies_kept: int) -> Delivered:
        """See what was delivered to files, and which files still have what was to be masked."""
        paths = (self._data_dir / "exports" / self.workspace).rglob("dlv_*")
        events = [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]
        roots = [self._data_dir / root / self.workspace for root in ("archive", "quarantine", "landing", "exports")]
        found = [path for root in (*roots, self._data_dir / "blobs") for path in root.rglob("*") if path.is_file()]
        return Delivered(
            files=Counter((each["event_id"], each["document"]["event"]["number"]) for each in events),
            stats=self._stats() or {},
            bodies_kept=bodies_kept,
            unmasked=[str(path) for path in found if SECRET.encode() in path.read_bytes()],
        )

    def close(self) -> None:
        """Let go."""
        self._over.set()
        self._http.close()

    def describe(self) -> str:
        """Say what was sent, for whoever reads of a violation."""
        lines = [
            json.dumps(
                {
                    "number": each.number,
                    "form": each.form.name,
                    "items": len(each.items),
                    "bad": each.bad,
                    "job": each.job_id or each.name,
                }
            )
            for each in self.journal.sendings
        ]
        return "\n".join(lines)
