"""`ingest apply`: bring a declaration into the ledger. What is checked and changed is in `declaring.py`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
from rich.text import Text

from ingest_platform.cli.command import Output, command, opened_ledger
from ingest_platform.declaring import AppliedChange, Sign, WronglyDeclared, change_object
from ingest_platform.declaring import apply as apply_files
from ingest_platform.feeds import discover
from ingest_platform.settings import Settings, read_variable

_STYLES = {Sign.CREATED: "green", Sign.CHANGED: "yellow", Sign.RETIRED: "red", Sign.UNCHANGED: "dim"}
_EXAMPLE = """\b
Example of a file:
  workspace: acme
  workspaces:
    - {name: acme, projects: [local]}
  sites:
    - {name: plant-a}
  machine_data_point_configs:
    - {id: mdp_01kqzcjrpyf27tge9dnvsqv8t2, site: plant-a, machine: kiln-1,
       measurement: temperature, unit: °C, factor: 1.0}
An entry with `retired: true` is taken out of use; what is not mentioned stays as it is.
"""


@command(epilog=_EXAMPLE)
@click.option(
    "--file", "-f", "files", multiple=True, required=True, type=click.Path(path_type=Path), help="YAML; repeatable."
)
@click.argument("more", nargs=-1, type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
def apply(output: Output, settings: Settings, *, files: Sequence[Path], more: Sequence[Path], dry_run: bool) -> int:
    """Declare workspaces, sites, configs … from YAML files, all in one step or not at all."""
    with opened_ledger(settings) as ledger:
        try:
            changes = apply_files(
                ledger, [*files, *more], feeds=discover(), dry_run=dry_run, read_variable=read_variable
            )
        except WronglyDeclared as wrong:
            return tell_mistakes(output, wrong)
    _tell_changes(output, changes, dry_run=dry_run)
    return 0


def tell_mistakes(output: Output, wrong: WronglyDeclared) -> int:
    """Tell every mistake of a declaration; the exit code."""
    output.give({"error": {"type": "wrongly_declared", "mistakes": wrong.mistakes}})
    if not output.as_json:
        for mistake in wrong.mistakes:
            click.echo(str(mistake), err=True)
        number = len(wrong.mistakes)
        click.echo(f"{number} mistake{'s' if number > 1 else ''}; nothing was applied.", err=True)
    return 1


def _tell_changes(output: Output, changes: Sequence[AppliedChange], *, dry_run: bool) -> None:
    output.give({"dry_run": dry_run, "changes": [change_object(change) for change in changes]})
    if output.as_json:
        return
    for change in changes:
        if change.sign is not Sign.UNCHANGED:
            output.console.print(Text(str(change), style=_STYLES[change.sign]))
        if change.secret is not None:
            output.say(f"  secret: {change.secret}", style="bold")
            output.say("  This is the only time that the secret is shown; keep it now.", style="yellow")
    counts = Counter(change.sign for change in changes)
    words = [f"{counts[sign]} {sign.name.lower()}" for sign in Sign if counts[sign]]
    output.say(f"{', '.join(words) or 'nothing declared'}{' (dry run: nothing was changed)' if dry_run else ''}")
