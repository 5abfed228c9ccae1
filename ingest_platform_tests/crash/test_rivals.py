"""Two workers and two API processes at once: they do what one of each does with the same submissions in a row."""

import random
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import httpx
import pytest

from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.storage.warehouse import rows_of
from ingest_platform_tests.crash.checking import sent_by, violations
from ingest_platform_tests.crash.clients import Clients
from ingest_platform_tests.crash.installation import Installation
from ingest_platform_tests.crash.issues import Reporter
from ingest_platform_tests.crash.journal import Sending
from ingest_platform_tests.crash.trials import await_settled

pytestmark = pytest.mark.crash
SENDERS = 6
BATCHES = 10
RECORDS = 60
ROUNDS_MAX = 5
BOTH = {"worker-1", "worker-2"}
# What depends on the workspace or the moment.
PLACES = (
    *("workspace", "issue_id", "key_hash", "job_id", "record_index", "accepted_seq", "accepted_index", "accepted_at"),
    *("first_seen_at", "last_seen_at", "created_at", "updated_at"),
)


class Rivals(Clients):
    """Clients that send to any of several APIs, and often to two of them at once."""

    def __init__(self, installation: Installation, *, workspace: str, token: str) -> None:
        super().__init__(port=installation.port, workspace=workspace, token=token, data_dir=installation.data_dir)
        self._dice = random.Random(5)
        self._doors = [
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {token}"}, timeout=10)
            for port in installation.ports
        ]

    def _post(self, sending: Sending) -> httpx.Response | None:
        doors = self._dice.sample(self._doors, k=self._dice.choice((1, 2)))
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda door=door: answers.append(self._ask(door, sending))) for door in doors
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = {answer.content for answer in answers if answer.status_code == httpx.codes.ACCEPTED}
        if len(taken) > 1:
            self.journal.wrong_answers.append(f"submission {sending.number} was answered in two ways: {taken}")
        return next((each for each in answers if each.status_code == httpx.codes.ACCEPTED), answers[0])

    def _ask(self, door: httpx.Client, sending: Sending) -> httpx.Response:
        headers = {"Content-Type": sending.form.value, "Idempotency-Key": f"{self.workspace}-{sending.number}"}
        return door.post(sending.family.path, content=sending.content, headers=headers)

    def close(self) -> None:
        """Let go."""
        super().close()
        for door in self._doors:
            door.close()


@pytest.fixture
def installation() -> Iterator[Installation]:
    """Start a platform with two APIs."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-rivals-"))
    opened = Installation(folder, apis=2)
    try:
        opened.await_ready()
        for worker in opened.workers:
            worker.await_ready()
        yield opened
    finally:
        opened.close()
        shutil.rmtree(folder, ignore_errors=True)


def _rows(installation: Installation, workspace: str) -> Sequence[Mapping[str, object]]:
    query = f"SELECT * EXCLUDE ({', '.join(PLACES)}) FROM {rows_of(TABLE.name)} WHERE workspace = ? ORDER BY ALL"
    return installation.warehouse.query(query, [workspace]).to_pylist()


def _workers_of(installation: Installation) -> set[str]:
    """Name the parts that have settled loads of issues."""
    logs = [installation.data_dir / "run" / "logs" / f"{worker.name}.log" for worker in installation.workers]
    return {log.stem for log in logs if b"load settled" in log.read_bytes()}


def test_two_workers_and_two_apis_make_the_table_that_one_of_each_makes(installation: Installation) -> None:
    rivals = Rivals(installation, workspace="both", token=installation.make_workspace("both"))
    rounds = 0
    with rivals.looking_on():
        # On a busy machine one worker may do everything at first.
        while rounds < ROUNDS_MAX and _workers_of(installation) != BOTH:
            for sender in range(SENDERS):
                reporter = Reporter(rounds * SENDERS + sender, first=(rounds * SENDERS + sender) * 1_000)
                rivals.begin_sending([reporter.batch(size=RECORDS) for _ in range(BATCHES)])
            await_settled(installation, rivals)
            rounds += 1
    after = rivals.look_back(installation.look_into_lake("both"))
    rivals.close()
    assert violations(rivals.journal, after) == [], rivals.describe()
    assert len(after.jobs) == rounds * SENDERS * BATCHES
    assert _workers_of(installation) == BOTH, "one worker did everything: nothing was proven"

    token = installation.make_workspace("serial")
    serial = Clients(port=installation.port, workspace="serial", token=token, data_dir=installation.data_dir)
    in_order = [
        Sending(number=each.number, form=each.form, items=each.items, content=each.content, family=each.family)
        for each in sent_by(rivals.journal, after.jobs).values()
    ]
    serial.begin_sending(in_order)
    await_settled(installation, serial)
    serial.close()
    rows = _rows(installation, "serial")
    assert len(rows) == len(after.issues) > 0
    assert _rows(installation, "both") == rows
