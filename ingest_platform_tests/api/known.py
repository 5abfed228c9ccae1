"""What there is before Schemathesis asks: patterns with something to change, issues, a connector, datasets, a stream.

It is made over HTTP and in the ledger, and told to the hooks in a file: no schema says which ids there are. How it is
used is in `schemathesis_hooks.py`.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import ascii_lowercase

import httpx
import msgspec

from ingest_platform.declaring import apply
from ingest_platform.feeds import discover
from ingest_platform.feeds.datasets import registry
from ingest_platform.feeds.issues import FEED, memberships, pattern_changes
from ingest_platform.storage import catalog
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import Site

# Where the hooks find it: in the folder that Schemathesis runs in.
FILE = "known.json"
# What can be done once with each of: wordings split off, changes undone, pins undone, patterns merged. A run of the
# default suite does each some dozens of times; what is done twice is a conflict, which the document allows.
EACH = 60
SEED = 20260506
SECRET = "whsec_" + "0123456789abcdef" * 2
PROJECT = "shop"
# The fields that its dataset declares, with a value each.
DATASET_RECORD = {"amount": 2.5}
CONNECTOR = "con-jira-main"
STREAM = "known-stream"
OF_A_STREAM = ("get_stream", "get_stream_stats", "tail_stream", "list_dead_letters", "replay_dead_letters")


class Known(msgspec.Struct, frozen=True):
    """Ids that exist, by operation and by the name that the path, a header or the body has for them; and a secret."""

    in_path: Mapping[str, Mapping[str, Sequence[str]]]
    in_header: Mapping[str, Mapping[str, Sequence[str]]]
    in_body: Mapping[str, Mapping[str, Sequence[str | int]]]
    secret: str


def make_known(site: Site, folder: Path) -> None:
    """Make it, and write it into the folder."""
    _declare_connector(site, folder)
    _declare_stream(site)
    issues = _store_issues(site, 4 + 3 * EACH)
    patterns = _patterns(site)
    assert len(set(patterns)) == len(issues), "No two are alike."
    split, undone, pinned_to, merged = patterns[:4]
    shares = [patterns[start : start + EACH] for start in range(4, len(patterns), EACH)]
    with site.platform.ledger.transaction() as tx:
        for into, others in ((split, shares[0]), (undone, shares[1])):
            pattern_changes.merge(tx, workspace="acme", pattern_ids=others, into=into, by="key")
        pins = issues[-EACH:]
        pattern_changes.pin(tx, workspace="acme", pattern_id=pinned_to, issue_ids=pins, by="key")
        changes = pattern_changes.changes_of(tx, workspace="acme", pattern_id=undone)
        fingerprints = memberships.of_pattern(tx, workspace="acme", pattern_id=split).fingerprints
    datasets = _datasets(site)
    ids = {"issue_id": issues, "pattern_id": patterns}
    known = Known(
        in_path={
            **dict.fromkeys(
                ("get_issue", "change_issue", "list_issue_history", "get_issue_pattern", "get_pattern"), ids
            ),
            "split_pattern": {"pattern_id": [split]},
            "undo_pattern": {"pattern_id": [undone]},
            **{each: {"pattern_id": [pinned_to]} for each in ("pin_pattern", "unpin_pattern")},
            "merge_pattern": {"pattern_id": [merged]},
            "receive_webhook": {"connector_id": [CONNECTOR]},
            **{operation: {"stream_id": [STREAM]} for operation in OF_A_STREAM},
            **datasets,
        },
        in_header={"send_events": {"X-Stream-Id": [STREAM]}},
        in_body={
            "split_pattern": {"fingerprints": fingerprints},
            "undo_pattern": {"change_id": [each.change for each in changes]},
            **{each: {"issue_ids": pins} for each in ("pin_pattern", "unpin_pattern")},
            "merge_pattern": dict.fromkeys(("into", "pattern_ids"), shares[2]),
        },
        secret=SECRET,
    )
    (folder / FILE).write_bytes(msgspec.json.encode(known))


def _declare_connector(site: Site, folder: Path) -> None:
    file = folder / "connectors.yaml"
    file.write_text(f"connectors: [{{workspace: acme, id: {CONNECTOR}, type: jira, secret_env: SECRET}}]")
    apply(site.platform.ledger, [file], feeds=discover(), read_variable={"SECRET": SECRET}.get)


def _declare_stream(site: Site) -> None:
    body = {"name": "known", "routes": {"match": "first", "rules": [], "otherwise": "drop"}}
    with site.platform.ledger.transaction() as tx:
        catalog.put(tx, [catalog.Declared(workspace="acme", kind="streams", id=STREAM, body=body)])


def _store_issues(site: Site, count: int) -> list[str]:
    """Send issues of which no two are alike, and work them off; their ids."""
    words = _words()
    records = [
        {"source": "jira", "external_id": f"KNOWN-{number}", "title": " ".join(next(words) for _ in range(4))}
        for number in range(count)
    ]
    answer = httpx.post(
        f"{site.url}/v1/ingest/batch", json={"records": records}, headers=site.bearer("ingest:write"), timeout=60
    )
    assert answer.status_code == 202, answer.text
    work(site.platform, FEED)
    return answer.json()["issue_ids"]


def _patterns(site: Site) -> list[str]:
    """Read the pattern of each wording, the first first."""
    with site.platform.ledger.connection() as tx:
        rows = tx.execute("SELECT pattern_id FROM issue_fingerprints WHERE workspace = 'acme' ORDER BY seq")
        return [pattern_id for (pattern_id,) in rows]


def _datasets(site: Site) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Make a default dataset to send to and to ask, and others to register schemas of and to delete; what to name."""
    with site.platform.ledger.transaction() as tx:
        made = [
            registry.create(tx, workspace="acme", project=PROJECT, name=f"known {number}", description="")
            for number in range(1 + 2 * EACH)
        ]
        registry.register_schema(tx, made[0], dict.fromkeys(DATASET_RECORD, "number"))
    asked, *others = (str(each.id) for each in made)
    project = {"project": [PROJECT]}
    of_project = (
        "list_datasets",
        "create_dataset",
        "get_schema_of_default_dataset",
        "register_schema_of_default_dataset",
    )
    of_one = ("get_dataset", "change_dataset", "get_schema_of_dataset", "query_dataset")
    return {
        **dict.fromkeys(of_project, project),
        **{each: {**project, "id": [asked]} for each in of_one},
        "register_schema_of_dataset": {**project, "id": others[:EACH]},
        "delete_dataset": {**project, "id": others[EACH:]},
        **{each: {"dataset_id": [asked]} for each in ("send_record", "send_records")},
    }


def _words() -> Iterator[str]:
    """Make up words, the same every time."""
    chance = random.Random(SEED)
    while True:
        yield "".join(chance.choices(ascii_lowercase, k=10))
