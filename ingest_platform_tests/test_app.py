"""The whole service in a process of its own: it serves, and ends in time whatever its clients do."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from ingest_platform.storage import catalog, keys, workspaces
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.serving import ALL_SCOPES, CONFIG

IMPORT = "/v1/machine-data/import-jobs"
BODY = {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}]}
_MAIN = """
import sys
from pathlib import Path
from ingest_platform.app import serve
from ingest_platform.settings import Settings
sys.exit(serve(Settings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2], api_port=int(sys.argv[3]),
                        disk_free_bytes_min=1)))
"""


@pytest.fixture
def token(ledger: Ledger) -> str:
    """Make a workspace with a data point, and a key."""
    body = {"site": "plant-a", "machine": "kiln-1", "measurement": "temperature", "unit": "", "factor": 1.0}
    with ledger.transaction() as tx:
        workspaces.put(tx, workspaces.Workspace(name="acme"))
        catalog.put(tx, [catalog.Declared(workspace="acme", kind="machine_data_point_configs", id=CONFIG, body=body)])
        return keys.issue(tx, keys.NewKey(workspace="acme", scopes=ALL_SCOPES)).token


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def _process(database_url: str, data_dir: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, int]]:
    port = _free_port()
    command = [sys.executable, "-c", _MAIN, str(data_dir), database_url, str(port)]
    with subprocess.Popen(command) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _await(url)
            yield process, url, port
        finally:
            process.kill()


def _await(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        time.sleep(0.05)
    pytest.fail("the process does not serve")


def _read_to_end(connection: socket.socket) -> bytes:
    pieces: list[bytes] = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_sigterm_ends_the_process_in_time_whatever_its_clients_do(
    database_url: str, tmp_path: Path, token: str
) -> None:
    bearer = f"Authorization: Bearer {token}\r\n".encode()
    with _process(database_url, tmp_path) as (process, url, port), ExitStack() as stack:
        headers = {"Authorization": f"Bearer {token}"}
        job_id = httpx.post(url + IMPORT, json=BODY, headers=headers).json()["job_id"]
        waiting = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30)) for _ in range(5)]
        _, half_head, half_body, polling, following = waiting
        half_head.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        half_body.sendall(
            f"POST {IMPORT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n".encode()
            + bearer
            + b"\r\n{"
        )
        polling.sendall(f"GET /v1/jobs/{job_id}?wait=60 HTTP/1.1\r\nHost: x\r\n".encode() + bearer + b"\r\n")
        following.sendall(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: x\r\n".encode() + bearer + b"\r\n")
        assert following.recv(65536).startswith(b"HTTP/1.1 200 ")
        # The other requests are under way once a later one on a connection of its own was answered.
        assert httpx.get(f"{url}/healthz").status_code == 200
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        # A long poll is answered at once with what is known, and a stream comes to its orderly end.
        assert polling.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert _read_to_end(following).endswith(b"0\r\n\r\n")
        assert time.monotonic() - began < 5
        assert process.wait(timeout=15) == 0
        assert half_body.recv(65536).startswith(b"HTTP/1.1 503 ")


def test_what_was_accepted_survives_kill_9(database_url: str, tmp_path: Path, token: str, ledger: Ledger) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    with _process(database_url, tmp_path) as (process, url, _):
        large = {"items": BODY["items"] * 5_000}
        accepted = [httpx.post(url + IMPORT, json=body, headers=headers).json()["job_id"] for body in (BODY, large)]
        process.kill()
        process.wait()
    with ledger.connection() as connection:
        rows = connection.execute("SELECT id, body IS NULL, blob FROM jobs JOIN submissions ON job_id = id").fetchall()
    assert {row[0] for row in rows} == set(accepted)
    (blob,) = [row[2] for row in rows if row[1]]
    assert (tmp_path / "blobs" / blob).stat().st_size > 256 * 1024
