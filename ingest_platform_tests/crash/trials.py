"""The trials: what dies or pauses where, while what is sent; and how one is carried out."""

import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, unique

from ingest_platform_tests.crash.checking import violations
from ingest_platform_tests.crash.clients import RECOVERY_SECONDS_MAX, Clients
from ingest_platform_tests.crash.datasets import Seller
from ingest_platform_tests.crash.installation import (
    LEASE_SECONDS,
    NEVER,
    POLL_SECONDS,
    Installation,
    NotInTime,
    Part,
    await_true,
)
from ingest_platform_tests.crash.issues import Reporter
from ingest_platform_tests.crash.journal import Form, Sending, Writer
from ingest_platform_tests.crash.streams import Streamer

# More rounds of clients than this and the point has not been reached: then the trial proves nothing.
ROUNDS_MAX = 6
# Between rounds, so that runs end and files are taken: many points are reached only once a run or a file.
ROUND_SECONDS = 1.5
# An external kill comes somewhere in the first second of the load.
KILL_SECONDS_MAX = 1.0
# As long as a woken worker needs to do what it must not.
WOKEN_SECONDS = 0.7
# Above the size from which a body lies in a blob.
UPLOAD_ITEMS = 2_600


@unique
class Who(Enum):
    """What dies or pauses."""

    API = "api"
    WORKER = "worker"
    BOTH_WORKERS = "both workers"
    POSTGRES = "postgres"
    POSTMASTER = "postmaster"
    DAEMON = "daemon"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial; `point` None means at a moment that the seed chooses."""

    who: Who
    seed: int
    point: str | None = None
    nth: int = 1
    pause: bool = False
    by_environment: bool = False
    uploads: bool = False
    files: bool = False
    only_garbage: bool = False
    # Issues are sent; nothing else, unless the moment is any.
    issues: bool = False
    # Records of a dataset are sent; nothing else, unless the moment is any. As files only, if there are files.
    datasets: bool = False
    # Events of a stream are sent; nothing else, unless the moment is any.
    streams: bool = False
    # What was accepted still waits when everything dies.
    backlog: bool = False
    # The blob of a submission is deleted while it waits.
    lost_blob: bool = False

    def __str__(self) -> str:
        """Name it."""
        how = "pause" if self.pause else "kill"
        where = f"{self.point}:{self.nth}" if self.point else "any moment"
        extra = ["by environment"] * self.by_environment + ["only garbage"] * self.only_garbage
        extra += ["with issues"] * self.issues + ["with datasets"] * self.datasets
        extra += ["with streams"] * self.streams
        extra += ["with a backlog"] * self.backlog + ["with a blob lost"] * self.lost_blob
        return " ".join([how, self.who.value, "at", where, *extra, f"seed {self.seed}"])


def matrix() -> list[Trial]:
    """List the trials of the suite."""
    parts = (_at_points(), _at_any_moment(), _pauses(), _with_issues(), _with_datasets(), _with_streams())
    return [trial for trials in parts for trial in trials]


def _at_points() -> Iterator[Trial]:
    for seed, point in enumerate(("received", "before_commit", "after_commit", "before_reply"), start=10):
        for nth in (1, 3):
            yield Trial(who=Who.API, point=f"land.{point}", nth=nth, seed=seed * 10 + nth)
    yield Trial(who=Who.API, point="land.blob_written", uploads=True, seed=150)
    # One submission after the other, so that no key is left reserved for longer than a trial may take.
    yield Trial(who=Who.API, point="land.before_reply", by_environment=True, only_garbage=True, seed=160)
    path = ("worker.before_claim", "worker.run_created", "gather.before_claim", "gather.claimed", "load.staged")
    path += ("load.merged", "load.before_commit", "load.after_commit", "settle.before_commit", "settle.after_commit")
    for seed, point in enumerate(path, start=20):
        yield Trial(who=Who.WORKER, point=point, seed=seed * 10)
        # Every other point kills both, so that nobody is there to take over.
        who = Who.BOTH_WORKERS if seed % 2 else Who.WORKER
        yield Trial(who=who, point=point, uploads=True, seed=seed * 10 + 1)
    yield Trial(who=Who.WORKER, point="load.after_commit", by_environment=True, seed=300)
    for seed, point in enumerate(("claimed", "copied", "before_commit", "after_commit", "archived"), start=31):
        for nth in (1, 2):
            yield Trial(who=Who.BOTH_WORKERS, point=f"file.{point}", nth=nth, files=True, seed=seed * 10 + nth)


def _at_any_moment() -> Iterator[Trial]:
    often = {Who.API: 3, Who.WORKER: 3, Who.POSTGRES: 4, Who.POSTMASTER: 1, Who.BOTH_WORKERS: 1, Who.ALL: 2}
    for number, (who, times) in enumerate(often.items(), start=40):
        for n in range(times):
            yield Trial(who=who, seed=number * 10 + n, uploads=n % 2 == 0, files=n == 1)
    yield Trial(who=Who.ALL, backlog=True, uploads=True, seed=460)
    yield Trial(who=Who.BOTH_WORKERS, backlog=True, lost_blob=True, uploads=True, seed=465)
    yield Trial(who=Who.DAEMON, seed=470)
    yield Trial(who=Who.DAEMON, seed=471, files=True)


def _pauses() -> Iterator[Trial]:
    path = ("gather.claimed", "load.staged", "load.merged", "load.before_commit", "load.after_commit")
    for seed, point in enumerate((*path, "settle.before_commit", "settle.after_commit"), start=50):
        yield Trial(who=Who.WORKER, point=point, pause=True, seed=seed * 10)
    yield Trial(who=Who.BOTH_WORKERS, point="file.copied", pause=True, files=True, seed=570)
    yield Trial(who=Who.WORKER, point="settle.before_commit", pause=True, only_garbage=True, seed=580)
    yield Trial(who=Who.WORKER, pause=True, seed=590)


def _with_issues() -> Iterator[Trial]:
    """List what the fold and the patterns add to the path, and the doors of issues."""
    for seed, point in enumerate(("land.before_commit", "land.before_reply"), start=600):
        yield Trial(who=Who.API, point=point, nth=2, issues=True, seed=seed)
    for seed, point in enumerate(
        ("load.staged", "load.merged", "load.after_commit", "settle.before_commit"), start=610
    ):
        yield Trial(who=Who.BOTH_WORKERS if seed % 2 else Who.WORKER, point=point, issues=True, seed=seed)
    yield Trial(who=Who.WORKER, point="load.merged", pause=True, issues=True, seed=620)
    yield Trial(who=Who.WORKER, point="load.before_commit", pause=True, issues=True, seed=621)
    yield Trial(who=Who.BOTH_WORKERS, point="file.before_commit", files=True, issues=True, seed=630)
    yield Trial(who=Who.POSTGRES, issues=True, seed=640)
    yield Trial(who=Who.ALL, backlog=True, issues=True, seed=650)


def _with_datasets() -> Iterator[Trial]:
    """List what appending and quotas add to the path, and the door of datasets."""
    for seed, point in enumerate(("land.before_commit", "land.before_reply"), start=700):
        yield Trial(who=Who.API, point=point, nth=2, datasets=True, seed=seed)
    yield Trial(who=Who.WORKER, point="load.merged", datasets=True, seed=710)
    yield Trial(who=Who.BOTH_WORKERS, point="load.after_commit", datasets=True, seed=711)
    # Files are counted before they are stored, and what was counted is forgotten when they end.
    yield Trial(who=Who.BOTH_WORKERS, point="load.staged", datasets=True, files=True, seed=712)
    yield Trial(who=Who.BOTH_WORKERS, point="settle.before_commit", datasets=True, files=True, seed=713)
    yield Trial(who=Who.WORKER, point="load.before_commit", pause=True, datasets=True, seed=720)
    yield Trial(who=Who.POSTGRES, datasets=True, seed=730)
    yield Trial(who=Who.ALL, backlog=True, datasets=True, seed=740)


def _with_streams() -> Iterator[Trial]:
    """List what consigning and forgetting add to the path, the door of streams, and the deliveries."""
    yield Trial(who=Who.API, point="land.before_reply", nth=2, streams=True, seed=801)
    yield Trial(who=Who.BOTH_WORKERS, point="settle.before_commit", streams=True, files=True, seed=811)
    yield Trial(who=Who.BOTH_WORKERS, point="settle.after_commit", streams=True, files=True, seed=812)
    yield Trial(who=Who.WORKER, point="settle.before_commit", pause=True, streams=True, seed=820)
    for seed, point in enumerate(("claimed", "parted", "before_send", "sent", "kept"), start=830):
        yield Trial(who=Who.BOTH_WORKERS, point=f"deliver.{point}", nth=1 + seed % 2, streams=True, seed=seed)
    yield Trial(who=Who.WORKER, point="deliver.sent", pause=True, streams=True, seed=835)
    yield Trial(who=Who.POSTGRES, streams=True, seed=840)
    yield Trial(who=Who.ALL, backlog=True, streams=True, seed=850)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a trial showed."""

    violations: Sequence[str]
    sent: str
    seconds: float
    # How often a retry found its key reserved for a request that was under way, or had been.
    in_flight: int = 0


