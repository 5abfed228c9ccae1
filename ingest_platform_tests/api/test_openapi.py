"""The OpenAPI document and the page made of it: complete, valid, and true of what the routes answer."""

import json
import re

import httpx
import pytest

from ingest_platform.api.openapi import operations
from ingest_platform_tests.pipeline.working import work
from ingest_platform_tests.serving import CONFIG, Site

BODY = {"items": [{"timestamp": "2026-05-06T10:15:00Z", "machine_data_point_config_id": CONFIG, "value": 1.5}]}

# The family whose contract has a status of its own for a body that is too large.
TOO_LARGE_IS_400 = "/v1/streams"


@pytest.fixture
def document(shared_site: Site) -> dict[str, object]:
    """Fetch the document."""
    answer = shared_site.anyone.get("/openapi.json")
    assert answer.status_code == 200
    return answer.json()


def test_the_document_is_valid_openapi_3_1(document: dict[str, object]) -> None:
    validate = pytest.importorskip("openapi_spec_validator").validate
    assert document["openapi"] == "3.1.0"
    validate(document)


def test_every_operation_has_an_id_of_its_own_a_summary_and_its_refusals(document: dict[str, object]) -> None:
    found = list(operations(document))
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(ids) == len(set(ids))
    for path, _, operation in found:
        assert operation["summary"], path
        answers = operation["responses"]
        assert "500" in answers
        if operation["security"]:
            assert {"401", "403", "503"} <= set(answers), path
        if "requestBody" in operation:
            too_large = "400" if path.startswith(TOO_LARGE_IS_400) else "413"
            assert {"400", "408", "415", "422", too_large} <= set(answers), path
        for answer in answers.values():
            assert "X-Request-Id" in answer["headers"]


def _documented(document: dict[str, object], method: str, path: str, answer: httpx.Response) -> None:
    described = document["paths"][path][method.lower()]["responses"][str(answer.status_code)]
    sent = {name.lower() for name in answer.headers}
    ours = sent - {"date", "content-type", "content-length", "connection", "transfer-encoding"}
    assert ours <= {name.lower() for name in described["headers"]}, (path, answer.status_code)
    content_type = answer.headers["Content-Type"].replace("; charset=utf-8", "")
    assert content_type in {name.replace("; charset=utf-8", "") for name in described["content"]}, path


def test_answers_have_only_documented_statuses_headers_and_types(
    document: dict[str, object], shared_site: Site
) -> None:
    job_id = shared_site.client.post("/v1/machine-data/import-jobs", json=BODY).json()["job_id"]
    # The events of a job end with it.
    work(shared_site.platform)
    for path, method, operation in operations(document):
        filled = re.sub(r"\{[^}]*\}", job_id, path)
        body = {"json": BODY} if method == "POST" else {}
        _documented(document, method, path, shared_site.client.request(method, filled, **body))
        if operation["security"]:
            _documented(document, method, path, shared_site.anyone.request(method, filled, **body))
        if "{job_id}" in path:
            _documented(document, method, path, shared_site.client.request(method, path.replace("{job_id}", "no")))
        if method == "POST":
            for content, content_type in ((b"{", "application/json"), (b"{}", "application/json"), (b"", "text/plain")):
                headers = {"Content-Type": content_type}
                _documented(document, method, path, shared_site.client.post(filled, content=content, headers=headers))
            headers = {"Idempotency-Key": path}
            for _ in range(2):
                _documented(document, method, path, shared_site.client.post(filled, json=BODY, headers=headers))


def test_the_page_names_every_operation_and_needs_nothing_from_elsewhere(
    document: dict[str, object], shared_site: Site
) -> None:
    answer = shared_site.anyone.get("/docs")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    for path, _, _ in operations(document):
        assert path in answer.text
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)
    assert "{{" not in answer.text.replace(json.dumps("{{"), "")
    assert "<script" not in answer.text
