"""The processes of `ingest up`: started in order, watched, started again when they die, ended together.

What the parts do is not known here, nor how a person is told: whoever runs a supervisor is called with each event.
Nobody else is ever killed: only processes that this one started.
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import psutil

from ingest_platform.domain.errors import Fault, LedgerFault
from ingest_platform.logs import hide_secrets
from ingest_platform.settings import Settings, child_environment
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import connect, migrate

Announce = Callable[[str, Mapping[str, object]], None]
Probe = Callable[[], Awaitable[bool]]

PACKAGE_HOME = Path(__file__).resolve().parent
# "SIGTERM ends all parts within 15 s": the parts' share, then the database's, and a second to spare.
PARTS_STOP_SECONDS_MAX = 10.5
DATABASE_STOP_SECONDS_MAX = 2.5
# A part that dies at once shall not take the machine's CPU with it; one that lived a while starts at once.
BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
LIVED_SECONDS_MIN = 30.0
# A vital part that never came up and dies again and again will not come up: the start fails, and says why.
START_FAILURES_MAX = 3
PROBE_SECONDS = 0.05
DATABASE_POLL_SECONDS = 0.25
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_LINE_BYTES_MAX = 64 * 1024
# One error may come thousands of times; the console shows it once in a while, the log every time.
ERROR_REPEAT_SECONDS = 30.0
# A socket's path may have about 100 bytes.
SOCKET_FOLDER_BYTES_MAX = 80
_SET_PARENT_DEATH_SIGNAL = 1
_TAIL_LINES = 8


class NotStarted(Fault):
    """`ingest up` can't start, or could not bring all parts up; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One process: its command, the parts that must be ready before it, and how its readiness shows."""

    name: str
    command: Sequence[str]
    address: str = ""
    after: tuple[str, ...] = ()
    probe: Probe | None = None
    # Or words of its output.
    ready_words: str = ""
    # Without it nothing is of use: if it never comes up, the start has failed. The others are tried for ever, because
    # what is accepted in the meantime is safe and waits.
    vital: bool = False


@dataclass(slots=True)
class _State:
    """What is known of one part while it runs."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    tail: list[str] = field(default_factory=list[str])
    told: dict[str, float] = field(default_factory=dict[str, float])


# What the parts are


def parts_of(settings: Settings, *, sockets: Path) -> list[Part]:
    """List the parts that the settings ask for."""
    python, host = sys.executable, settings.api_host
    ours = (python, "-m", "ingest_platform")
    address = reachable_address(host, settings.api_port)
    workers = [
        Part(
            name="worker" if settings.workers == 1 else f"worker-{number + 1}",
            command=(*ours, "worker"),
            ready_words="worker ready",
        )
        for number in range(settings.workers)
    ]
    api = Part(
        name="api",
        command=(*ours, "api"),
        address=address,
        probe=_answers_at(host, settings.api_port, "/readyz"),
        vital=True,
    )
    return [api, *workers, *(_dagster_parts(settings, sockets) if settings.ui else ())]


def _dagster_parts(settings: Settings, sockets: Path) -> list[Part]:
    """One code server for webserver and daemon: each would load the code in a process of its own otherwise."""
    python, workspace, code = sys.executable, settings.data_dir / "run" / "workspace.yaml", sockets / "code.sock"
    server = ("-m", "dagster", "api", "grpc", "--socket", str(code), "--module-name", "ingest_platform.definitions")
    server += ("--location-name", "ingest_platform", "--use-python-environment-entry-point", "--log-format", "json")
    host, port = settings.api_host, settings.ui_port
    web = ("-m", "dagster_webserver", "--host", host, "--port", str(port), "--workspace", str(workspace))
    daemon = ("-m", "dagster._daemon", "run", "--workspace", str(workspace), "--log-format", "json")
    return [
        Part(name="code", command=(python, *server), after=("api",), probe=_accepts(code)),
        Part(
            name="web",
            command=(python, *web, "--log-format", "json", "--suppress-warnings"),
            address=reachable_address(host, port),
            after=("code",),
            probe=_answers_at(host, port, "/server_info"),
        ),
        Part(
            name="daemon",
            command=(python, *daemon),
            after=("code",),
            ready_words="configured with the following daemons",
        ),
    ]


def reachable_address(host: str, port: int) -> str:
    """Write the address by which this machine reaches a server."""
    return f"http://{_reachable(host)}:{port}"


def _reachable(host: str) -> str:
    """Name the address by which this machine reaches a server that listens on all of its addresses."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - read, not bound.