class Writers:
    """Who makes the submissions of a trial."""

    def __init__(self, seed: int, *, dataset: str) -> None:
        self.readings = Writer(seed)
        # Numbers are of all submissions of a trial.
        self.issues = Reporter(seed, first=10_000)
        self.sales = Seller(seed, first=20_000, dataset=dataset)
        self.events = Streamer(seed, first=30_000)


def run(installation: Installation, trial: Trial, *, name: str) -> Result:
    """Carry out a trial in a workspace of its own and check the promises."""
    begun = time.monotonic()
    installation.await_ready()
    token = installation.make_workspace(name)
    clients = Clients(port=installation.port, workspace=name, token=token, data_dir=installation.data_dir)
    try:
        found = _carry_out(installation, trial, clients)
        in_flight = sum(sending.in_flight for sending in clients.journal.sendings)
        seconds = time.monotonic() - begun
        return Result(violations=found, sent=clients.describe(), seconds=seconds, in_flight=in_flight)
    except NotInTime as late:
        return Result(violations=[f"2: {late}"], sent=clients.describe(), seconds=time.monotonic() - begun)
    finally:
        clients.close()


def _carry_out(installation: Installation, trial: Trial, clients: Clients) -> list[str]:
    with clients.looking_on():
        _strike(installation, trial, clients)
        await_settled(installation, clients)
    after = clients.look_back(installation.look_into_lake(clients.workspace))
    return violations(clients.journal, after)


