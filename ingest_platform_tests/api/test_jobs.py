"""Jobs over HTTP: lists and cursors, waiting for the end, records, and what was rejected."""

import csv
import io
import json
import threading
import time

import pytest

from ingest_platform.domain.outcome import Outcome, Tally
from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.storage import jobs, outcomes
from ingest_platform.storage.jobs import Costs, Settlement
from ingest_platform_tests.serving import CONFIG, Site

IMPORT = "/v1/machine-data/import-jobs"
FATES = [Outcome.CREATED, Outcome.REJECTED, Outcome.SUPERSEDED, Outcome.CREATED, Outcome.REJECTED]
RAW = [b'{"value":"=1+1","timestamp":"-x"}', b'{"a":\n[1,2]}']


def _send(site: Site, *, items: int = 5) -> str:
    item = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}
    return site.client.post(IMPORT, json={"items": [item] * items}).json()["job_id"]


def _settle(site: Site) -> None:
    """End everything that waits, each job with the same five fates."""
    with site.platform.ledger.transaction() as tx:
        load = jobs.claim(tx, feed="machine_data", bytes_max=1 << 30, submissions_max=1000, lease_seconds=60)
        assert load is not None
        problems = (
            Problem(code="invalid_type", field="value", message="value must be a number."),
            Problem(code="missing_field", field="timestamp", message="timestamp is missing."),
        )
        rejections = [
            Rejection(submission=0, record_index=index, problems=problems, raw=raw)
            for index, raw in zip((1, 4), RAW, strict=True)
        ]
        for submission in load.submissions:
            codes = bytes(fate.value for fate in FATES)
            outcomes.put(tx, [outcomes.JobOutcomes(job_id=submission.job_id, codes=codes, rejections=rejections)])
        tally = Tally.of(received=5, created=2, superseded=1, rejected=2)
        ended = [Settlement(job_id=each.job_id, tally=tally) for each in load.submissions]
        jobs.settle(tx, load, ended, Costs(run_id="run-1"))


def test_the_job_object_has_its_keys_before_and_after_the_end(site: Site) -> None:
    job_id = _send(site)
    before = site.client.get(f"/v1/jobs/{job_id}").json()
    _settle(site)
    after = site.client.get(f"/v1/jobs/{job_id}").json()
    assert list(before) == list(after)
    assert (before["family"], before["origin"], before["state"], before["verdict"]) == (
        *("machine_data", "api", "accepted", None),
    )
    assert before["counts"]["received"] == 5
    assert (after["state"], after["verdict"], after["run_id"]) == ("finished", "partial", "run-1")
    assert after["counts"] == {
        **dict.fromkeys(("updated", "unchanged", "stale", "duplicate"), 0),
        "received": 5,
        "accepted": 3,
        "rejected": 2,
        "created": 2,
        "superseded": 1,
    }
    assert after["times"]["finished"] >= after["times"]["accepted"]


def test_waiting_answers_as_soon_as_the_job_ends(site: Site) -> None:
    job_id = _send(site)
    for headers, query in (({}, "?wait=20"), ({"Prefer": "respond-async, wait=20"}, "")):
        timer = threading.Timer(0.3, lambda: _settle(site))
        if headers:
            job_id = _send(site)
        timer.start()
        began = time.monotonic()
        answer = site.client.get(f"/v1/jobs/{job_id}{query}", headers=headers)
        assert answer.json()["state"] == "finished"
        assert time.monotonic() - began < 5
        assert answer.headers.get("Preference-Applied") == ("wait=20" if headers else None)
        timer.join()


def test_waiting_answers_after_its_time_with_what_is_known(site: Site) -> None:
    began = time.monotonic()
    assert site.client.get(f"/v1/jobs/{_send(site)}?wait=1").json()["state"] == "accepted"
    assert 0.9 < time.monotonic() - began < 4
    assert site.client.get("/v1/jobs/job_none?wait=10").status_code == 404


def test_a_list_is_paged_by_cursors_that_inserts_do_not_shift(site: Site) -> None:
    sent = [_send(site) for _ in range(5)]
    first = site.client.get("/v1/jobs?limit=2").json()
    assert [job["id"] for job in first["data"]] == [sent[4], sent[3]]
    assert (first["page"]["has_more"], first["page"]["total"]) == (True, 5)
    _send(site)
    second = site.client.get("/v1/jobs", params={"limit": 2, "cursor": first["page"]["next_cursor"]}).json()
    assert [job["id"] for job in second["data"]] == [sent[2], sent[1]]
    third = site.client.get("/v1/jobs", params={"limit": 2, "cursor": second["page"]["next_cursor"]}).json()
    assert [job["id"] for job in third["data"]] == [sent[0]]
    assert third["page"] == {"next_cursor": None, "has_more": False, "total": 6}


