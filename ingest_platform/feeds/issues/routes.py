"""The routes of issues, and the words in which all of them refuse. Each part has a module of its own."""

from collections.abc import Sequence

from ingest_platform.api.problems import Family
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.feeds.issues import inbound, ingesting, pattern_routes, reading, wire

FAMILY = Family(
    name="IssuesProblem",
    prefixes=("/v1/ingest", "/v1/issues", "/v1/patterns", "/v1/webhooks"),
    body=wire.error_body,
    schema=wire.ERROR_SCHEMA,
)


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    return [
        *ingesting.routes(services),
        *reading.routes(services),
        *pattern_routes.routes(services),
        *inbound.routes(services),
    ]
