"""The routes of heartbeats: send some, and ask what became of them."""

from collections.abc import Sequence

from ingest_platform.api.call import Call
from ingest_platform.api.intake import Intake, Taking
from ingest_platform.api.jobs import find_job
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import Access, ApiRoute, Content, Parameter, json_answer
from ingest_platform.api.services import Services
from ingest_platform.domain.errors import NotFound
from ingest_platform.domain.submission import Format
from ingest_platform.pipeline.admit import RateRule
from ingest_platform_tests.example_feed.heartbeats import FEED, wire

ACCESS = Access(scopes=(FEED.write_scope,))
RATE = RateRule(name=FEED.name, per_minute=FEED.rate_per_minute)


class HeartbeatRoutes:
    """The handlers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._intake = Intake(services)

    async def send(self, call: Call) -> Reply:
        """Take heartbeats."""
        assert call.body is not None
        body = await call.body.read()
        call.know_body(body)
        received = wire.count(body)
        spool = self._intake.spool(job_id := self._intake.new_job_id(FEED))
        await self._intake.keep(body, spool)
        taking = Taking.spooled(FEED, spool, job_id=job_id, format=Format.JSON, received=received)
        return await self._intake.take(call, taking, lambda job_id, _: json_reply(202, wire.receipt(job_id)))

    async def show(self, call: Call) -> Reply:
        """Show what became of a submission."""
        return json_reply(200, wire.status(await find_job(self._services, call, feed=FEED.name)))


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the routes."""
    handlers = HeartbeatRoutes(services)
    example = {FEED.envelope_key: [{field.name: field.example for field in FEED.contract.fields}]}
    return [
        ApiRoute(
            method="POST",
            path="/v1/heartbeats",
            handler=handlers.send,
            operation_id="send_heartbeats",
            tag=FEED.title,
            summary="Send heartbeats",
            access=ACCESS,
            rate=RATE,
            bodies={
                JSON: Content(
                    schema={"type": "object", "required": [FEED.envelope_key]},
                    example=example,
                    bytes_max=services.limits.body_bytes_max,
                )
            },
            answers={202: json_answer("Taken durably.", {"type": "object"})},
        ),
        ApiRoute(
            method="GET",
            path="/v1/heartbeats/{job_id}",
            handler=handlers.show,
            operation_id="get_heartbeats",
            tag=FEED.title,
            summary="Show what became of heartbeats",
            access=ACCESS,
            parameters=(
                Parameter(
                    name="job_id", where="path", schema={"type": "string"}, description="The receipt.", required=True
                ),
            ),
            answers={200: json_answer("What became of them.", {"type": "object"})},
            refusals=(NotFound,),
        ),
    ]
