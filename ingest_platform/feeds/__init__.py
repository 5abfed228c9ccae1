"""One folder per kind of data; nothing outside names one. Found by looking, not by listing."""

import importlib
import pkgutil
from collections.abc import Iterable

from ingest_platform.domain.feed import Feed


def discover(package: str = __name__) -> tuple[Feed, ...]:
    """Find every feed: each package below this one has a `FEED`. Sorted by name."""
    found = importlib.import_module(package)
    names = sorted(module.name for module in pkgutil.iter_modules(found.__path__) if module.ispkg)
    feeds = [importlib.import_module(f"{package}.{name}").FEED for name in names]
    assert all(isinstance(feed, Feed) for feed in feeds), names
    return tuple(feeds)


def by_name(feeds: Iterable[Feed], name: str) -> Feed:
    """Pick a feed that is known to exist."""
    return next(feed for feed in feeds if feed.name == name)
