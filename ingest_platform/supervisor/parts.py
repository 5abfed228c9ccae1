"""The parts of an installation: their commands, what must be ready before each, and how its readiness shows.

How they are kept alive is not known here.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ingest_platform.settings import Settings
from ingest_platform.supervisor.alone import NotStarted, write_whole

Probe = Callable[[], Awaitable[bool]]

PACKAGE_HOME = Path(__file__).resolve().parent.parent


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
    # Loading them takes as long as loading our code does, so both are done at once: all is ready 2 to 3 s sooner. They
    # wait for the API all the same, which would be ready 1 to 2 s later beside five that are loaded.
    patient = (python, "-m", "ingest_platform.supervisor.patient", str(code))
    web = ("dagster_webserver.cli", "dagster_webserver", "--host", host, "--port", str(port))
    daemon = ("dagster._daemon.cli", "dagster._daemon", "run")
    told = ("--workspace", str(workspace), "--log-format", "json")
    return [
        Part(name="code", command=(python, *server), after=("api",), probe=_accepts(code)),
        Part(
            name="web",
            command=(*patient, *web, *told, "--suppress-warnings"),
            address=reachable_address(host, port),
            after=("api",),
            probe=_answers_at(host, port, "/server_info"),
        ),
        Part(
            name="daemon",
            command=(*patient, *daemon, *told),
            after=("api",),
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


def write_workspace(path: Path, *, sockets: Path) -> None:
    """Tell webserver and daemon where the code server is."""
    location = {"grpc_server": {"socket": str(sockets / "code.sock"), "location_name": "ingest_platform"}}
    # JSON is YAML.
    write_whole(path, json.dumps({"load_from": [location]}))
