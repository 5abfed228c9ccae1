"""The servers that the accept benchmark compares: the product's own, and two that do less, made from it here.

`durable` is `ingest api`. `undurable` is the same application whose landing answers without having written anything.
`bare` is an ASGI application that reads the body and answers 202, on the same server with the same settings.
"""

import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

from starlette.types import Receive, Scope, Send

from ingest_platform.api.service import HttpService
from ingest_platform.app import create_app, limits_of, make_server, serve
from ingest_platform.feeds import discover
from ingest_platform.opening import open_platform
from ingest_platform.pipeline.land import Landing
from ingest_platform.settings import Settings, load_settings
from ingest_platform.storage.jobs import Accepted

VARIANTS = ("durable", "undurable", "bare")
_ANSWER = b'{"job_id":"job_00000000000000000000000000","status":"accepted"}'
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(_ANSWER)).encode())]


async def land_nowhere(landing: Landing) -> Accepted:
    """Answer as the landing does, without having written anything."""
    now = datetime.now(UTC)
    return Accepted(id=landing.job.id, seq=1, accepted_at=now, day=now.date())


def serve_undurable(settings: Settings) -> None:
    """Serve the product's application without durability."""
    feeds = discover()
    platform = open_platform(settings, application="bench")
    app = create_app(feeds=feeds, platform=platform, limits=limits_of(settings))
    app.services.lander.land = land_nowhere
    make_server(app, host=settings.api_host, port=settings.api_port).run()
    platform.close()


class Bare:
    """An application that does nothing but answer."""

    # What the server looks for when it is told to stop.
    services = SimpleNamespace(settled=SimpleNamespace(stop=lambda: None))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read the body and answer 202."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 202, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


def main() -> None:
    """Serve the variant that the command line names."""
    settings = load_settings()
    match sys.argv[1]:
        case "durable":
            serve(settings)
        case "undurable":
            serve_undurable(settings)
        case _:
            make_server(cast("HttpService", Bare()), host=settings.api_host, port=settings.api_port).run()


if __name__ == "__main__":
    main()
