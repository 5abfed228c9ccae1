"""The routes of streams, and the words in which all of them refuse. Each part has a module of its own."""

from ingest_platform.api.problems import Family
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.feeds.stream_events import ingesting, letters, reading, tail, wire

FAMILY = Family(
    name="StreamProblem",
    prefixes=("/v1/streams",),
    body=wire.error_body,
    schema=wire.ERROR_SCHEMA,
    statuses=wire.STATUSES,
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the routes."""
    parts = (ingesting, reading, letters, tail)
    return [route for part in parts for route in part.routes(services)]
