"""Parts: which there are, and that each waits only for what it needs."""

import json
from pathlib import Path

import pytest

from ingest_platform.settings import Settings
from ingest_platform.supervisor.parts import parts_of, reachable_address, write_workspace


@pytest.mark.parametrize(
    ("ui", "workers", "names"),
    [
        (True, 1, ["api", "worker", "code", "web", "daemon"]),
        (False, 1, ["api", "worker"]),
        (False, 2, ["api", "worker-1", "worker-2"]),
    ],
)
def test_the_settings_say_which_parts_there_are(tmp_path: Path, *, ui: bool, workers: int, names: list[str]) -> None:
    parts = parts_of(Settings(data_dir=tmp_path, ui=ui, workers=workers), sockets=tmp_path)
    assert [part.name for part in parts] == names
    assert [part.name for part in parts if part.vital] == ["api"]
    # Each shows its readiness, and whatever it waits for is there.
    assert all((part.probe is None) != (part.ready_words == "") for part in parts)
    assert {earlier for part in parts for earlier in part.after} <= set(names)


def test_the_api_and_the_worker_wait_for_nobody_and_dagster_for_the_api_only(tmp_path: Path) -> None:
    waits = {part.name: part.after for part in parts_of(Settings(data_dir=tmp_path), sockets=tmp_path)}
    assert waits == {"api": (), "worker": (), "code": ("api",), "web": ("api",), "daemon": ("api",)}


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("host.example", "http://host.example:80"),
    ],
)
def test_a_server_is_reached_at_an_address_that_can_be_connected_to(host: str, address: str) -> None:
    assert reachable_address(host, 80) == address


def test_webserver_and_daemon_are_told_the_socket_of_the_code_server(tmp_path: Path) -> None:
    write_workspace(tmp_path / "run" / "workspace.yaml", sockets=tmp_path)
    told = json.loads((tmp_path / "run" / "workspace.yaml").read_text())
    assert told["load_from"][0]["grpc_server"]["socket"] == str(tmp_path / "code.sock")
