"""Snowflake: a Parquet file in the bucket of an external stage, then COPY by Snowflake's SQL API.

A file's name and content stay the same, and Snowflake remembers for 64 days which files of a stage a table has loaded:
so a repeated COPY loads nothing twice. Never run against Snowflake itself; the protocol is told by
https://docs.snowflake.com/en/developer-guide/sql-api/reference.
"""

import base64
import hashlib
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, cast

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from ingest_platform.feeds.stream_events.destinations import calling, objects
from ingest_platform.feeds.stream_events.destinations.calling import Answer, Caller, read_url, text_at
from ingest_platform.feeds.stream_events.destinations.connecting import Deadline
from ingest_platform.feeds.stream_events.destinations.destination import (
    MIB,
    Batch,
    BatchRule,
    Body,
    DeclaredField,
    DestinationFault,
    DestinationType,
    Sent,
    Site,
    Transient,
    all_delivered,
    batch_fields,
    batch_rule,
)
from ingest_platform.feeds.stream_events.destinations.s3 import BUCKET_FIELDS, Bucket, check_bucket, open_bucket

# A COPY wakes a warehouse, which is paid for by the minute.
RULE = BatchRule(events_max=50_000, bytes_max=32 * MIB, linger_seconds=60.0, at_once=1)
STATEMENTS_PATH = "/api/v2/statements"
RSA_BITS_MIN = 2_048
TOKEN_SECONDS = 300
# Left of an attempt for the answer, once Snowflake has broken a statement off.
_ANSWER_SECONDS = 2.0
_ASKING_SECONDS_MIN, _ASKING_SECONDS_MAX = 0.2, 2.0
_ACCEPTED = 202
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,100}(?:\.[A-Za-z0-9-]{1,60}){0,3}")
_NAME = r'(?:[A-Za-z_][A-Za-z0-9_$]{0,254}|"(?:[^"\x00-\x1f]|""){1,255}")'
_ONE_NAME = re.compile(_NAME)
_NAMES = re.compile(rf"{_NAME}(?:\.{_NAME}){{0,2}}")
_HANDLE = re.compile(r"[0-9A-Za-z-]{1,100}")
_QUOTED_VALUE = re.compile(r"'[^']*'")
_ENCODER = msgspec.json.Encoder()
_NAMED = ("database", "schema", "warehouse", "role")


class _WrongKey(Exception):
    """A private key that can't be read; `field` is what is wrong."""

    def __init__(self, name: str, message: str) -> None:
        self.fault = DestinationFault(path=name, message=message)
        super().__init__(message)


def _read_key(body: Body) -> rsa.RSAPrivateKey:
    """Read the private key. Raises _WrongKey, without a word of it."""
    passphrase = body.get("private_key_passphrase")
    # Variables of an environment often have their line breaks written out.
    pem = str(body["private_key"]).replace("\\n", "\n").encode()
    try:
        key = load_pem_private_key(pem, password=str(passphrase).encode() if passphrase is not None else None)
    except TypeError:
        needed = "is missing: the key is encrypted" if passphrase is None else "is not needed: the key is not encrypted"
        raise _WrongKey("private_key_passphrase", needed) from None
    except (ValueError, UnsupportedAlgorithm):
        wrong = "must be a private key as PEM" + ("" if passphrase is None else ", of this passphrase")
        raise _WrongKey("private_key", wrong) from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < RSA_BITS_MIN:
        raise _WrongKey("private_key", f"must be an RSA key of {RSA_BITS_MIN} bits or more")
    return key


def _check(body: Body) -> list[DestinationFault]:
    faults = check_bucket(body)
    if _ACCOUNT.fullmatch(str(body["account"])) is None:
        allowed = "must be an account's name, such as organization-account or locator.region"
        faults.append(DestinationFault(path="account", message=allowed))
    if "account_url" in body:
        faults += read_url(body, "account_url", path_allowed=False)
    allowed = 'letters, digits, “_” and “$”, or anything in double quotes; as in DB.SCHEMA."odd name"'
    for name in ("table", "stage"):
        if _NAMES.fullmatch(str(body[name])) is None:
            faults.append(DestinationFault(path=name, message=f"must be one to three names of {allowed}"))
    for name in ("user", *_NAMED):
        if name in body and _ONE_NAME.fullmatch(str(body[name])) is None:
            faults.append(DestinationFault(path=name, message=f"must be a name of {allowed}"))
    try:
        _read_key(body)
    except _WrongKey as wrong:
        faults.append(wrong.fault)
    return faults


