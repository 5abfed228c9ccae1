"""Snowflake's SQL API, by a stand-in that checks tokens for real and loads the staged files into DuckDB.

It keeps a history of loaded files as Snowflake does, by name and content. Nothing here was compared with Snowflake.
"""

import base64
import hashlib
import json
import logging
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import Destination, Transient
from ingest_platform.feeds.stream_events.destinations.snowflake import Signer, plain_name, quoted
from ingest_platform_tests.feeds.stream_events.destinations.batches import (
    CANARY,
    DELIVERY,
    S3_KEYS,
    batch,
    faults,
    item,
    object_store,
    opened,
)
from ingest_platform_tests.receiving import Answer, Received, receiving

_NAME = r'"(?:[^"]|"")+"'
COPY = re.compile(
    rf"COPY INTO (?P<table>{_NAME}(?:\.{_NAME})*) FROM @(?P<stage>{_NAME}(?:\.{_NAME})*)"
    r" FILES = \('(?P<file>(?:[^'\\]|'')+)'\) FILE_FORMAT = \(TYPE = PARQUET USE_LOGICAL_TYPE = TRUE\)"
    r" MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT"
)
LIST = re.compile(rf"LIST @(?P<stage>{_NAME}(?:\.{_NAME})*)/(?P<file>\S+)")
TABLE = (
    'CREATE TABLE "EVENTS" (EVENT_ID VARCHAR, "TIMESTAMP" TIMESTAMPTZ, SOURCE VARCHAR, WEIGHT DOUBLE,'
    " STREAM_ID VARCHAR, STREAM_VERSION INTEGER, DOCUMENT VARCHAR)"
)


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def _pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    import boto3  # noqa: PLC0415 - slow to import.

    with object_store() as address:
        boto3.client("s3", endpoint_url=address, **S3_KEYS).create_bucket(Bucket="stage")
        yield address


