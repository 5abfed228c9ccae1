"""Whether this process lives, whether it can accept durably now, and its figures. What is wrong is mended elsewhere."""

import time

from ingest_platform.api import metrics
from ingest_platform.api.call import Call
from ingest_platform.api.replies import Reply, json_reply
from ingest_platform.api.route import Answer, ApiRoute, Content, Schema, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import Unavailable
from ingest_platform.domain.feed import FeedGauge
from ingest_platform.storage import limits
from ingest_platform.storage.gauges import READ_SECONDS_MAX, FeedGauges, read_gauges
from ingest_platform.storage.ledger import Transaction, within

# The figures are sums over all jobs; scrapers that come more often than this share one reading.
GAUGES_KEPT_SECONDS = 5.0
_READY_BUCKET = limits.Wanted(bucket="readyz", per_minute=1_000_000, tokens=1)
_STATUS: Schema = {
    "type": "object",
    "properties": {"status": {"type": "string"}},
    "required": ["status"],
    "additionalProperties": False,
}


class HealthRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._gauges: list[FeedGauges] = []
        self._own_gauges: list[FeedGauge] = []
        self._gauges_read_at = float("-inf")

    async def healthz(self, _: Call) -> Reply:
        """Say that the process answers."""
        return json_reply(200, {"status": "ok"})

    async def readyz(self, _: Call) -> Reply:
        """Say whether a submission could be taken durably now: there is room, and the ledger commits a write."""
        self._services.reserve.require()
        # A real commit: a ledger that only reads (a standby, a full disk) is not ready.
        await self._services.write(lambda tx: limits.take(tx, [_READY_BUCKET]))
        return json_reply(200, {"status": "ready"})

    async def metrics(self, _: Call) -> Reply:
        """Give all figures; the process's own also while PostgreSQL is away."""
        now = time.monotonic()
        if now - self._gauges_read_at >= GAUGES_KEPT_SECONDS:
            try:
                self._gauges, self._own_gauges = await self._services.read(self._read)
            except Unavailable:
                self._gauges, self._own_gauges = [], []
            self._gauges_read_at = now
        text = self._services.metrics.text(self._gauges, self._own_gauges)
        return Reply(status=200, body=text, content_type=metrics.CONTENT_TYPE)

    def _read(self, tx: Transaction) -> tuple[list[FeedGauges], list[FeedGauge]]:
        feeds = self._services.feeds
        gauges = read_gauges(tx, tuple(feed.name for feed in feeds))
        with within(tx, seconds_max=READ_SECONDS_MAX):
            return gauges, [gauge for feed in feeds if feed.gauges is not None for gauge in feed.gauges(tx)]


def routes(services: Services) -> list[ApiRoute]:
    """Declare the routes of health and figures; none needs a token."""
    handlers = HealthRoutes(services)
    return [
        ApiRoute(
            method="GET",
            path="/healthz",
            handler=handlers.healthz,
            operation_id="healthz",
            tag="Operation",
            summary="Tell whether the process lives",
            answers={200: json_answer("It lives.", _STATUS, example={"status": "ok"})},
        ),
        ApiRoute(
            method="GET",
            path="/readyz",
            handler=handlers.readyz,
            operation_id="readyz",
            tag="Operation",
            summary="Tell whether a submission can be accepted durably now",
            answers={200: json_answer("It can.", _STATUS, example={"status": "ready"})},
            refusals=(Unavailable,),
        ),
        ApiRoute(
            method="GET",
            path="/metrics",
            handler=handlers.metrics,
            operation_id="metrics",
            tag="Operation",
            summary="Give all figures in Prometheus' text format",
            answers={
                200: Answer(
                    description="The figures.", content={metrics.CONTENT_TYPE: Content(schema={"type": "string"})}
                )
            },
        ),
    ]
