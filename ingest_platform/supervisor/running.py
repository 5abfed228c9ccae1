"""The processes of `ingest up`: started in order, watched, started again when they die, ended together.

What the parts do is not known here, nor how a person is told: whoever runs a supervisor is called with each event.
Nobody else is ever killed: only processes that this one started.
"""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ingest_platform.domain.errors import LedgerFault
from ingest_platform.logs import hide_secrets
from ingest_platform.settings import Settings, child_environment
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import connect, migrate
from ingest_platform.supervisor.alone import (
    NotStarted,
    UpLock,
    check_ports,
    end_left_over,
    make_socket_folder,
    note_processes,
)
from ingest_platform.supervisor.output import LOG_LINE_BYTES_MAX, RotatedLog, error_of, next_line
from ingest_platform.supervisor.parts import Part, dagster_home, parts_of, reachable_address, write_workspace

Announce = Callable[[str, Mapping[str, object]], None]

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
# One error may come thousands of times; the console shows it once in a while, the log every time.
ERROR_REPEAT_SECONDS = 30.0
_SET_PARENT_DEATH_SIGNAL = 1
_TAIL_LINES = 8


@dataclass(slots=True)
class _State:
    """What is known of one part while it runs."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    tail: list[str] = field(default_factory=list[str])
    told: dict[str, float] = field(default_factory=dict[str, float])


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
        sockets = make_socket_folder(self._run_dir)
        try:
            end_left_over(self._run_dir / "parts.json")
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
        write_workspace(self._run_dir / "workspace.yaml", sockets=sockets)
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
        self._note_processes()
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
                while line := await next_line(reader):
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

    def _note_processes(self) -> None:
        running = [state.process.pid for state in self._states.values() if state.process is not None]
        note_processes(self._run_dir / "parts.json", running)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), timeout=seconds)


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
