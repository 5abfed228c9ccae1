"""The commands of `ingest`, one module a group of them, loaded when called: most need only a part of the platform."""

import importlib
import sys
from collections.abc import Sequence

import click

# name: (module, what it does)
COMMANDS = {
    "up": ("up", "Start everything on this machine."),
    "api": ("parts", "Serve the HTTP API, alone."),
    "worker": ("parts", "Work off what was accepted, alone."),
    "migrate": ("parts", "Bring the database to this version."),
    "doctor": ("doctor", "Check the installation and say how to mend it."),
    "apply": ("apply", "Declare workspaces, sites, configs … from YAML."),
    "streams": ("streams", "Try a stream on sample events before it is applied."),
    "keys": ("keys", "Create, list, rotate and revoke keys."),
    "jobs": ("jobs", "List, show and watch jobs."),
    "load": ("load", "Send a file through the same path and wait."),
    "backfill": ("backfill", "Work days of acceptance again."),
    "status": ("status", "What is waiting, how old, at what rate, on how much disk."),
    "settings": ("settings", "List every setting with its value and meaning."),
}

EPILOG = """\b
Begin with:
  ingest up                      start everything, print the addresses and a key
  ingest load readings.csv -w demo -f machine-data
  ingest jobs watch
"""


class _Commands(click.Group):
    """A group that imports the module of a command only when that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{COMMANDS[cmd_name][0]}")
        found: object = getattr(module, cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        formatter: click.HelpFormatter,
    ) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say which commands there are when one is unknown."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"There is no command {args[0]!r}; there are {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ingest-platform", prog_name="ingest")
def cli() -> None:
    """Ingest data: accepted durably, checked record by record, answered one by one, shown in Dagster.

    Every command takes --json and --data-dir, and exits with 0 on success, 1 on failure, 2 on wrong use.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command; its exit code."""
    try:
        result: object = cli.main(args=list(arguments), prog_name="ingest", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.Abort:
        click.echo("interrupted", err=True)
        return 130
    except click.ClickException as error:
        error.show(file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output (head, less) has seen enough.
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0