@dataclass(slots=True)
class Account:
    """An account with one user, one stage and one table."""

    key: rsa.RSAPrivateKey
    endpoint: str
    # Where the stage leads.
    prefix: str
    asked_first: int = 0
    database: duckdb.DuckDBPyConnection = field(default_factory=duckdb.connect)
    history: set[tuple[str, str, str]] = field(default_factory=set)
    statements: list[dict[str, Any]] = field(default_factory=list)
    running: dict[str, tuple[int, Answer]] = field(default_factory=dict)

    def answer(self, received: Received) -> Answer:
        wrong = self._why_refused(received.headers)
        if wrong is not None:
            return _said(401, {"code": "390144", "message": wrong})
        if not received.body:
            return self._polled(received.path.rpartition("/")[2])
        path, _, query = received.path.partition("?")
        assert path == "/api/v2/statements"
        uuid.UUID(query.removeprefix("requestId="))
        asked = json.loads(received.body)
        assert 0 < asked["timeout"] <= 30
        self.statements.append(asked)
        answer = self._run(asked["statement"])
        if not self.asked_first:
            return answer
        handle = str(uuid.uuid4())
        self.running[handle] = (self.asked_first, answer)
        return self._polled(handle)

    def _polled(self, handle: str) -> Answer:
        left, answer = self.running[handle]
        self.running[handle] = (left - 1, answer)
        return answer if left <= 0 else _said(202, {"code": "333334", "statementHandle": handle})

    def _why_refused(self, headers: Mapping[str, str]) -> str | None:
        """Check a token as Snowflake describes it."""
        assert headers["x-snowflake-authorization-token-type"] == "KEYPAIR_JWT"
        assert headers["accept"] == "application/json"
        assert headers["user-agent"]
        head, claims, signature = headers["authorization"].removeprefix("Bearer ").split(".")
        try:
            self.key.public_key().verify(
                _decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            return "JWT token is invalid."
        said, who = json.loads(_decoded(claims)), "ORG-ACCOUNT_1.LOADER"
        public = self.key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        print_ = base64.b64encode(hashlib.sha256(public).digest()).decode()
        assert json.loads(_decoded(head)) == {"alg": "RS256", "typ": "JWT"}
        sound = said["iss"] == f"{who}.SHA256:{print_}" and said["sub"] == who
        return None if sound and said["iat"] - 60 <= time.time() < said["exp"] <= said["iat"] + 3600 else "JWT"

    def _run(self, statement: str) -> Answer:
        listed = LIST.fullmatch(statement)
        if listed is not None:
            stored = self._stored(listed["file"])
            return _rows(["name", "size", "md5"], [[listed["file"], 1, stored[0]]] if stored else [])
        copy = COPY.fullmatch(statement)
        if copy is None or copy["stage"] != '"DB"."PUBLIC"."EVENTS_STAGE"':
            return _said(422, {"code": "001003", "message": "SQL compilation error", "sqlState": "42000"})
        stored = self._stored(copy["file"])
        if stored is None or (copy["table"], copy["file"], stored[0]) in self.history:
            return _rows(["status"], [["Copy executed with 0 files processed."]])
        return self._copy(copy["table"], copy["file"], *stored)

    def _copy(self, table: str, name: str, tag: str, content: bytes) -> Answer:
        columns = ["file", "status", "rows_parsed", "rows_loaded", "first_error"]
        file = Path(self.database.execute("SELECT current_setting('temp_directory')").fetchall()[0][0]) / "staged"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        try:
            names = [row[0] for row in self.database.execute(f"DESCRIBE {table}").fetchall()]
            shared = ", ".join(f'"{name.lower()}"' for name in names)
            listed = ", ".join(f'"{name}"' for name in names)
            self.database.execute(f"INSERT INTO {table} ({listed}) SELECT {shared} FROM read_parquet('{file}')")
        except duckdb.CatalogException:
            return _said(422, {"code": "002003", "message": "does not exist or not authorized", "sqlState": "42S02"})
        except duckdb.ConversionException:
            return _rows(columns, [[name, "LOAD_FAILED", 1, 0, f"Numeric value '{CANARY}' is not recognized"]])
        self.history.add((table, name, tag))
        return _rows(columns, [[name, "LOADED", 1, 1, None]])

    def _stored(self, name: str) -> tuple[str, bytes] | None:
        import boto3  # noqa: PLC0415

        client = boto3.client("s3", endpoint_url=self.endpoint, **S3_KEYS)
        try:
            found = client.get_object(Bucket="stage", Key=f"{self.prefix}/{name}")
        except client.exceptions.NoSuchKey:
            return None
        return found["ETag"], found["Body"].read()

    def ids(self) -> list[str]:
        return [row[0] for row in self.database.execute('SELECT EVENT_ID FROM "EVENTS" ORDER BY 1').fetchall()]


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _said(status: int, said: Mapping[str, object]) -> Answer:
    return Answer(status=status, body=json.dumps(said).encode())


def _rows(names: list[str], rows: list[list[object]]) -> Answer:
    types = [{"name": name, "type": "text"} for name in names]
    return _said(200, {"code": "090001", "resultSetMetaData": {"rowType": types}, "data": rows})


@pytest.fixture
def account(key: rsa.RSAPrivateKey, endpoint: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Account]:
    prefix = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    with duckdb.connect(config={"temp_directory": str(tmp_path / "duckdb")}) as database:
        database.execute("SET TimeZone = 'UTC'")
        database.execute(TABLE)
        yield Account(key=key, endpoint=endpoint, prefix=prefix, database=database)


@contextmanager
def _loading(account: Account, folder: Path, /, **more: object) -> Iterator[Destination]:
    with receiving(account.answer) as receiver:
        secrets = {"private_key": _pem(account.key), "secret_access_key": CANARY}
        body = _body(f"http://127.0.0.1:{receiver.port}", account) | more
        yield opened(body, folder, secrets=secrets)


def _body(url: str, account: Account) -> dict[str, object]:
    return {
        "type": "snowflake",
        "account": "org-account_1",
        "account_url": url,
        "user": "loader",
        "private_key": "${KEY}",
        "role": "ingest",
        "warehouse": '"Small one"',
        "table": "events",
        "stage": "db.public.events_stage",
        "url": f"s3://stage/{account.prefix}",
        "endpoint": account.endpoint,
        "access_key_id": "test",
        "secret_access_key": "${SECRET}",
    }


def test_events_are_staged_and_loaded_once_however_often_they_are_sent(account: Account, tmp_path: Path) -> None:
    items = [replace(item(1, text="ü'\";--"), weight=100.0), item(2, source=None)]
    with _loading(account, tmp_path) as destination:
        for attempt in (1, 2, 3):
            sent = destination.send(batch(items, attempt=attempt))
            assert list(sent.delivered) == [each.event_id for each in items]
    row = account.database.execute('SELECT * FROM "EVENTS" ORDER BY EVENT_ID').fetchall()[0]
    assert row[0] == items[0].event_id
    assert row[1] == items[0].timestamp
    assert row[3:] == (100.0, batch(items).stream_id, 3, items[0].document.decode())
    assert account.ids() == [each.event_id for each in items]
    first = account.statements[0]
    assert (first["role"], first["warehouse"]) == ("INGEST", "Small one")
    assert f"{DELIVERY}.parquet" in first["statement"]


def test_a_statement_that_takes_longer_is_asked_for_until_it_has_ended(account: Account, tmp_path: Path) -> None:
    account.asked_first = 2
    with _loading(account, tmp_path) as destination:
        assert len(destination.send(batch([item(1)])).delivered) == 1
    assert len(account.ids()) == 1


def test_a_statement_that_does_not_end_is_run_again_later(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deadline.__init__, "__defaults__", (3.5,))
    account.asked_first = 99
    with _loading(account, tmp_path) as destination:
        with pytest.raises(Transient, match="has not ended within the time"):
            destination.send(batch([item(1)]))
        account.asked_first = 0
        # It had loaded the file, and nobody was told.
        assert len(destination.send(batch([item(1)], attempt=2)).delivered) == 1
    assert len(account.ids()) == 1


def test_a_file_that_is_there_is_not_written_again(account: Account, tmp_path: Path) -> None:
    with _loading(account, tmp_path) as destination:
        destination.send(batch([item(1)]))
        before = account._stored(f"{DELIVERY}.parquet")
        destination.send(batch([item(1), item(2)], attempt=2))
        assert account._stored(f"{DELIVERY}.parquet") == before


def test_a_stage_that_leads_elsewhere_is_told_and_nothing_called_delivered(account: Account, tmp_path: Path) -> None:
    with (
        _loading(account, tmp_path, url="s3://stage/elsewhere") as destination,
        pytest.raises(Transient, match="the stage does not have the file"),
    ):
        destination.send(batch([item(1)]))
    assert account.ids() == []


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"table": "absent"}, "answered 422: does not exist or not authorized, 42S02"),
        ({"stage": "other"}, "answered 422: SQL compilation error"),
        ({"user": "somebody"}, "answered 401: JWT"),
        ({"account": "other"}, "answered 401: JWT"),
        ({"url": "s3://no-such-bucket/x"}, "not stored: there is no such bucket"),
    ],
)
def test_what_can_be_mended_is_tried_again(
    account: Account, tmp_path: Path, more: Mapping[str, str], reason: str
) -> None:
    with _loading(account, tmp_path, **more) as destination, pytest.raises(Transient) as told:
        destination.send(batch([item(1)]))
    assert told.value.reason.startswith(reason)


