"""The routes of datasets, and the words in which all of them refuse. Each part has a module of its own."""

from ingest_platform.api.problems import Family
from ingest_platform.api.route import ApiRoute
from ingest_platform.api.services import Services
from ingest_platform.feeds.datasets import asking, declared, ingesting, wire
from ingest_platform.feeds.datasets.standing import StandingDatasets

FAMILY = Family(
    name="DatasetProblem",
    prefixes=("/datasets", "/api/datasets"),
    body=wire.error_body,
    schema=wire.ERROR_SCHEMA,
)


def routes(services: Services) -> list[ApiRoute]:
    """Declare the routes. A path is answered by the first that fits, and the control plane's have ids at their end."""
    standing = StandingDatasets(services)
    return [*asking.routes(services), *declared.routes(services, standing), *ingesting.routes(services, standing)]
