"""Issues: what tools and people report as wrong, folded from all that was said about each."""

from ingest_platform.domain.feed import Feed, FeedTask
from ingest_platform.feeds.issues.connected import ANNOUNCED, CONNECTORS
from ingest_platform.feeds.issues.contract import CONTRACT
from ingest_platform.feeds.issues.deriving import derive
from ingest_platform.feeds.issues.detecting import detect_all
from ingest_platform.feeds.issues.load import TABLE
from ingest_platform.feeds.issues.pattern_look import PATTERNS
from ingest_platform.feeds.issues.rebuild import rebuild_all
from ingest_platform.feeds.issues.references import refer

FEED = Feed(
    name="issues",
    folder="issues",
    title="Issues",
    job_prefix="ing_job_",
    contract=CONTRACT,
    envelope_key="records",
    rate_per_minute=1000,
    write_scope="ingest:write",
    table=TABLE,
    refer=refer,
    kinds=(CONNECTORS,),
    derive=derive,
    announced=ANNOUNCED,
    aspects=(PATTERNS,),
    tasks=(
        FeedTask(
            name="pattern_detection", title="Patterns that have become active", cron="*/5 * * * *", run=detect_all
        ),
        FeedTask(
            name="pattern_rebuild",
            title="Patterns, grouped anew",
            cron="17 3 * * *",
            run=rebuild_all,
            heavy=True,
            aspect=PATTERNS,
        ),
    ),
)