def test_a_cursor_that_was_changed_or_is_another_lists_is_400(site: Site) -> None:
    for _ in range(3):
        _send(site)
    cursor = site.client.get("/v1/jobs?limit=1").json()["page"]["next_cursor"]
    other = ["A" if letter != "A" else "B" for letter in cursor]
    tampered = [cursor[:place] + letter + cursor[place + 1 :] for place, letter in enumerate(other)]
    for bad in (*tampered, cursor + "A", cursor[:-1], "", "%00", "ä"):
        answer = site.client.get("/v1/jobs", params={"limit": 1, "cursor": bad})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_cursor"), bad
    assert site.client.get("/v1/jobs", params={"cursor": cursor, "state": "accepted"}).status_code == 400


def test_jobs_are_filtered(site: Site) -> None:
    done = _send(site)
    _settle(site)
    waiting = _send(site)
    for query, expected in (
        ("state=finished", [done]),
        ("state=accepted", [waiting]),
        ("family=machine_data", [waiting, done]),
        ("origin=file", []),
        ("since=2999-01-01T00:00:00Z", []),
        ("since=2020-01-01T00:00:00%2B02:00", [waiting, done]),
    ):
        listed = site.client.get(f"/v1/jobs?{query}").json()
        assert [job["id"] for job in listed["data"]] == expected, query
        assert listed["page"]["total"] == len(expected)
    for query in ("state=open", "family=x", "since=yesterday", "limit=0", "limit=101", "limit=x", "limit=1&limit=2"):
        assert site.client.get(f"/v1/jobs?{query}").status_code == 400, query


def test_every_record_of_a_job_is_listed_with_its_fate(site: Site) -> None:
    job_id = _send(site)
    path = f"/v1/jobs/{job_id}/records"
    assert site.client.get(path).json() == {
        "data": [],
        "page": {"next_cursor": None, "has_more": False, "total": None},
    }
    _settle(site)
    everything = site.client.get(path).json()
    assert [record["outcome"] for record in everything["data"]] == [fate.word for fate in FATES]
    assert [record["index"] for record in everything["data"]] == [0, 1, 2, 3, 4]
    assert everything["page"]["total"] == 5
    rejected = site.client.get(f"{path}?outcome=rejected").json()
    assert [(record["index"], len(record["reasons"])) for record in rejected["data"]] == [(1, 2), (4, 2)]
    assert rejected["data"][0]["reasons"][1] == {
        "code": "missing_field",
        "field": "timestamp",
        "message": "timestamp is missing.",
    }
    accepted = site.client.get(f"{path}?outcome=accepted&limit=2").json()
    assert [record["index"] for record in accepted["data"]] == [0, 2]
    rest = site.client.get(path, params={"outcome": "accepted", "cursor": accepted["page"]["next_cursor"]}).json()
    assert [record["index"] for record in rest["data"]] == [3]
    assert accepted["page"]["total"] == rest["page"]["total"] == 3


def test_what_was_rejected_can_be_downloaded_mended_and_sent_again(site: Site) -> None:
    job_id = _send(site)
    _settle(site)
    answer = site.client.get(f"/v1/jobs/{job_id}/rejected.ndjson")
    assert answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["index"] for line in lines] == [1, 4]
    assert lines[0]["record"] == json.loads(RAW[0])
    assert [reason["code"] for reason in lines[0]["reasons"]] == ["invalid_type", "missing_field"]


def test_the_table_of_rejections_has_no_cell_that_a_spreadsheet_would_run(site: Site) -> None:
    job_id = _send(site)
    _settle(site)
    answer = site.client.get(f"/v1/jobs/{job_id}/rejected.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert (rows[0]["value"], rows[0]["timestamp"], rows[0]["record_index"]) == ("'=1+1", "'-x", "1")
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert answer.text.startswith('"timestamp"')


@pytest.mark.parametrize(
    "text", ["=1", "+1", "-1", "@A1", "\t=1", "\r1", "\n1", " =1", "\u00a0@A1", "\uff1d1", "\n\uff0d1"]
)
def test_a_text_that_a_spreadsheet_might_run_begins_with_an_apostrophe_and_a_number_does_not(text: str) -> None:
    from ingest_platform.api.rejected import csv_row  # noqa: PLC0415 - only used here

    raw = json.dumps({"a": text, "b": -1.5, "c": {"=": "="}}).encode()
    row = csv_row(Rejection(submission=0, record_index=0, problems=(), raw=raw), ["a", "b", "c", "d"])
    assert row[:4] == [f"'{text}", "-1.5", '{"=":"="}', ""]


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"not json", b'{"a":1e999}', b"", b"[" * 100])
def test_a_rejected_record_that_is_no_json_is_shown_as_text(raw: bytes) -> None:
    from ingest_platform.api.rejected import csv_row  # noqa: PLC0415 - only used here

    rejection = Rejection(submission=0, record_index=0, problems=(), raw=raw)
    assert len(csv_row(rejection, ["a"])) == 5