def _answers_at(host: str, port: int, path: str) -> Probe:
    async def probe() -> bool:
        try:
            reader, writer = await asyncio.open_connection(_reachable(host).strip("[]"), port)
        except OSError:
            return False
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            async with asyncio.timeout(5.0):
                status = await reader.readline()
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()
        return b" 200 " in status

    return probe


def _accepts(path: Path) -> Probe:
    async def probe() -> bool:
        try:
            _, writer = await asyncio.open_unix_connection(path)
        except OSError:
            return False
        writer.close()
        return True

    return probe


# One supervisor a data directory


class UpLock:
    """The lock that only one `ingest up` of a data directory has; it goes with the process, however that ends."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "run" / "up.lock"
        self._file: int | None = None

    def take(self, *, said: str) -> None:
        """Take it; raises NotStarted with what the other one said of itself."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = os.pread(file, 1000, 0).decode(errors="replace").strip()
            os.close(file)
            raise NotStarted(
                f"`ingest up` already runs on {self._path.parent.parent} ({other}). "
                "Use that one, end it first, or give this one a folder of its own with --data-dir."
            ) from None
        os.ftruncate(file, 0)
        os.pwrite(file, said.encode(), 0)
        self._file = file

    def release(self) -> None:
        """Give it back."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def check_ports(settings: Settings) -> None:
    """Make sure that the ports are free. Raises NotStarted, naming the flag."""
    wanted = [(settings.api_port, "--api-port", "INGEST_API_PORT")]
    if settings.ui:
        wanted.append((settings.ui_port, "--ui-port", "INGEST_UI_PORT"))
    if len({port for port, _, _ in wanted}) < len(wanted):
        raise NotStarted(f"--api-port and --ui-port are both {settings.api_port}; give one of them another port.")
    for port, flag, variable in wanted:
        problem = port_problem(settings.api_host, port)
        if problem:
            raise NotStarted(f"Port {port} of {settings.api_host} {problem}: choose another with {flag} or {variable}.")


def port_problem(host: str, port: int) -> str | None:
    """Say why a port can't be listened on; None if it can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the servers do: connections of an earlier one that linger are no reason.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
    return None


def dagster_home(settings: Settings) -> Path:
    """Find the folder of dagster.yaml: the configured one, the repository's root, or one made in the data folder."""
    if settings.dagster_home:
        return Path(settings.dagster_home)
    if (PACKAGE_HOME.parent / "dagster.yaml").is_file():
        return PACKAGE_HOME.parent
    home, packed = settings.data_dir / "run" / "dagster-home", PACKAGE_HOME / "dagster.yaml"
    if not packed.is_file():
        raise NotStarted("There is no dagster.yaml in this installation; set DAGSTER_HOME to the folder of one.")
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(packed, home / "dagster.yaml")
    return home


# Running


