"""`ingest up`: everything on this machine. How the parts are kept alive is in `supervisor/`."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path

import click
from rich.text import Text

from ingest_platform.cli.command import Output, command
from ingest_platform.cli.demo import credentials_file, read_credentials, seed
from ingest_platform.settings import Settings, load_settings
from ingest_platform.supervisor.parts import dagster_home, reachable_address
from ingest_platform.supervisor.running import Supervisor


class _Voice:
    """Says what happens: a line an event."""

    def __init__(self, output: Output, settings: Settings) -> None:
        self._output = output
        self._settings = settings
        self._started = time.monotonic()
        self._stopping = self._started

    def hear(self, event: str, about: Mapping[str, object]) -> None:
        """Say one event."""
        if event == "stopping":
            self._stopping = time.monotonic()
        if self._output.as_json:
            addresses = self._addresses() if event == "ready" else {}
            self._output.give({"event": event, **about, **addresses})
            return
        match event:
            case "part ready":
                self._line(str(about["part"]), f"{_seconds(about.get('seconds'))}  {about['address']}", "green")
            case "part ended":
                words = f"ended ({about['exit']}), starts again in {about['again_in_seconds']} s"
                self._line(str(about["part"]), words, "yellow")
            case "part error":
                self._line(str(about["part"]), f"{about['message']}  → {about['log']}", "red")
            case "ready":
                self._ready()
            case "stopping":
                self._output.say("stopping …")
            case _:
                self._output.say(event)

    def ended(self) -> None:
        """Say that all parts have ended."""
        seconds = round(time.monotonic() - self._stopping, 1)
        if self._output.as_json:
            self._output.give({"event": "stopped", "seconds": seconds})
        self._output.say(f"stopped in {seconds} s")

    def _line(self, part: str, words: str, style: str) -> None:
        self._output.console.print(Text.assemble((f"{part:<10}", style), words))

    def _addresses(self) -> dict[str, str]:
        settings = self._settings
        api = reachable_address(settings.api_host, settings.api_port)
        found = {"api": api, "docs": f"{api}/docs"}
        if settings.ui:
            found["ui"] = reachable_address(settings.api_host, settings.ui_port)
        return {**found, "credentials": str(credentials_file(settings.data_dir))}

    def _ready(self) -> None:
        addresses, say = self._addresses(), self._output.say
        took = f"  in {time.monotonic() - self._started:.1f} s"
        listed = "  ".join([f"API {addresses['api']}", *([f"UI {addresses['ui']}"] if "ui" in addresses else [])])
        say(f"ready     {listed}{took}", style="bold green")
        say("")
        key = read_credentials(self._settings.data_dir).get("api_key", "")
        titles = {"api": "API", "docs": "API docs", "ui": "Dagster UI", "credentials": "credentials"}
        for name, address in addresses.items():
            say(f"  {titles[name]:<12}{address}")
        say(f"  {'API key':<12}{key}  (workspace demo)")
        say(f"  {'drop files':<12}{self._settings.data_dir / 'landing' / 'demo'}/<family>/")
        say(f"  {'dagster':<12}DAGSTER_HOME={dagster_home(self._settings)}")
        say("")
        say(f"  curl -sS {addresses['api']}/v1/machine-data/import-jobs -H 'Authorization: Bearer {key}' \\")
        say("    -H 'Content-Type: application/json' \\")
        item = '"timestamp":"2026-05-06T10:15:32Z","machine_data_point_config_id":"mdp_01kqzcjrpyf27tge9dnvsqv8t2"'
        say(f'    -d \'{{"items":[{{{item},"value":21.5}}]}}\'')
        say("")
        say("  Ctrl-C ends everything.")


def _seconds(value: object) -> str:
    return f"{value:>5.1f} s" if isinstance(value, float) else " " * 7


@command(epilog="Examples:  ingest up    ingest up --data-dir /var/lib/ingest --host 0.0.0.0 --no-ui --workers 2")
@click.option("--host", help="Address that API and UI listen on.  [127.0.0.1]")
@click.option("--api-port", type=int, help="Port of the API.  [8000]")
@click.option("--ui-port", type=int, help="Port of Dagster's UI.  [3000]")
@click.option("--ui/--no-ui", "ui", default=None, help="With or without Dagster's UI and daemon.")
@click.option("--workers", type=int, help="How many workers.  [1]")
def up(
    output: Output,
    settings: Settings,
    *,
    host: str | None,
    api_port: int | None,
    ui_port: int | None,
    ui: bool | None,
    workers: int | None,
) -> None:
    """Start everything on this machine: database, API, worker, Dagster; keep it running; end it on Ctrl-C."""
    flags = {"api_host": host, "api_port": api_port, "ui_port": ui_port, "ui": ui, "workers": workers}
    wanted = load_settings({"data_dir": Path(settings.data_dir), **flags})
    voice = _Voice(output, wanted)
    asyncio.run(Supervisor(wanted, announce=voice.hear, seed=seed).run())
    voice.ended()
