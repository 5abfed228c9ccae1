"""One log for everything, in one form, with no secret in it."""

import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping

import pytest
import structlog

from ingest_platform.logs import bound, configure_logs, hide_secrets

TOKEN = "ing_live_0123456789abcdef_" + "s" * 40
URL = "postgresql://ingest:hunter2@db/ingest"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """Leave the process's logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def _log(form: str, *, level: str = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logs(level=level, form=form, stream=stream)
    return stream


def _lines(stream: io.StringIO) -> list[Mapping[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_with_time_level_and_what_is_bound() -> None:
    stream = _log("json")
    with bound(load_id="load_1"):
        structlog.get_logger("x").info("load settled", accepted=3)
    (line,) = _lines(stream)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert (line["level"], line["event"], line["accepted"], line["load_id"]) == ("info", "load settled", 3, "load_1")
    assert str(line["timestamp"]).endswith("Z")


def test_libraries_and_warnings_speak_in_the_same_form() -> None:
    stream = _log("json")
    with bound(request_id="req_1"):
        logging.getLogger("uvicorn.error").warning("slow %s", "client", extra={"seconds": 3})
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("old", UserWarning, stacklevel=1)
    first, second = _lines(stream)
    assert (first["event"], first["logger"], first["seconds"]) == ("slow client", "uvicorn.error", 3)
    assert first["request_id"] == "req_1"
    assert "old" in str(second["event"])


def test_what_is_below_the_level_is_not_said_and_chatty_libraries_are_quiet() -> None:
    # As Dagster leaves it, in whatever order they come.
    logging.getLogger("dagster").setLevel(logging.INFO)
    stream = _log("json", level="warning")
    structlog.get_logger().info("quiet")
    logging.getLogger("httpx").info("quiet")
    logging.getLogger("dagster").info("quiet")
    assert _lines(stream) == []
    structlog.get_logger().warning("said")
    assert len(_lines(stream)) == 1


@pytest.mark.parametrize("form", ["json", "console"])
def test_no_secret_is_in_the_log_wherever_it_comes_from(form: str) -> None:
    stream = _log(form)
    log = structlog.get_logger("x")
    log.info(
        "told", text=f"the token {TOKEN} in a text", url=URL, nested={"headers": [{"Authorization": "Bearer abc"}]}
    )
    log.info("by name", password="correct-horse", api_key="battery", body=b"staple")
    logging.getLogger("psycopg").warning("can't connect to %s", URL)
    for each in (log, logging.getLogger("library")):
        try:
            _fail(f"wrong token {TOKEN} for {URL}")
        except ValueError:
            each.exception("request failed")
    said = stream.getvalue()
    for secret in ("s" * 40, "hunter2", "Bearer abc", "correct-horse", "battery", "staple"):
        assert secret not in said
    # What leads to the key and the place is still there.
    assert "ing_live_0123456789abcdef" in said
    assert "ValueError" in said


def _fail(message: str) -> None:
    # Not seen in a plain traceback, which shows the line but no values.
    body = message[::-1]
    raise ValueError(message if body else "")


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_has_its_end_and_no_values_of_variables(form: str) -> None:
    stream = _log(form)
    try:
        _fail("x" * 20_000 + "what went wrong")
    except ValueError:
        structlog.get_logger().exception("request failed")
    assert "xwhat went wrong" in stream.getvalue()
    assert "gnorw tnew tahw" not in stream.getvalue()
    assert len(stream.getvalue()) < 10_000


def test_secrets_of_webhooks_are_hidden() -> None:
    assert hide_secrets("signed with whsec_0123456789abcdef!") == "signed with whsec_***!"