class Supervisor:
    """All parts of one installation. `run` returns when a signal ended it."""

    def __init__(self, settings: Settings, *, announce: Announce, seed: Callable[[Settings], None]) -> None:
        self._settings = settings
        self._announce = announce
        self._seed = seed
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._states: dict[str, _State] = {}
        self._failure: str | None = None
        self._server: embedded.EmbeddedServer | None = None
        self._run_dir = settings.data_dir / "run"
        self._environment: dict[str, str] = {}

    async def run(self) -> None:
        """Start everything, and stay until a signal. Raises NotStarted if it could not be brought up."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._asked_to_stop)
        lock = UpLock(self._settings.data_dir)
        api = reachable_address(self._settings.api_host, self._settings.api_port)
        lock.take(said=f"process {os.getpid()}, API {api}")
        sockets = _make_socket_folder(self._run_dir)
        try:
            self._end_left_over()
            check_ports(self._settings)
            self._start_database()
            await self._run_parts(parts_of(self._settings, sockets=sockets), sockets=sockets)
        finally:
            self._stop_database()
            shutil.rmtree(sockets, ignore_errors=True)
            lock.release()
        if self._failure:
            raise NotStarted(self._failure)

    def _asked_to_stop(self) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def _fail(self, reason: str) -> None:
        self._failure = self._failure or reason
        self._stopping.set()

    async def _run_parts(self, parts: Sequence[Part], *, sockets: Path) -> None:
        self._write_workspace(sockets)
        self._states = {part.name: _State() for part in parts}
        tasks = [asyncio.create_task(self._keep(part), name=part.name) for part in parts]
        tasks.append(asyncio.create_task(self._become_ready(), name="ready"))
        if self._server is not None:
            tasks.append(asyncio.create_task(self._keep_database(), name="postgres"))
        stopping = asyncio.create_task(self._stopping.wait())
        pending: set[asyncio.Task[object]] = {*tasks, stopping}
        while not self._stopping.is_set():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(task.exception() for task in done):
                break
        self._stopping.set()
        self._announce("stopping", {})
        await self._stop_parts()
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        stopping.cancel()
        for end in ended:
            if isinstance(end, Exception):
                raise end

    async def _become_ready(self) -> None:
        """Seed while the parts start, and tell when all of them are ready."""
        await asyncio.to_thread(self._seed, self._settings)
        await asyncio.gather(*(state.ready.wait() for state in self._states.values()))
        self._announce("ready", {})

    # The database

    def _start_database(self) -> None:
        clock = asyncio.get_running_loop().time
        started, configured = clock(), self._settings.database_url
        if configured is None:
            self._server = embedded.start(self._settings.data_dir)
            shown = f"embedded, {self._settings.data_dir / 'postgres'}"
            url = self._server.url
        else:
            url, shown = configured, hide_secrets(configured)
            try:
                connect(url, application="ingest-up").close()
            except LedgerFault as error:
                raise NotStarted(f"INGEST_DATABASE_URL: {hide_secrets(str(error))}") from error
        migrate(url)
        self._settings = replace(self._settings, database_url=url, dagster_home=str(dagster_home(self._settings)))
        self._environment = child_environment(self._settings)
        self._announce("part ready", {"part": "postgres", "seconds": clock() - started, "address": shown})

    async def _keep_database(self) -> None:
        """Watch the embedded server and start it again when it dies."""
        while not self._stopping.is_set():
            assert self._server is not None
            if not self._server.alive():
                self._announce("part ended", {"part": "postgres", "exit": None, "again_in_seconds": 0.0})
                self._server = embedded.start(self._settings.data_dir)
                self._announce("part ready", {"part": "postgres", "seconds": 0.0, "address": "again"})
            self._server.trim_log()
            await self._pause(DATABASE_POLL_SECONDS)

    def _stop_database(self) -> None:
        if self._server is not None:
            self._server.stop(seconds_max=DATABASE_STOP_SECONDS_MAX)

    # The parts

    async def _keep(self, part: Part) -> None:
        """Keep one part running until the end."""
        state = self._states[part.name]
        for earlier in part.after:
            await self._states[earlier].ready.wait()
        clock = asyncio.get_running_loop().time
        while not self._stopping.is_set():
            started = clock()
            code = await self._run_once(part, state)
            if self._stopping.is_set():
                return
            state.failures = 0 if clock() - started > LIVED_SECONDS_MIN else state.failures + 1
            if part.vital and not state.ready.is_set() and state.failures >= START_FAILURES_MAX:
                said = "\n  ".join(state.tail)
                self._fail(f"{part.name} did not start ({_exit_words(code)}); {self._log_file(part)} ends:\n  {said}")
                return
            pause = BACKOFF_SECONDS[min(state.failures, len(BACKOFF_SECONDS) - 1)]
            last = "" if code == 0 or not state.tail else f"; it said last: {state.tail[-1][:300]}"
            exit_ = f"{_exit_words(code)}{last}"
            self._announce("part ended", {"part": part.name, "exit": exit_, "again_in_seconds": pause})
            await self._pause(pause)

    async def _run_once(self, part: Part, state: _State) -> int:
        """Run a part's process to its end; its exit code."""
        reading, writing = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *part.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                env=self._environment,
                # A Ctrl-C at the terminal is for us; we end the parts in order. What a part starts ends with it.
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        finally:
            os.close(writing)
        state.process = process
        self._remember()
        output = asyncio.create_task(self._read(part, state, reading))
        probing = asyncio.create_task(self._probe(part, state))
        try:
            return await process.wait()
        finally:
            state.process = None
            probing.cancel()
            _signal_group(process.pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(output, timeout=1.0)

    async def _probe(self, part: Part, state: _State) -> None:
        clock = asyncio.get_running_loop().time
        started, again = clock(), state.ready.is_set()
        if part.probe is None:
            return
        while not await part.probe():
            await self._pause(PROBE_SECONDS)
        self._became_ready(part, state, seconds=clock() - started, again=again)

    def _became_ready(self, part: Part, state: _State, *, seconds: float | None, again: bool) -> None:
        state.ready.set()
        address = part.address or ("again" if again else "")
        self._announce("part ready", {"part": part.name, "seconds": seconds, "address": address})

    async def _read(self, part: Part, state: _State, pipe: int) -> None:
        """Carry a part's output into its log file; readiness and errors are noticed on the way."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LOG_LINE_BYTES_MAX)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb", buffering=0)
        )
        started, waiting = loop.time(), part.probe is None
        again = state.ready.is_set()
        try:
            with RotatedLog(self._log_file(part)) as log:
                while line := await _next_line(reader):
                    log.write(line)
                    text = line.decode(errors="replace").rstrip()
                    state.tail = [*state.tail[1 - _TAIL_LINES :], text]
                    if waiting and part.ready_words in text:
                        waiting = False
                        self._became_ready(part, state, seconds=loop.time() - started, again=again)
                    self._tell_error(part, state, text)
        finally:
            transport.close()

    def _tell_error(self, part: Part, state: _State, text: str) -> None:
        message = error_of(text)
        now = asyncio.get_running_loop().time()
        if message is None or now - state.told.get(message, -ERROR_REPEAT_SECONDS) < ERROR_REPEAT_SECONDS:
            return
        state.told = {said: at for said, at in state.told.items() if now - at < ERROR_REPEAT_SECONDS} | {message: now}
        self._announce("part error", {"part": part.name, "message": message, "log": str(self._log_file(part))})

    def _log_file(self, part: Part) -> Path:
        return self._run_dir / "logs" / f"{part.name}.log"

    async def _stop_parts(self) -> None:
        """End all parts side by side; what does not end in time is killed."""
        running = [state.process for state in self._states.values() if state.process is not None]
        for process in running:
            _signal(process.pid, signal.SIGTERM)
        if running:
            waits = [asyncio.create_task(process.wait()) for process in running]
            hurry = asyncio.create_task(self._hurry.wait())
            everyone = asyncio.gather(*waits)
            await asyncio.wait([everyone, hurry], timeout=PARTS_STOP_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED)
            hurry.cancel()
            for process in running:
                _signal_group(process.pid, signal.SIGKILL)
            await everyone

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), timeout=seconds)

    # What is left between starts

    def _write_workspace(self, sockets: Path) -> None:
        """Tell webserver and daemon where the code server is."""
        location = {"grpc_server": {"socket": str(sockets / "code.sock"), "location_name": "ingest_platform"}}
        # JSON is YAML.
        _write_whole(self._run_dir / "workspace.yaml", json.dumps({"load_from": [location]}))

    def _remember(self) -> None:
        """Note the processes that we started, for a successor where the kernel does not end them with us."""
        running = [state.process.pid for state in self._states.values() if state.process is not None]
        born: dict[int, float] = {}
        for pid in running:
            with contextlib.suppress(psutil.Error):
                born[pid] = psutil.Process(pid).create_time()
        _write_whole(self._run_dir / "parts.json", json.dumps(list(born.items())))

    def _end_left_over(self) -> None:
        """Kill what a predecessor that was killed left behind: exactly the processes that it noted."""
        try:
            noted = json.loads((self._run_dir / "parts.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return
        for pid, born in noted:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.create_time() == born:
                    process.kill()
                    process.wait(timeout=5)


def error_of(line: str) -> str | None:
    """Read the message of a line of the log if it tells of an error.

    >>> error_of('{"level": "error", "event": "load failed"}')
    'load failed'
    >>> error_of('{"level": "info", "event": "load settled"}')
    """
    if not line.startswith("{") or re.search(r'"level(name)?": ?"(error|critical)"', line, re.IGNORECASE) is None:
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return str(event.get("event") or event.get("message") or event.get("msg") or "error")[:500]


class RotatedLog:
    """A log file that keeps one predecessor, so that both together stay within twice its bound."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = path.stat().st_size

    def write(self, line: bytes) -> None:
        """Append a line."""
        if self._size > LOG_BYTES_MAX:
            self._file.close()
            self._path.replace(self._path.with_suffix(".log.1"))
            self._file, self._size = self._path.open("ab", buffering=0), 0
        try:
            self._size += self._file.write(line)
        except OSError:
            # A full disk must not end the supervisor; what is lost is lines of the log.
            return

    def __enter__(self) -> Self:
        """Use it in a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    """Read a line, or as much of an endless one as may be kept; empty at the end."""
    try:
        return await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    except asyncio.LimitOverrunError as error:
        return await reader.readexactly(error.consumed)


def _make_socket_folder(run_dir: Path) -> Path:
    """Make the folder of the code server's socket: open to nobody else, and with a path that a socket can have."""
    own = run_dir / "sockets"
    if len(os.fsencode(own)) > SOCKET_FOLDER_BYTES_MAX:
        return Path(tempfile.mkdtemp(prefix="ingest-", dir="/tmp"))
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir(mode=0o700)
    return own


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def _exit_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    return f"killed by {signal.Signals(-code).name}"


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signal a part and whatever it started: each part leads a group of its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


_LIBC = ctypes.CDLL(None)


def _end_with_parent() -> None:
    """Ask the kernel to kill this process when its parent is gone; elsewhere the next `ingest up` does."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)