def await_settled(installation: Installation, clients: Clients) -> None:
    """Start again what died, and wait until all that was sent has come to its end."""

    def settled() -> bool:
        installation.raise_dead()
        return not clients.sending and clients.settled()

    try:
        await_true(settled, seconds_max=RECOVERY_SECONDS_MAX, what="everything has settled")
    except NotInTime as late:
        raise NotInTime(f"{late}; {clients.unsettled()}") from late


def _strike(installation: Installation, trial: Trial, clients: Clients) -> None:
    dataset = installation.make_dataset(clients.workspace) if trial.datasets else ""
    if trial.streams:
        installation.make_stream(clients.workspace)
    writer, chance = Writers(trial.seed, dataset=dataset), random.Random(trial.seed)
    victims = _victims(installation, trial, chance)
    if trial.backlog:
        _send_backlog(installation, trial, clients, writer)
        _lose_blobs(installation, clients) if trial.lost_blob else installation.lose_power()
        return
    with _armed(installation, trial, victims) as struck:
        if trial.point is None:
            _send_round(clients, writer, trial)
            time.sleep(chance.uniform(0.1, KILL_SECONDS_MAX))
            _strike_from_outside(installation, trial, victims)
        else:
            rivals = [each for each in installation.workers if trial.who is Who.WORKER and each not in victims]
            _send_until(struck, lambda: _send_round(clients, writer, trial), clients, rivals=rivals)
        if trial.pause:
            _take_over_and_wake(installation, trial, clients, victims)
        elif trial.point is None:
            # The load goes on behind the crash as well.
            _send_round(clients, writer, trial)


def _send_until(
    struck: Callable[[], bool], send: Callable[[], None], clients: Clients, *, rivals: Sequence[Part]
) -> None:
    """Send round after round until an armed point was reached; after a while, its rivals leave the work to it."""
    rounds, next_round = 0, 0.0
    try:
        while not struck():
            if time.monotonic() > next_round and not clients.sending:
                assert rounds < ROUNDS_MAX, f"the point was not reached in {ROUNDS_MAX} rounds"
                rounds, next_round = rounds + 1, time.monotonic() + ROUND_SECONDS
                for rival in rivals if rounds > ROUNDS_MAX // 2 else ():
                    rival.send_signal(signal.SIGSTOP)
                send()
            time.sleep(POLL_SECONDS)
    finally:
        for rival in rivals:
            rival.send_signal(signal.SIGCONT)


def _victims(installation: Installation, trial: Trial, chance: random.Random) -> list[Part]:
    match trial.who:
        case Who.API:
            return [installation.api]
        case Who.WORKER:
            return [chance.choice(installation.workers)]
        case Who.BOTH_WORKERS:
            return list(installation.workers)
        case Who.DAEMON:
            return [installation.daemon]
        case Who.ALL:
            return [installation.api, *installation.workers]
        case Who.POSTGRES | Who.POSTMASTER:
            return []


