"""`ingest doctor`: looks at the installation, and says of whatever is wrong how to mend it."""

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from rich.text import Text

from ingest_platform.cli.command import Output, command
from ingest_platform.domain.errors import LedgerFault, WarehouseFault
from ingest_platform.logs import hide_secrets
from ingest_platform.settings import Settings, ValueKind, show_value, unknown_variables
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import connect, migrations
from ingest_platform.storage.warehouse import EXTENSIONS, try_extension
from ingest_platform.supervisor.alone import port_problem
from ingest_platform.supervisor.parts import dagster_home

PYTHON_LEAST, PYTHON_MOST = (3, 11), (3, 13)
DATABASE_LEAST = 140000
_MODULES = ("dagster", "dagster_webserver", "polars", "pyarrow", "pandera.polars", "msgspec", "starlette", "uvicorn")
_REINSTALL = "run `make clean install`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one look found: `mend` says what to do if it is not well."""

    name: str
    well: bool
    found: str
    mend: str | None = None


@command(epilog="Exits with 1 if anything is wrong.")
def doctor(output: Output, settings: Settings) -> int:
    """Check the installation and say what is wrong and how to mend it."""
    findings: list[Finding] = []
    for look in (_python, _packages, _lake_extensions, _data_dir, _disk, _settings, _database, _ports, _dagster):
        for finding in look(settings):
            findings.append(finding)
            mark = ("ok     ", "green") if finding.well else ("wrong  ", "bold red")
            if not output.as_json:
                output.console.print(Text.assemble(mark, (f"{finding.name:<24}", "bold"), finding.found))
                if finding.mend and not finding.well:
                    output.say(f"       → {finding.mend}", style="yellow")
    well = all(finding.well for finding in findings)
    output.give({"well": well, "findings": findings})
    output.say("All is well." if well else "Mend what is marked, then run `ingest doctor` again.")
    return 0 if well else 1


Look = Callable[[Settings], Iterator[Finding]]


def _python(_: Settings) -> Iterator[Finding]:
    version = sys.version_info[:2]
    yield Finding(
        name="python",
        well=PYTHON_LEAST <= version <= PYTHON_MOST,
        found=f"{sys.version.split()[0]} at {sys.executable}",
        mend="install Python 3.11 to 3.13, then `make clean install PYTHON=python3.12`",
    )


def _packages(_: Settings) -> Iterator[Finding]:
    broken: list[str] = []
    for name in _MODULES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            broken.append(f"{name} ({error})")
    found = f"can't be imported: {', '.join(broken)}" if broken else f"{len(_MODULES)} of {len(_MODULES)} import"
    yield Finding(name="packages", well=not broken, found=found, mend=_REINSTALL)


def _lake_extensions(_: Settings) -> Iterator[Finding]:
    """Load DuckDB's extensions: they exist for exactly one version of it."""
    for name in EXTENSIONS:
        try:
            version = try_extension(name)
        except WarehouseFault as fault:
            yield Finding(name=f"duckdb {name}", well=False, found=str(fault), mend=_REINSTALL)
        else:
            yield Finding(name=f"duckdb {name}", well=True, found=f"loads in DuckDB {version}")


def _data_dir(settings: Settings) -> Iterator[Finding]:
    folder, problem = settings.data_dir, ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"written")
            os.fsync(probe.fileno())
    except OSError as error:
        problem = f": {error.strerror}"
    mend = f"make {folder} writable, or choose another with --data-dir or INGEST_DATA_DIR"
    yield Finding(name="data folder", well=not problem, found=f"{folder}{problem}", mend=mend)


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = next((each for each in (settings.data_dir, *settings.data_dir.parents) if each.exists()), Path("/"))
    free, least = shutil.disk_usage(folder).free, settings.disk_free_bytes_min
    yield Finding(
        name="disk",
        well=free > least,
        found=f"{free / 1e9:.1f} GB free",
        mend=f"free some, or lower INGEST_DISK_FREE_BYTES_MIN ({show_value(least, ValueKind.SIZE)})",
    )


def _settings(_: Settings) -> Iterator[Finding]:
    unknown = unknown_variables()
    found = f"unknown: {', '.join(unknown)}" if unknown else "all variables are known"
    yield Finding(name="settings", well=not unknown, found=found, mend="`ingest settings` lists the names there are")


def _database(settings: Settings) -> Iterator[Finding]:
    if settings.database_url is None and not embedded.running(settings.data_dir):
        made = (settings.data_dir / "postgres" / "PG_VERSION").exists()
        yield Finding(name="database", well=True, found=f"embedded, {'not running' if made else 'not made yet'}")
        return
    where = "embedded" if settings.database_url is None else hide_secrets(settings.database_url)
    mend = "start it, or correct INGEST_DATABASE_URL; `unset INGEST_DATABASE_URL` uses the embedded one"
    try:
        url = embedded.database_url(settings.data_dir, settings.database_url)
        with connect(url, application="ingest-doctor") as connection:
            version = connection.info.server_version
            tables = connection.execute("SELECT to_regclass('ingest.migrations') IS NOT NULL").fetchone()
            query = "SELECT count(*) FROM ingest.migrations"
            row = connection.execute(query).fetchone() if tables and tables[0] else (0,)
    except (LedgerFault, psycopg.Error) as error:
        yield Finding(name="database", well=False, found=f"{where}: {hide_secrets(str(error)).strip()}", mend=mend)
        return
    yield Finding(
        name="database",
        well=version >= DATABASE_LEAST,
        found=f"{where}, PostgreSQL {version // 10000}",
        mend="PostgreSQL 14 or newer is needed",
    )
    applied, wanted = (row[0] if row else 0), len(migrations())
    yield Finding(
        name="migrations",
        well=applied == wanted,
        found=f"{applied} of {wanted} applied",
        mend="run `ingest migrate`" if applied < wanted else "the database is newer: install that version",
    )


def _ports(settings: Settings) -> Iterator[Finding]:
    for name, port, flag in (("API", settings.api_port, "--api-port"), ("UI", settings.ui_port, "--ui-port")):
        problem = port_problem(settings.api_host, port)
        # With the platform running they are taken, by itself.
        taken = problem == "is in use" and embedded.running(settings.data_dir)
        yield Finding(
            name=f"port of the {name}",
            well=problem is None or taken,
            found=f"{settings.api_host}:{port} {problem or 'is free'}",
            mend=f"end what uses it, or choose another with {flag}",
        )


def _dagster(settings: Settings) -> Iterator[Finding]:
    home = dagster_home(settings)
    yield Finding(
        name="dagster home",
        well=(home / "dagster.yaml").is_file(),
        found=str(home),
        mend="unset DAGSTER_HOME, or point it to the folder of dagster.yaml",
    )
