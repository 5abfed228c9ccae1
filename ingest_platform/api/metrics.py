"""What this process counts, and what the ledger knows, in Prometheus' text format."""

import functools
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ingest_platform.domain.feed import FeedGauge
from ingest_platform.storage.gauges import FeedGauges

# From a healthy accept (1 ms) to the limit of a request that waits for a database that is away (2 s) and long polls.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 60)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The counters of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "ingest_http_requests_total",
            "Requests answered, by route (as declared), method and status.",
            ["route", "method", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "ingest_http_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route", "method"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._jobs = Counter(
            "ingest_jobs_accepted_total", "Submissions accepted by this process.", ["feed"], registry=self._registry
        )
        self._bytes = Counter(
            "ingest_bytes_accepted_total", "Bytes of accepted submissions.", ["feed"], registry=self._registry
        )
        # Looking a counter up by its labels costs several times what counting does; routes and feeds are few.
        self._answered = functools.cache(self._requests.labels)
        self._took = functools.cache(self._seconds.labels)
        self._accepted = functools.cache(lambda feed: (self._jobs.labels(feed), self._bytes.labels(feed)))

    def answered(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answered(route, method, str(status)).inc()
        self._took(route, method).observe(seconds)

    def accepted(self, *, feed: str, size: int) -> None:
        """Count an accepted submission."""
        jobs, size_in_all = self._accepted(feed)
        jobs.inc()
        size_in_all.inc(size)

    def text(self, feeds: Sequence[FeedGauges], own: Sequence[FeedGauge] = ()) -> bytes:
        """Write everything; the ledger's figures, and those that are feeds' own, are of all processes."""
        return generate_latest(self._registry) + generate_latest(_ledger_registry(feeds, own))


def _ledger_registry(feeds: Sequence[FeedGauges], own: Sequence[FeedGauge]) -> CollectorRegistry:
    registry = CollectorRegistry()
    jobs = Gauge("ingest_jobs", "Jobs by feed and state.", ["feed", "state"], registry=registry)
    oldest = Gauge(
        "ingest_oldest_waiting_seconds", "Age of the oldest job that has not ended.", ["feed"], registry=registry
    )
    records = Gauge("ingest_records", "Records by feed and outcome.", ["feed", "outcome"], registry=registry)
    for each in feeds:
        oldest.labels(each.feed).set(each.oldest_waiting_seconds)
        for state, count in each.jobs.items():
            jobs.labels(each.feed, state).set(count)
        for outcome, count in each.records.items():
            records.labels(each.feed, outcome).set(count)
    for gauge in own:
        told = Gauge(gauge.name, gauge.title, gauge.labels, registry=registry)
        for values, number in gauge.values.items():
            told.labels(*values).set(number)
    return registry
