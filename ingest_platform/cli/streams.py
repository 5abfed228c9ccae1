"""`ingest streams`: what a declaration would do with sample events, without a database; and a new key for its masks.

What becomes of an event is told by the feed whose streams these are (`DeclaredKind.trial`).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click

from ingest_platform.cli.apply import tell_mistakes
from ingest_platform.cli.command import Failed, Output, command, opened_ledger
from ingest_platform.declaring import WronglyDeclared, read_declared
from ingest_platform.domain.errors import Unreadable
from ingest_platform.domain.feed import Tried
from ingest_platform.feeds import discover
from ingest_platform.pipeline.references import replace_secret
from ingest_platform.settings import Settings
from ingest_platform.storage import workspaces
from ingest_platform.storage.catalog import Declared

SECTION = "streams"
SAMPLE_BYTES_MAX = 64 * 1024 * 1024
_EPILOG = """\b
Example:
  ingest streams test streams.yaml --events sample.ndjson
Destinations are not called, and variables of the environment are not read. The draw of a sample is a function of the
event's id, which is another one here than in a stream that runs.
"""


@click.group()
def streams() -> None:
    """Try streams before they are applied, and renew the key of their masks."""


@command(streams, name="test", epilog=_EPILOG)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--events",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sample events: one, a JSON array, or one a line.",
)
@click.option("--stream", help="Id of the stream, if the file declares several.")
def test(output: Output, _settings: Settings, *, file: Path, events: Path, stream: str | None) -> int:
    """Show the way of each sample event: parsed, enriched, masked, which rule, which destinations, or why dropped."""
    try:
        declared = read_declared([file], feeds=discover())
    except WronglyDeclared as wrong:
        return tell_mistakes(output, wrong)
    one = _pick([each for each in declared if each.kind == SECTION and not each.retired], stream, file)
    (trial,) = (kind.trial for feed in discover() for kind in feed.kinds if kind.section == SECTION)
    assert trial is not None
    with events.open("rb") as source:
        samples = source.read(SAMPLE_BYTES_MAX + 1)
    if len(samples) > SAMPLE_BYTES_MAX:
        raise Failed(f"{events} has more than {SAMPLE_BYTES_MAX:,} bytes; take fewer samples.")
    try:
        tried = trial(one.body, samples)
    except Unreadable as error:
        raise Failed(f"{events}: {error}") from error
    _tell(output, one, tried)
    return 0


@command(streams, name="rotate-key", epilog="Example:  ingest streams rotate-key -w demo")
@click.option("--workspace", "-w", required=True, help="Workspace whose key is renewed.")
def rotate_key(output: Output, settings: Settings, *, workspace: str) -> int:
    """Make a new key for masks that hash; tokens name their key, so that those of before stay apart."""
    (feed,) = (feed for feed in discover() for kind in feed.kinds if kind.section == SECTION)
    with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        if workspaces.find(tx, workspace) is None:
            raise Failed(f"There is no workspace {workspace}; there are {', '.join(workspaces.names(tx))}.")
        replace_secret(tx, feed, workspace)
    output.give({"workspace": workspace, "rotated": True})
    output.say(f"Masks that hash have a new key in {workspace}, from the next load on; the old one is gone.")
    return 0


def _pick(found: Sequence[Declared], wanted: str | None, file: Path) -> Declared:
    ids = [each.id for each in found]
    if not found:
        raise Failed(f"{file} declares no stream.")
    if wanted is None and len(found) > 1:
        raise click.UsageError(f"{file} declares several streams; choose one with --stream: {', '.join(ids)}")
    if wanted is not None and wanted not in ids:
        raise click.UsageError(f"{file} declares no stream {wanted}; there are {', '.join(ids)}")
    return next(each for each in found if wanted in {None, each.id})


def _tell(output: Output, one: Declared, tried: Sequence[Tried]) -> None:
    counts = Counter(outcome for each in tried for outcome in each.outcomes)
    output.give({"stream": one.id, "events": [each.told for each in tried], "counts": dict(counts)})
    for each in tried:
        output.say("\n".join(each.lines))
    words = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in sorted(counts.items()))
    output.say(f"{len(tried)} event{'' if len(tried) == 1 else 's'}: {words}", style="bold")
