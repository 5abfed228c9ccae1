"""A served stream whose events went all the way: what tests of its reading side look at."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest_platform.domain.ids import new_id
from ingest_platform.feeds.stream_events import FEED
from ingest_platform.feeds.stream_events.destinations.destination import Batch, Permanent, Sent
from ingest_platform.storage import catalog
from ingest_platform_tests.feeds.stream_events.delivering.consigned import Flaky, deliver
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import Site, fresh_database, serving

AT = "2026-05-06T10:15:30Z"
BODY: Mapping[str, object] = {
    "name": "payments",
    "enrich": [
        {
            "lookup": {
                "table": {"file": "teams.csv", "columns": ["source", "owner"], "rows": [["api", "core"]]},
                "key": "source",
                "add": {"metadata.owner": "owner"},
            }
        }
    ],
    "mask": [{"field": "event.card", "how": "redact"}],
    "routes": {
        "match": "first",
        "rules": [
            {"name": "errors", "when": 'event.level == "ERROR"', "to": ["archive", "siem"]},
            {"name": "rare", "when": "event.ms < 5", "sample": 0.0000001, "to": ["archive"]},
        ],
        "otherwise": "drop",
    },
}
EVENTS: Sequence[Mapping[str, object]] = [
    {"timestamp": AT, "source": "api", "event": {"level": "ERROR", "card": "4111111111111111"}},
    {"timestamp": AT, "source": "api", "event": {"ms": 1}},
    {"timestamp": AT, "source": "api", "event": {"level": "INFO"}},
    {"timestamp": "no", "source": "api", "event": {}},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """The stream: four events were sent; one was routed to a destination that takes it and one that does not."""

    site: Site
    stream_id: str
    job_id: str

    @property
    def path(self) -> str:
        """Where the stream is read."""
        return f"/v1/streams/{self.stream_id}"

    def send(self, *events: Mapping[str, object]) -> str:
        """Have events accepted and worked; their job."""
        headers = {**self.site.bearer("streams:write"), "X-Stream-Id": self.stream_id}
        answer = self.site.anyone.post("/v1/streams/ingest", json=list(events), headers=headers)
        assert answer.status_code == 200, answer.text
        work(self.site.platform, FEED)
        return answer.json()["ingest_id"]

    def deliver(self) -> Mapping[str, Flaky]:
        """Deliver what is due: `archive` takes everything, `siem` nothing."""
        flaky = {"archive": Flaky(), "siem": Flaky(say=_refuse)}
        deliver(self.site.platform, flaky)
        return flaky


def _refuse(batch: Batch) -> Sent:
    raise Permanent(f"{batch.destination} does not take it")


def declare_stream(site: Site, stream_id: str, body: Mapping[str, object] = BODY, *, workspace: str = "acme") -> None:
    """Declare a stream and its two destinations."""
    entries = [
        catalog.Declared(workspace=workspace, kind="destinations", id=name, body={"type": "flaky"})
        for name in ("archive", "siem")
    ]
    stream = catalog.Declared(workspace=workspace, kind="streams", id=stream_id, body=json.loads(json.dumps(body)))
    with site.platform.ledger.transaction() as tx:
        catalog.put(tx, [*entries, stream])


@contextmanager
def followed_stream(server_url: str, template: str, folder: Path) -> Generator[Followed]:
    """Serve a stream, send the events, deliver them."""
    with fresh_database(server_url, template) as url, serving(url, folder) as site:
        stream_id = new_id("")
        declare_stream(site, stream_id)
        followed = Followed(site=site, stream_id=stream_id, job_id="")
        job_id = followed.send(*EVENTS)
        followed.deliver()
        yield Followed(site=site, stream_id=stream_id, job_id=job_id)