def plain_name(name: str) -> str:
    """Write a name as Snowflake keeps it: in capitals unless it was quoted.

    >>> plain_name("events"), plain_name('"my ""events"')
    ('EVENTS', 'my "events')
    """
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.upper()


def quoted(names: str) -> str:
    """Write names so that each is read as a name, whatever is in it.

    >>> quoted('db."my ""events"')
    '"DB"."my ""events"'
    """
    return ".".join('"' + plain_name(name).replace('"', '""') + '"' for name in _ONE_NAME.findall(names))


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(slots=True, kw_only=True)
class Signer:
    """Signs in as a user by his key."""

    account: str
    user: str
    key: rsa.RSAPrivateKey = field(repr=False)

    def token(self, *, now: int) -> str:
        """Make a token (JWT, RS256) as Snowflake asks for it."""
        # What stands behind the first dot of an account is its region, which is no part of its name.
        who = f"{self.account.partition('.')[0].upper()}.{plain_name(self.user)}"
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        print_ = base64.b64encode(hashlib.sha256(public).digest()).decode("ascii")
        claims = {"iss": f"{who}.SHA256:{print_}", "sub": who, "iat": now, "exp": now + TOKEN_SECONDS}
        said = b".".join(_base64url(_ENCODER.encode(part)) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        signature = self.key.sign(said, padding.PKCS1v15(), hashes.SHA256())
        return (said + b"." + _base64url(signature)).decode("ascii")


def _base64url(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


@dataclass(slots=True, kw_only=True)
class Snowflake:
    """One table."""

    type: ClassVar[str] = "snowflake"
    batch: BatchRule
    url: str
    signer: Signer
    table: str
    stage: str
    # Where statements run: database, schema, warehouse, role.
    session: Mapping[str, str]
    bucket: Bucket
    caller: Caller

    def send(self, batch: Batch) -> Sent:
        """Put a file into the stage, and load it."""
        deadline = Deadline()
        (file,) = objects.divide(batch, form=objects.PARQUET, partition=())
        self.bucket.put(file.path, objects.encode(file.items, batch, form=objects.PARQUET), once=True)
        copied = self._run(
            f"COPY INTO {self.table} FROM @{self.stage} FILES = ({_literal(file.path)})"
            " FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE)"
            " MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT",
            deadline,
        )
        statuses = {str(row.get("status", "")).upper() for row in copied if row.get("file") is not None}
        if not statuses:
            self._require_staged(file.path, deadline)
        elif statuses != {"LOADED"}:
            errors = [_QUOTED_VALUE.sub("'…'", text_at(row, "first_error")) for row in copied]
            raise Transient(f"COPY ended as {', '.join(sorted(statuses))}: {' '.join(errors)}".rstrip(": "))
        return all_delivered(batch)

    def _require_staged(self, path: str, deadline: Deadline) -> None:
        """Make sure that a file of which nothing was loaded is one that was loaded before, not one that is not seen."""
        if not self._run(f"LIST @{self.stage}/{path}", deadline):
            raise Transient("the stage does not have the file: url must be the place where the stage leads")

    def _run(self, statement: str, deadline: Deadline) -> list[dict[str, object]]:
        """Run a statement to its end, and give its rows; Snowflake breaks it off when the attempt is over."""
        seconds = int(deadline.left - _ANSWER_SECONDS)
        if seconds < 1:
            raise Transient("no time was left to load the file")
        body = _ENCODER.encode({"statement": statement, "timeout": seconds, **self.session})
        path = f"{STATEMENTS_PATH}?requestId={uuid.uuid4()}"
        answer, pause = self._call("POST", path, body, deadline), _ASKING_SECONDS_MIN
        while answer.status == _ACCEPTED:
            handle = answer.object().get("statementHandle")
            # The place that the answer names is not gone to: the handle is enough.
            if not isinstance(handle, str) or _HANDLE.fullmatch(handle) is None:
                raise Transient("answered 202 without a handle of the statement")
            if deadline.left < pause:
                raise Transient("the statement has not ended within the time")
            time.sleep(pause)
            pause = min(pause * 2, _ASKING_SECONDS_MAX)
            answer = self._call("GET", f"{STATEMENTS_PATH}/{handle}", b"", deadline)
        if not answer.good:
            raise _failure(answer)
        return _rows(answer)

    def _call(self, method: str, path: str, body: bytes, deadline: Deadline) -> Answer:
        headers = {
            "Authorization": f"Bearer {self.signer.token(now=int(time.time()))}",
            "X-Snowflake-Authorization-Token-Type": "KEYPAIR_JWT",
            "Content-Type": "application/json",
            "Accept": "application/json",
        }
        return self.caller.call(method, self.url + path, headers=headers, body=body, deadline=deadline)

    def close(self) -> None:
        """Close the connections."""
        self.caller.close()


def _rows(answer: Answer) -> list[dict[str, object]]:
    """Read rows by the names of their columns, in lower case."""
    said = answer.object()
    described, data = said.get("resultSetMetaData"), said.get("data")
    types = cast("dict[str, object]", described).get("rowType") if isinstance(described, dict) else None
    if not isinstance(types, list) or not isinstance(data, list):
        raise Transient("answered with no rows")
    names = [text_at(cast("dict[str, object]", each), "name").lower() for each in cast("list[object]", types)]
    lists = [cast("list[object]", each) for each in cast("list[object]", data) if isinstance(each, list)]
    return [dict(zip(names, values, strict=False)) for values in lists]


def _failure(answer: Answer) -> Transient:
    """Say why a statement was not run: no event is at fault, so that all of it can be mended."""
    try:
        said = answer.object()
    except Transient:
        said = dict[str, object]()
    words = ", ".join(word for word in (text_at(said, "message"), text_at(said, "sqlState")) if word)
    reason = f"answered {answer.status}" + (f": {words}" if words else "")
    return Transient(reason, retry_after_seconds=answer.retry_after_seconds)


def _open(body: Body, site: Site) -> Snowflake:
    account = str(body["account"])
    # Names of hosts have no underscores.
    url = str(body.get("account_url", f"https://{account.replace('_', '-').lower()}.snowflakecomputing.com"))
    return Snowflake(
        batch=batch_rule(body, RULE),
        url=url.rstrip("/"),
        signer=Signer(account=account, user=str(body["user"]), key=_read_key(body)),
        table=quoted(str(body["table"])),
        stage=quoted(str(body["stage"])),
        session={name: plain_name(str(body[name])) for name in _NAMED if name in body},
        bucket=open_bucket(body, site.outbound),
        caller=Caller(site.outbound, ca=cast("str | None", body.get("ca"))),
    )


KIND = DestinationType(
    type=Snowflake.type,
    fields=(
        DeclaredField(name="account", meaning="Account, `organization-account` or `locator.region`.", required=True),
        DeclaredField(name="account_url", meaning="Its address, if it is not `<account>.snowflakecomputing.com`."),
        DeclaredField(name="user", meaning="User who signs in by a key.", required=True),
        DeclaredField(name="private_key", meaning="The user's RSA key (PEM).", required=True, secret=True),
        DeclaredField(name="private_key_passphrase", meaning="What the key is encrypted with.", secret=True),
        DeclaredField(name="role", meaning="Role; absent: the user's."),
        DeclaredField(name="warehouse", meaning="Warehouse; absent: the user's."),
        DeclaredField(name="database", meaning="Database of names that have none."),
        DeclaredField(name="schema", meaning="Schema of names that have none."),
        DeclaredField(name="table", meaning="Table that is loaded.", required=True),
        DeclaredField(name="stage", meaning="External stage, which leads to `url`.", required=True),
        *BUCKET_FIELDS,
        calling.CA_FIELD,
        *batch_fields(RULE),
    ),
    check=_check,
    opened=_open,
)
