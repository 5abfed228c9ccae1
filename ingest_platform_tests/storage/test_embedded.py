"""The embedded PostgreSQL: real servers in temporary folders, ended in every way."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from ingest_platform.storage import embedded


@pytest.fixture(params=["short", "long" * 30], ids=["short path", "path too long for a socket"])
def data_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Make a data directory; whatever server it has at the end is stopped."""
    folder = Path(tempfile.mkdtemp(prefix="ingest-embedded-"))
    yield folder / str(request.param)
    if embedded.running(folder / str(request.param)):
        embedded.start(folder / str(request.param)).stop()
    shutil.rmtree(folder)


def _answer(url: str, question: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_server_is_started_joined_and_recovers_from_being_killed(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    assert not server.adopted
    assert _answer(server.url, "SELECT current_database()") == "ingest"
    assert _answer(server.url, "SHOW fsync") == "on"
    assert _answer(server.url, "SELECT lower('ÄÖ')") == "äö"
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    joined = embedded.start(data_dir)
    assert joined.adopted
    assert (joined.pid, joined.url) == (server.pid, server.url)
    assert embedded.database_url(data_dir, None) == server.url

    os.kill(server.pid, signal.SIGKILL)
    assert server.wait(seconds_max=5)
    # Its pid file is left over, and names a process that lives: this one.
    pid_file = data_dir / "postgres" / "postmaster.pid"
    text = pid_file.read_text()
    pid_file.write_text(text.replace(str(server.pid), str(os.getpid()), 1))
    again = embedded.start(data_dir)
    assert _answer(again.url, "SELECT number FROM kept") == 7
    again.stop()
    assert not again.alive()
    assert not embedded.running(data_dir)


def test_a_configured_database_is_taken_as_it_is(tmp_path: Path) -> None:
    assert embedded.database_url(tmp_path / "unused", "postgresql://elsewhere/x") == "postgresql://elsewhere/x"
    assert not (tmp_path / "unused").exists()


def test_whoever_merely_needs_a_database_gets_one_that_outlives_it(data_dir: Path) -> None:
    url = embedded.database_url(data_dir, None)
    assert _answer(url, "SELECT 1") == 1
    adopted = embedded.start(data_dir)
    assert adopted.adopted
    adopted.stop()
    assert not adopted.alive()
    assert not embedded.running(data_dir)


def test_a_folder_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("12\n")
    with pytest.raises(embedded.LedgerFault, match="made by PostgreSQL 12"):
        embedded.start(tmp_path)