def test_a_table_that_does_not_fit_is_told_without_the_value(account: Account, tmp_path: Path) -> None:
    account.database.execute('ALTER TABLE "EVENTS" ALTER COLUMN SOURCE TYPE INTEGER')
    with _loading(account, tmp_path) as destination, pytest.raises(Transient) as told:
        destination.send(batch([item(1)]))
    assert told.value.reason == "COPY ended as LOAD_FAILED: Numeric value '…' is not recognized"


@pytest.mark.parametrize(
    "answer",
    [
        _said(429, {"message": "Too many requests"}),
        Answer(status=503, body=b"<html>"),
        _said(202, {"statementHandle": "../../elsewhere"}),
        _said(200, {"data": 1}),
        Answer(status=302, headers={"Location": "http://127.0.0.1/"}),
    ],
)
def test_strange_answers_are_asked_for_again(
    account: Account, key: rsa.RSAPrivateKey, tmp_path: Path, answer: Answer
) -> None:
    with receiving(lambda _: answer) as receiver:
        body = _body(f"http://127.0.0.1:{receiver.port}", account)
        destination = opened(body, tmp_path, secrets={"private_key": _pem(key), "secret_access_key": "test"})
        with pytest.raises(Transient):
            destination.send(batch([item(1)]))
    assert len(receiver.got) == 1


