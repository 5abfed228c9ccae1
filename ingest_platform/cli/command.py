"""What all commands share: their options, how they print, how an error becomes an exit code and a next step."""

import functools
import json
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, cast

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ingest_platform.domain.errors import IngestError, LedgerFault, Refusal
from ingest_platform.logs import configure_logs, hide_secrets
from ingest_platform.settings import Settings, WrongSetting, load_settings
from ingest_platform.storage import embedded
from ingest_platform.storage.ledger import Ledger, migrate

P = ParamSpec("P")
FAILURE = 1
PIPE_COLUMNS = 250
WRONG_USE = 2


class Output:
    """Where a command prints: a person's words and tables, or JSON for a program, never both."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        # Into a file or a pipe, lines are as long as they are.
        self.console = Console(highlight=False, soft_wrap=True, width=None if is_terminal() else PIPE_COLUMNS)

    def say(self, text: str, *, style: str = "") -> None:
        """Tell a person something."""
        if not self.as_json:
            self.console.print(Text(text, style=style))

    def warn(self, text: str) -> None:
        """Tell a person something beside the result."""
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text, style="yellow"))

    def give(self, value: object) -> None:
        """Give a program the result, as one line of JSON."""
        if self.as_json:
            click.echo(json.dumps(plain(value), ensure_ascii=False))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
        """Show a person a table, or what to do if there is nothing in it."""
        if self.as_json:
            return
        if not rows:
            self.say(empty)
            return
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            numeric = all(isinstance(row[columns.index(column)], (int, float)) for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(shown(cell)) for cell in row))
        self.console.print(table)


def plain(value: object) -> object:
    """Turn a value into what JSON has."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in cast("Sequence[object]", value)]
    if isinstance(value, (set, frozenset)):
        return sorted(str(each) for each in cast("set[object]", value))
    return _plain_scalar(value)


def _plain_scalar(value: object) -> object:
    if isinstance(value, datetime):
        return instant(value)
    return str(value) if isinstance(value, (date, Path)) else value


def instant(at: datetime) -> str:
    """Write an instant as the API does."""
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def shown(value: object) -> str:
    """Write a cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, (set, frozenset, list, tuple)):
        return " ".join(sorted(str(each) for each in cast("Sequence[object]", value)))
    return str(value)


class Failed(click.ClickException):
    """A command could not do what it was asked to; the message says what to do next."""

    exit_code = FAILURE


def command(
    group: click.Group | None = None, *, name: str | None = None, epilog: str | None = None
) -> Callable[[Callable[Concatenate[Output, Settings, P], int | None]], click.Command]:
    """Make a command of a function that takes an Output and Settings before its own options."""

    def decorate(body: Callable[Concatenate[Output, Settings, P], int | None]) -> click.Command:
        @click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
        @click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of everything written at run time.")
        @functools.wraps(body)
        def called(as_json: bool, data_dir: Path | None, *args: P.args, **kwargs: P.kwargs) -> int:  # noqa: FBT001
            output = Output(as_json=as_json)
            # What the stores log at work is for the parts' logs; a command's own words are its output.
            configure_logs(level="warning")
            with told(output):
                return body(output, load_settings(data_dir=data_dir), *args, **kwargs) or 0

        make = click.command if group is None else group.command
        return make(name or body.__name__.replace("_", "-"), epilog=epilog)(called)

    return decorate


@contextmanager
def told(output: Output) -> Generator[None]:
    """Turn what went wrong into words and an exit code."""
    try:
        yield
    except click.ClickException as error:
        if output.as_json:
            output.give({"error": {"type": "failed", "message": error.message}})
            raise click.exceptions.Exit(error.exit_code) from error
        raise
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    except IngestError as error:
        message = hide_secrets(str(error).strip())
        if output.as_json:
            output.give({"error": {"type": type(error).__name__, "message": message}})
        else:
            Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"{message}{_next_step(error)}", "red"))
        wrong_use = isinstance(error, WrongSetting)
        raise click.exceptions.Exit(WRONG_USE if wrong_use else FAILURE) from error


def _next_step(error: IngestError) -> str:
    if isinstance(error, LedgerFault):
        return "\nIs the database running? `ingest doctor` checks it, `ingest up` starts everything."
    if isinstance(error, Refusal):
        return ""
    return ""


@contextmanager
def opened_ledger(settings: Settings) -> Generator[Ledger]:
    """Open the ledger for a command; the embedded database is started and brought up to date if need be."""
    url = embedded.database_url(settings.data_dir, settings.database_url)
    if settings.database_url is None:
        migrate(url)
    with Ledger(url, application="ingest-cli", connections_max=2) as ledger:
        with ledger.connection() as connection:
            row = connection.execute("SELECT to_regclass('ingest.jobs') IS NOT NULL").fetchone()
        if not (row and row[0]):
            raise Failed("The database has no tables of this platform yet; run `ingest migrate`.")
        yield ledger


def is_terminal() -> bool:
    """Tell whether a person watches."""
    return sys.stdout.isatty()
