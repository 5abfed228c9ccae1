"""`python -m benchmarks [accept] [latency] [upload] …`: run all benchmarks or some, and say how they went."""

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from benchmarks import accept, datasets, idle, issues_load, latency, patterns, stream_accept, streams, upload

NAMES = (
    *("accept", "latency", "upload", "idle", "patterns", "issues-load", "datasets"),
    *("stream-accept", "stream-pipeline"),
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--seconds", type=float, help="Of each measurement, instead of its own.")
@click.option(
    "--rounds", type=int, default=3, show_default=True, help="Of accept, upload, issues-load, datasets, stream-accept."
)
@click.option("--rate", "rates", type=float, multiple=True, default=(1, 10, 100), show_default=True, help="Of latency.")
@click.option("--items", type=int, default=10, show_default=True, help="Items of a submission, of latency.")
@click.option(
    "--connections",
    type=int,
    multiple=True,
    default=(1, 16, 64),
    show_default=True,
    help="Connections, of accept, datasets and stream-accept.",
)
@click.option("--sizes", type=int, multiple=True, default=(1, 200), show_default=True, help="Items, of accept.")
@click.option("--rows", type=int, default=1_000_000, show_default=True, help="Of upload and datasets.")
@click.option("--labelled", type=click.Path(path_type=Path), default=patterns.LABELLED, help="Folder, of patterns.")
@click.option(
    "--stored", type=int, multiple=True, default=issues_load.SIZES, show_default=True, help="Issues, of issues-load."
)
@click.option("--bad-share", type=float, default=0.01, show_default=True, help="Bad items, of upload.")
def main(
    *,
    names: Sequence[str],
    seconds: float | None,
    rounds: int,
    rates: Sequence[float],
    items: int,
    connections: Sequence[int],
    sizes: Sequence[int],
    rows: int,
    bad_share: float,
    labelled: Path,
    stored: Sequence[int],
) -> None:
    """Measure the platform on this machine. Each benchmark starts one of its own and ends it; no other is touched."""
    runs: dict[str, Callable[[], None]] = {
        "accept": lambda: accept.run(seconds=seconds or 3, rounds=rounds, connections=connections, items=sizes),
        "latency": lambda: latency.run(seconds=seconds or 120, rates=rates, items=items),
        "upload": lambda: upload.run(rows=rows, rounds=rounds, bad_share=bad_share),
        "idle": lambda: idle.run(settle_seconds=min(seconds or 30, 30), seconds=seconds or 60),
        "patterns": lambda: patterns.run(folder=labelled, rows=100_000),
        "issues-load": lambda: issues_load.run(sizes=stored, rounds=rounds),
        "datasets": lambda: datasets.run(seconds=seconds or 20, rounds=rounds, rows=rows, connections=connections),
        "stream-accept": lambda: stream_accept.run(seconds=seconds or 3, rounds=rounds, connections=connections),
        "stream-pipeline": lambda: streams.run(rounds=max(rounds, streams.ROUNDS_MIN)),
    }
    for name in NAMES:
        if name in names or not names:
            runs[name]()


if __name__ == "__main__":
    main()
