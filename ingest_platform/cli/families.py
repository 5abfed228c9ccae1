"""The option `--family`: a feed by the name of its landing folder and URLs (machine-data) or its own (machine_data)."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from ingest_platform.domain.feed import Feed
from ingest_platform.feeds import discover

P = ParamSpec("P")
R = TypeVar("R")


class _Family(click.ParamType[Feed]):
    """A feed by one of its names."""

    name = "family"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Feed:
        """Find the feed."""
        feeds = discover()
        found = next((feed for feed in feeds if value in {feed.name, feed.folder}), None)
        if found is not None:
            return found
        return self.fail(
            f"there is no family {value!r}; there are {', '.join(feed.folder for feed in feeds)}", param, ctx
        )


def family_option(*, required: bool) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Give a command the option."""
    return click.option("--family", "-f", type=_Family(), required=required, help="Family, like machine-data.")
