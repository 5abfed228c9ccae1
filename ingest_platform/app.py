"""Root of the HTTP service: finds the feeds' routes, mounts them beside the platform's own, and serves them.

It never loads Dagster.
"""

import importlib
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

import msgspec
import uvicorn

from ingest_platform import feeds as feeds_package
from ingest_platform.api import docs, health, job_events, jobs, openapi, records, webhooks
from ingest_platform.api.call import Call
from ingest_platform.api.problems import Family
from ingest_platform.api.protocol import Protocol
from ingest_platform.api.replies import JSON, Reply
from ingest_platform.api.route import Answer, ApiRoute, Content
from ingest_platform.api.service import HttpService
from ingest_platform.api.services import Limits, Services
from ingest_platform.declaring import routes as declarations
from ingest_platform.domain.feed import Feed
from ingest_platform.feeds import discover
from ingest_platform.opening import open_platform
from ingest_platform.pipeline.platform import Platform
from ingest_platform.settings import Settings

VERSION = "0.1.0"
# SIGTERM ends all within 15 s, slow clients or not; the rest is for closing.
GRACE_SECONDS_MAX = 10
KEEP_ALIVE_SECONDS = 30
BACKLOG = 2_048


@dataclass(frozen=True, slots=True, kw_only=True)
class _FeedRoutes:
    routes: Sequence[ApiRoute]
    family: Family | None


def create_app(
    *,
    feeds: Sequence[Feed],
    platform: Platform,
    limits: Limits | None = None,
    package: str = feeds_package.__name__,
) -> HttpService:
    """Put the application together. The feeds' routes are found by their place: `<package>.<name>.routes`."""
    services = Services(feeds=tuple(feeds), platform=platform, limits=limits or Limits())
    found = [_routes_of(feed, services, package=package) for feed in feeds]
    own = [
        *jobs.routes(services),
        *job_events.routes(services),
        *records.routes(services),
        *webhooks.routes(services),
        *declarations.routes(services),
        *health.routes(services),
    ]
    routes = [route for each in found for route in each.routes] + own
    families = [each.family for each in found if each.family is not None]
    pages = _pages(routes, families)
    return HttpService([*routes, *pages], services, families=families)


def _routes_of(feed: Feed, services: Services, *, package: str) -> _FeedRoutes:
    module = importlib.import_module(f"{package}.{feed.name}.routes")
    return _FeedRoutes(routes=module.routes(services), family=getattr(module, "FAMILY", None))


def _pages(routes: Sequence[ApiRoute], families: Sequence[Family]) -> list[ApiRoute]:
    made: dict[str, Reply] = {}

    async def show_document(_: Call) -> Reply:
        return made["document"]

    async def show_docs(_: Call) -> Reply:
        return made["docs"]

    pages = [
        ApiRoute(
            method="GET",
            path="/openapi.json",
            handler=show_document,
            operation_id="openapi",
            tag="Operation",
            summary="Give this document",
            answers={200: Answer(description="The document.", content={JSON: Content(schema={"type": "object"})})},
        ),
        ApiRoute(
            method="GET",
            path="/docs",
            handler=show_docs,
            operation_id="docs",
            tag="Operation",
            summary="Show this document as a page",
            answers={
                200: Answer(description="The page.", content={docs.CONTENT_TYPE: Content(schema={"type": "string"})})
            },
        ),
    ]
    document = openapi.document([*routes, *pages], version=VERSION, families=families, schemas={})
    made["document"] = Reply(status=200, body=msgspec.json.encode(document))
    made["docs"] = Reply(status=200, body=docs.page(document), content_type=docs.CONTENT_TYPE)
    return pages


class Server(uvicorn.Server):
    """Uvicorn's server, which lets long polls go as soon as it is told to stop."""

    def __init__(self, config: uvicorn.Config, app: HttpService) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._app.services.settled.stop()
        super().handle_exit(sig, frame)
        # Uvicorn would raise the signal once more when all is done, and the process would end as if killed by it.
        self._captured_signals.clear()


def make_server(app: HttpService, *, host: str, port: int) -> Server:
    """Make a server of the application; `run()` serves until a signal comes."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Protocol,
        ws="none",
        loop="auto",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS_MAX,
    )
    return Server(config, app)


def limits_of(settings: Settings) -> Limits:
    """Take the HTTP side's limits from the settings."""
    proxies = frozenset(proxy.strip() for proxy in settings.proxies.split(",") if proxy.strip())
    return Limits(
        body_bytes_max=settings.body_bytes_max,
        upload_bytes_max=settings.upload_bytes_max,
        disk_free_bytes_min=settings.disk_free_bytes_min,
        client_idle_seconds_max=settings.client_idle_seconds_max,
        address_per_minute=settings.client_requests_per_minute_max,
        trusted_proxies=proxies,
    )


def serve(settings: Settings, *, sockets: Sequence[socket.socket] | None = None) -> int:
    """Serve the API until a signal ends it; the exit code is 0 if it ended in good order."""
    feeds = discover()
    platform = open_platform(settings, application="api")
    app = create_app(feeds=feeds, platform=platform, limits=limits_of(settings))
    server = make_server(app, host=settings.api_host, port=settings.api_port)
    try:
        server.run(sockets=None if sockets is None else list(sockets))
    finally:
        platform.close()
    return 0 if server.started else 1
