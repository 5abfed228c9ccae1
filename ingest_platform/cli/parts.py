"""`ingest api`, `ingest worker`, `ingest migrate`: single parts, for an installation on several machines."""

import importlib
from typing import cast

import click

from ingest_platform.cli.command import Output, command
from ingest_platform.logs import configure_logs
from ingest_platform.settings import Settings, load_settings
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import migrate as migrate_database


def _run_part(module: str, function: str, settings: Settings) -> int:
    """Run a part to its end. It is imported only now: API and worker share little, and Dagster is slow to load."""
    configure_logs(level=settings.log_level, form=settings.log_format)
    migrate_database(embedded.database_url(settings.data_dir, settings.database_url))
    return cast("int", getattr(importlib.import_module(module), function)(settings))


@command(epilog="Example:  INGEST_DATABASE_URL=postgresql://… ingest api --host 0.0.0.0 --port 8000")
@click.option("--host", help="Address to listen on.")
@click.option("--port", type=int, help="Port to listen on.")
def api(_: Output, settings: Settings, host: str | None, port: int | None) -> int:
    """Serve the HTTP API, alone."""
    wanted = load_settings(data_dir=settings.data_dir, api_host=host, api_port=port)
    return _run_part("ingest_platform.app", "serve", wanted)


@command(epilog="Start as many as you like, on as many machines: they share the work.")
def worker(_: Output, settings: Settings) -> int:
    """Work off what was accepted, alone."""
    return _run_part("ingest_platform.worker", "main", settings)


@command()
def migrate(output: Output, settings: Settings) -> None:
    """Bring the database to this version; safe to run at any time, also twice at once."""
    done = migrate_database(embedded.database_url(settings.data_dir, settings.database_url))
    output.give({"applied": done})
    output.say(f"applied {', '.join(done)}" if done else "nothing to do: the database is at this version")
