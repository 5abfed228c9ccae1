"""Hostile and odd input of well-known collections, all the way: by the endpoint and the drop folder to its outcome.

Whatever comes in, no answer is a 5xx, everything that was accepted ends, and every dropped file is in archive or
quarantine with its answer beside it. How the parts read such input is tested beside them.
"""

import csv
import io
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from ingest_platform.domain.job import Job, JobState
from ingest_platform.feeds import discover
from ingest_platform.pipeline.claims import SETTLE_SECONDS, Memory
from ingest_platform.pipeline.files import collect
from ingest_platform.pipeline.filing import file_outcomes
from ingest_platform.storage import jobs, workspaces
from ingest_platform_tests.pipeline.working import job_of, work
from ingest_platform_tests.serving import CONFIG, Site, fresh_database, serving

pytestmark = pytest.mark.corpus

IMPORT = "/v1/machine-data/import-jobs"
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
PARQUET = "application/vnd.apache.parquet"
SANE_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
SANE_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")


@pytest.fixture(scope="module")
def corpus(shared: Path) -> Path:
    """Find the collections."""
    folder = shared / "corpus"
    if not folder.is_dir():
        pytest.skip("shared/corpus with hostile input is not beside this checkout")
    return folder


@pytest.fixture(scope="module")
def site(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Serve the whole API without a rate in the way."""
    with fresh_database(server_url, template) as url, serving(url, tmp_path_factory.mktemp("corpora")) as site:
        with site.platform.ledger.transaction() as tx:
            workspaces.put(tx, workspaces.Workspace(name="acme", rate_limits={"machine_data": 1_000_000}))
        yield site


@pytest.fixture(scope="module")
def naughty(corpus: Path) -> list[str]:
    """Read the big list of naughty strings."""
    return json.loads((corpus / "big-list-of-naughty-strings/blns.json").read_bytes())


def _json_documents(corpus: Path) -> dict[str, bytes]:
    paths = sorted((corpus / "JSONTestSuite").glob("test_*/*.json"))
    assert len(paths) > 300
    return {path.name: path.read_bytes() for path in paths}


def _parquet_files(corpus: Path) -> dict[str, bytes]:
    root = corpus / "parquet-testing"
    paths = sorted(path for folder in ("data", "bad_data") for path in (root / folder).rglob("*") if path.is_file())
    paths += sorted((root / "shredded_variant").glob("*.parquet"))
    assert len(paths) > 200
    return {f"{path.parent.name}-{path.name}": path.read_bytes() for path in paths}


def _csv_files(corpus: Path) -> dict[str, bytes]:
    paths = sorted((corpus / "csv-spectrum/csvs").glob("*.csv"))
    assert len(paths) > 10
    return {path.name: path.read_bytes() for path in paths}


# The endpoint.


def _post(site: Site, content: bytes, content_type: str) -> httpx.Response:
    return site.client.post(IMPORT, content=content, headers={"Content-Type": content_type})


def _post_all(site: Site, bodies: Mapping[str, bytes], content_type: str) -> dict[str, Job | str]:
    """Post bodies and work off what is accepted: the ended job of each, or the code of its refusal."""
    accepted: dict[str, str] = {}
    found: dict[str, Job | str] = {}
    for name, body in bodies.items():
        answer = _post(site, body, content_type)
        assert answer.status_code in {202, 400, 422}, (name, answer.status_code, answer.text)
        if answer.status_code == 202:
            accepted[name] = answer.json()["job_id"]
        else:
            found[name] = f"{answer.status_code} {answer.json()['error']['code']}"
    _work_off(site)
    found |= {name: job_of(site.platform, job_id) for name, job_id in accepted.items()}
    for name, job_id in accepted.items():
        _require_ended(found[name], name)
        assert site.client.get(f"{IMPORT}/{job_id}").status_code == 200, name
        assert site.client.get(f"/v1/jobs/{job_id}/rejected.csv").status_code == 200, name
    return found


def _work_off(site: Site) -> None:
    report = work(site.platform)
    assert report.faults == []
    with site.platform.ledger.connection() as tx:
        assert jobs.waiting(tx, "machine_data").submissions == 0
    assert site.anyone.get("/readyz").status_code == 200


def _require_ended(job: Job | str, name: str) -> None:
    assert isinstance(job, Job), name
    assert job.state.terminal, name
    if job.state is JobState.FINISHED:
        assert job.received == (job.accepted or 0) + (job.rejected or 0), name
    else:
        assert job.error_code, name
        assert job.error_message, name


def _is_json(document: bytes) -> bool:
    """Say what another parser says, strictly."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.loads(document.decode(), parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def test_json_documents_as_bodies_get_the_verdict_that_their_names_tell(site: Site, corpus: Path) -> None:
    found = _post_all(site, _json_documents(corpus), JSON)
    # None of them has items: what is JSON is of another shape, what is none is malformed.
    assert {told for name, told in found.items() if name.startswith("y_")} <= {"422 invalid_type", "422 missing_field"}
    refused = {told for name, told in found.items() if name.startswith("n_")}
    assert refused == {"400 invalid_json", "400 too_deep"}
    assert all(isinstance(told, str) for told in found.values())


def test_json_documents_as_an_item_are_rejected_one_by_one_or_refused_whole(site: Site, corpus: Path) -> None:
    bodies = {name: b'{"items":[' + content + b"]}" for name, content in _json_documents(corpus).items()}
    found = _post_all(site, bodies, JSON)
    for name, told in found.items():
        if isinstance(told, Job):
            assert (told.state, told.accepted, told.rejected) == (JobState.FINISHED, 0, told.received), name
            assert told.received, name
        if name.startswith("y_"):
            assert isinstance(told, Job), (name, told)
        elif name.startswith("n_") and not _is_json(bodies[name]):
            assert told in {"400 invalid_json", "400 too_deep"}, (name, told)
        elif name.startswith("n_"):
            # Between brackets it is JSON after all: nothing, or several items.
            assert isinstance(told, Job) or told == "422 empty", (name, told)


def test_json_documents_as_lines_are_rejected_line_by_line(site: Site, corpus: Path) -> None:
    documents = _json_documents(corpus)
    found = _post_all(site, documents, NDJSON)
    for name, told in found.items():
        if isinstance(told, Job) and told.state is JobState.FINISHED:
            assert (told.accepted, told.rejected) == (0, told.received), name
        elif isinstance(told, Job):
            assert told.error_code == "empty", (name, told)
        else:
            assert (told, documents[name]) == ("422 empty", b""), name
    singles = [name for name, content in documents.items() if name.startswith("y_") and b"\n" not in content.strip()]
    assert len(singles) > 80
    assert all(isinstance(job := found[name], Job) and job.received == 1 for name in singles)


def test_parquet_files_end_finished_or_failed_with_a_reason(site: Site, corpus: Path) -> None:
    found = _post_all(site, _parquet_files(corpus), PARQUET)
    ended = [job for job in found.values() if isinstance(job, Job)]
    assert {job.state for job in ended} == {JobState.FINISHED, JobState.FAILED}
    # None of them has the columns of a reading.
    assert sum(job.accepted or 0 for job in ended) == 0
    assert all(told == "422 empty" for told in found.values() if isinstance(told, str))


def test_csv_files_are_counted_as_their_rows(site: Site, corpus: Path) -> None:
    found = _post_all(site, _csv_files(corpus), CSV)
    for name, job in found.items():
        assert isinstance(job, Job), name
        expected = json.loads((corpus / f"csv-spectrum/json/{Path(name).stem}.json").read_bytes())
        assert (job.received, job.accepted) == (len(expected), 0), name


def test_formulas_are_harmless_in_the_table_of_what_was_rejected(site: Site, corpus: Path) -> None:
    paths = list((corpus / "csv-injection-payloads/Intruder").glob("*.txt"))
    payloads = [line for path in paths for line in path.read_text(errors="ignore").splitlines() if line]
    items = [{"timestamp": payload, "machine_data_point_config_id": payload, "value": payload} for payload in payloads]
    job_id = site.client.post(IMPORT, json={"items": items}).json()["job_id"]
    _work_off(site)
    table = site.client.get(f"/v1/jobs/{job_id}/rejected.csv").text
    found = list(csv.reader(io.StringIO(table)))[1:]
    assert len(found) == len(payloads)
    assert [cell for row in found for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == []


# The drop folder.


def _drop_all(site: Site, files: Mapping[str, bytes]) -> dict[str, Job]:
    """Drop files, have them taken, worked and filed; the ended job of each."""
    root = site.platform.data_dir / "landing/acme/machine-data"
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    memory, feeds, taken = Memory(), discover(), []
    while look := collect(
        site.platform, feeds, now=lambda: time.time() + 2 * SETTLE_SECONDS, memory=memory, room_bytes=0
    ):
        taken += look
    assert len(taken) == len(files)
    _work_off(site)
    assert set(file_outcomes(site.platform)) == {each.job_id for each in taken}
    assert [path for path in (site.platform.data_dir / "landing").rglob("*") if path.is_file()] == []
    found = {each.name: job_of(site.platform, each.job_id) for each in taken}
    for name, job in found.items():
        _require_ended(job, name)
        _require_filed(site, job)
    return found


def _require_filed(site: Site, job: Job) -> None:
    finished = job.state is JobState.FINISHED
    root, answer = ("archive", ".outcome.json") if finished else ("quarantine", ".reason.json")
    (folder,) = (site.platform.data_dir / root).glob(f"acme/machine-data/*/{job.id}")
    names = sorted((path.name for path in folder.iterdir()), key=len)
    assert names[1:] == [names[0] + answer] + [names[0] + ".rejected.ndjson"] * (finished and bool(job.rejected))
    told = json.loads((folder / names[1]).read_bytes())
    assert (told["id"], told["state"]) == (job.id, job.state.value)
    if job.rejected:
        lines = (folder / names[2]).read_bytes().splitlines()
        assert [json.loads(line)["index"] for line in lines] == list(range(job.rejected))


def test_json_documents_as_files_are_archived_or_in_quarantine_as_their_names_tell(site: Site, corpus: Path) -> None:
    documents = _json_documents(corpus)
    found = _drop_all(site, documents)
    assert len(found) == len(documents)
    for name, job in found.items():
        content = documents[name].strip()
        if job.duplicate_of is not None:
            assert job.state is JobState.FINISHED, name
        elif name.startswith("n_"):
            assert (job.state, job.error_code in {"invalid_json", "too_deep", "empty"}) == (JobState.FAILED, True), name
        elif name.startswith("y_") and content.startswith(b"[") and content.strip(b"[] "):
            assert (job.state, job.accepted, job.rejected) == (JobState.FINISHED, 0, job.received), name


def test_parquet_files_dropped_are_archived_or_in_quarantine(site: Site, corpus: Path) -> None:
    # What was posted before under another vocabulary has no content identity, so none is a duplicate of those.
    files = {f"{name.removesuffix('.parquet')}.parquet": content for name, content in _parquet_files(corpus).items()}
    found = _drop_all(site, files)
    assert {job.state for job in found.values()} == {JobState.FINISHED, JobState.FAILED}
    assert sum(job.accepted or 0 for job in found.values()) == 0


def test_csv_files_dropped_are_archived_with_every_row_rejected(site: Site, corpus: Path) -> None:
    for name, job in _drop_all(site, _csv_files(corpus)).items():
        expected = json.loads((corpus / f"csv-spectrum/json/{Path(name).stem}.json").read_bytes())
        assert job.duplicate_of is not None or (job.received, job.accepted) == (len(expected), 0), name


def test_naughty_strings_as_file_names_are_archived(site: Site, naughty: list[str]) -> None:
    files: dict[str, bytes] = {}
    for number, text in enumerate(naughty):
        name = text.replace("/", "_").replace("\x00", "").encode()[:200].decode(errors="ignore")
        row = f"2026-05-06T10:{number // 60:02}:{number % 60:02}Z,{CONFIG},{number}"
        files[f"{number}{name}.csv"] = f"timestamp,machine_data_point_config_id,value\n{row}\n".encode()
    found = _drop_all(site, files)
    assert len(found) == len(naughty)
    assert {(job.state, job.accepted) for job in found.values()} == {(JobState.FINISHED, 1)}


def test_naughty_strings_in_dropped_files_are_rejected_record_by_record(site: Site, naughty: list[str]) -> None:
    fields = ("timestamp", "machine_data_point_config_id", "value")
    rows = [dict.fromkeys(fields, text or "(empty)") for text in naughty]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fields)
    writer.writeheader()
    writer.writerows(rows)
    files = {
        "naughty.json": json.dumps(rows).encode(),
        "naughty.ndjson": b"".join(json.dumps(row).encode() + b"\n" for row in rows),
        "naughty.csv": table.getvalue().encode(),
    }
    for name, job in _drop_all(site, files).items():
        assert (job.state, job.received, job.rejected) == (JobState.FINISHED, len(naughty), len(naughty)), name
        (rejected,) = site.platform.data_dir.glob(f"archive/acme/machine-data/*/{job.id}/*.rejected.ndjson")
        records = [json.loads(line)["record"] for line in rejected.read_bytes().splitlines()]
        assert [record["timestamp"] for record in records] == [row["timestamp"] for row in rows], name


# Naughty strings wherever a client may write.


def _ask(site: Site, method: str, path: str, headers: Mapping[str, bytes] | None = None, **more: object) -> int:
    """Ask, and answer with the status; 0 where the client's own library refuses to send it."""
    try:
        answer = site.client.request(method, path, headers=dict(headers or {}), **more)  # type: ignore[arg-type]
    except (httpx.LocalProtocolError, httpx.InvalidURL, ValueError):
        return 0
    assert answer.status_code < 500, (path, headers, answer.text)
    assert answer.headers["X-Request-Id"].isascii()
    return answer.status_code


def test_naughty_strings_as_data_points_and_instants_are_rejected(site: Site, naughty: list[str]) -> None:
    items = [
        {"timestamp": text, "machine_data_point_config_id": text, "value": number, text: text}
        for number, text in enumerate(naughty)
    ]
    told = site.client.post(IMPORT, json={"items": items}).json()
    _work_off(site)
    ended = site.client.get(f"{IMPORT}/{told['job_id']}").json()
    assert (ended["items_accepted"], ended["items_rejected"]) == (0, len(naughty))
    assert [error["machine_data_point_config_id"] for error in ended["errors"]] == [text[:200] for text in naughty]
    records = site.client.get(f"/v1/jobs/{told['job_id']}/records", params={"limit": 1_000}).json()
    assert len(records["data"]) == len(naughty)


def test_naughty_strings_as_parameters_are_answered(site: Site, naughty: list[str]) -> None:
    for text in naughty:
        for name, path in (
            *((name, "/v1/machine-data/points") for name in ("config_id", "from", "cursor")),
            *((name, "/v1/machine-data-point-configs") for name in ("site", "limit")),
            *((name, "/v1/jobs") for name in ("family", "since", "cursor")),
        ):
            status = _ask(site, "GET", path, params={name: text})
            assert status == 400 or (status == 200 and name in {"site", "limit"}), (
                name,
                text,
            )
        for path in ("/v1/jobs/{}", "/v1/jobs/{}/rejected.csv"):
            assert _ask(site, "GET", path.format(quote(text, safe=""))) in {200, 400, 404, 405}, text


def test_naughty_strings_as_header_values_are_answered(site: Site, naughty: list[str]) -> None:
    item = {"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}
    for text in naughty:
        value = text.encode()
        keyed = _ask(site, "POST", IMPORT, {"Idempotency-Key": value}, json={"items": [item]})
        # Blanks around a header's value are not part of it.
        assert keyed in ({202} if SANE_KEY.fullmatch(value.strip(b" \t")) else {0, 400}), text
        assert _ask(site, "GET", "/v1/sites", {"Authorization": value}) in {0, 400, 401}, text
        assert _ask(site, "POST", IMPORT, {"Content-Type": value}, content=b"{}") in {0, 400, 415}, text
        encoded = {"Content-Type": b"text/csv", "Content-Encoding": value}
        assert _ask(site, "POST", IMPORT, encoded, content=b"value\n1\n") in {0, 202, 400, 415}, text
        for name in ("User-Agent", "Accept", "Prefer", "X-Forwarded-For", "Cookie", "X-Naughty"):
            assert _ask(site, "GET", "/v1/sites", {name: value}) in {0, 200, 400}, (name, text)
    _work_off(site)


def test_naughty_strings_as_request_ids_come_back_if_they_are_sane(site: Site, naughty: list[str]) -> None:
    for text in naughty:
        value = text.encode()
        try:
            answer = site.client.get("/v1/sites", headers={"X-Request-Id": value})
        except httpx.LocalProtocolError:
            continue
        kept = answer.headers["X-Request-Id"].encode()
        if SANE_REQUEST_ID.fullmatch(value.strip(b" \t")):
            assert kept == value.strip(b" \t")
        else:
            assert kept.startswith(b"req_")


def test_naughty_strings_as_names_of_uploads_are_answered(site: Site, naughty: list[str]) -> None:
    row = f"timestamp,machine_data_point_config_id,value\n2026-05-06T10:15:00Z,{CONFIG},1\n"
    for text in naughty:
        assert _ask(site, "POST", IMPORT, files={"file": (f"{text}.csv", row)}) in {0, 202, 400, 415, 422}, text
    _work_off(site)
    listed = site.client.get("/v1/jobs", params={"limit": 100})
    assert listed.status_code == 200