def test_the_wrong_key_is_refused(account: Account, tmp_path: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    with receiving(account.answer) as receiver:
        body = _body(f"http://127.0.0.1:{receiver.port}", account)
        destination = opened(body, tmp_path, secrets={"private_key": _pem(other), "secret_access_key": "test"})
        with pytest.raises(Transient, match="answered 401: JWT token is invalid"):
            destination.send(batch([item(1)]))


def test_names_are_quoted_whatever_is_in_them(account: Account, tmp_path: Path) -> None:
    odd = '"x"" (a) FROM @y; DROP TABLE EVENTS; --"'
    assert quoted(f"db.{odd}") == f'"DB".{odd}'
    assert plain_name(odd) == 'x" (a) FROM @y; DROP TABLE EVENTS; --'
    with _loading(account, tmp_path, table=odd) as destination, pytest.raises(Transient, match="does not exist"):
        destination.send(batch([item(1)]))
    assert account.ids() == []
    copied = COPY.fullmatch(account.statements[0]["statement"])
    assert copied is not None
    assert copied["table"] == odd


def test_no_secret_is_in_what_is_shown_or_told(
    account: Account, key: rsa.RSAPrivateKey, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pem = _pem(key)
    with caplog.at_level(logging.DEBUG), _loading(account, tmp_path, table="absent") as destination:
        with pytest.raises(Transient) as told:
            destination.send(batch([item(1)]))
        shown = f"{destination!r} {told.value!r} {caplog.text}"
    secret = [CANARY, *pem.splitlines()[1:-1], Signer(account="a", user="b", key=key).token(now=0).split(".")[0]]
    assert [each for each in secret if each in shown] == []


def test_keys_are_read_as_they_come_and_faults_do_not_show_them(key: rsa.RSAPrivateKey, account: Account) -> None:
    body = _body("https://a.example", account) | {"secret_access_key": CANARY}
    small = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)
    curve = ec.generate_private_key(ec.SECP256R1())
    locked = _pem(key, CANARY.encode())
    for good in ({"private_key": _pem(key)}, {"private_key": _pem(key).replace("\n", "\\n")}):
        assert faults(body | good) == {}
    assert faults(body | {"private_key": locked, "private_key_passphrase": CANARY}) == {}
    for wrong, name in [
        ({"private_key": "no key"}, "private_key"),
        ({"private_key": _pem(small)}, "private_key"),
        ({"private_key": _pem(curve)}, "private_key"),
        ({"private_key": locked}, "private_key_passphrase"),
        ({"private_key": locked, "private_key_passphrase": "wrong"}, "private_key"),
        ({"private_key": _pem(key), "private_key_passphrase": CANARY}, "private_key_passphrase"),
    ]:
        told = faults(body | wrong)
        assert list(told) == [name]
        assert CANARY not in str(told)


def test_every_fault_of_a_declaration_is_told(account: Account) -> None:
    assert set(faults({"type": "snowflake"})) == {"account", "user", "private_key", "table", "stage", "url"}
    wrong = {
        "account": "a/b",
        "account_url": "https://a.example/x",
        "user": "a b",
        "table": "a.b.c.d",
        "stage": "@x",
        "role": 'a"b',
        "private_key": "x",
        "url": "gs://x",
    }
    assert set(faults(_body("https://a.example", account) | wrong | {"secret_access_key": "x"})) == set(wrong)