@contextmanager
def _armed(installation: Installation, trial: Trial, victims: Sequence[Part]) -> Iterator[Callable[[], bool]]:
    """Arm the point in all victims for a with block; tells whether one of them has been struck."""
    if trial.who is Who.DAEMON and installation.daemon not in installation.wanted:
        installation.wanted.add(installation.daemon)
        installation.raise_dead()
    if trial.point is None:
        yield lambda: False
        return
    spec = f"{'pause:' if trial.pause else ''}{trial.point}:{trial.nth}"
    for victim in victims:
        if trial.by_environment:
            victim.start(crashpoint=spec)
        victim.await_ready()
        if not trial.by_environment:
            victim.arm(spec)
    try:
        yield lambda: any(victim.paused if trial.pause else not victim.alive for victim in victims)
    finally:
        for victim in victims:
            if trial.by_environment:
                victim.start()
            elif victim.alive:
                # One that is paused answers once it goes on.
                victim.send_signal(signal.SIGCONT)
                victim.arm(NEVER)


def _strike_from_outside(installation: Installation, trial: Trial, victims: Sequence[Part]) -> None:
    if trial.who is Who.ALL:
        installation.lose_power()
    elif trial.who in {Who.POSTGRES, Who.POSTMASTER}:
        installation.kill_postgres(first_only=trial.who is Who.POSTMASTER)
    for victim in victims:
        if trial.pause:
            victim.send_signal(signal.SIGSTOP)
        else:
            victim.kill()


def _send_backlog(installation: Installation, trial: Trial, clients: Clients, writer: Writers) -> None:
    for worker in installation.workers:
        worker.kill()
    _send_round(clients, writer, trial)
    await_true(lambda: not clients.sending, seconds_max=RECOVERY_SECONDS_MAX, what="all is acknowledged")


def _lose_blobs(installation: Installation, clients: Clients) -> None:
    """Delete the blobs of all uploads that wait, as nobody should."""
    submissions = installation.data_dir / "blobs" / "submissions"
    for sending in clients.journal.sendings:
        blob = submissions / str(sending.job_id)
        if blob.exists():
            blob.unlink()
            sending.lost = True
    assert any(sending.lost for sending in clients.journal.sendings), "nothing that was sent lies in a blob"


def _take_over_and_wake(installation: Installation, trial: Trial, clients: Clients, victims: Sequence[Part]) -> None:
    """Let another worker do what the paused one had claimed, past its lease; then wake that one."""
    if trial.files:
        # What a living process holds of the landing folder is not taken from it, paused or not.
        time.sleep(LEASE_SECONDS)
    else:
        await_settled(installation, clients)
        # The answers that the woken one must not change any more.
        clients.look_at_jobs()
    for victim in victims:
        victim.send_signal(signal.SIGCONT)
    time.sleep(WOKEN_SECONDS)


def _send_round(clients: Clients, writers: Writers, trial: Trial) -> None:
    writer = writers.readings
    if trial.only_garbage:
        clients.begin_sending([writer.garbage() for _ in range(4)])
        return
    if trial.issues:
        _send_issues(clients, writers.issues, trial)
    if trial.datasets:
        _send_sales(clients, writers.sales, trial)
    if trial.streams:
        _send_events(clients, writers.events, trial)
    if (trial.issues or trial.datasets or trial.streams) and trial.point is not None:
        return
    clients.begin_sending([writer.overlapping() for _ in range(4)])
    clients.begin_sending([writer.overlapping(), writer.overlapping(Form.NDJSON), writer.marked()])
    if trial.uploads and not clients.uploaded:
        clients.begin_sending([writer.marked(Form.NDJSON, size=UPLOAD_ITEMS), writer.garbage()])
    if trial.files:
        file = writer.overlapping(Form.FILE)
        clients.begin_sending([file, writer.copy_of(file), _marked_file(writer)])


def _send_issues(clients: Clients, reporter: Reporter, trial: Trial) -> None:
    for _ in range(2):
        clients.begin_sending([reporter.batch() for _ in range(4)])
    if trial.files:
        clients.begin_sending([reporter.batch(Form.FILE, size=60) for _ in range(2)])


def _send_sales(clients: Clients, seller: Seller, trial: Trial) -> None:
    if trial.files:
        file = seller.batch(Form.FILE, size=60)
        clients.begin_sending([file, seller.batch(Form.FILE, size=60), seller.copy_of(file)])
        return
    for _ in range(2):
        clients.begin_sending([seller.batch() for _ in range(4)])


def _send_events(clients: Clients, streamer: Streamer, trial: Trial) -> None:
    for _ in range(2):
        clients.begin_sending([streamer.batch() for _ in range(4)])
    if trial.files:
        clients.begin_sending([streamer.batch(Form.FILE, size=60) for _ in range(2)])


def _marked_file(writer: Writer) -> Sending:
    return writer.marked(Form.FILE, size=50)
