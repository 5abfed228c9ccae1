"""Every setting of the platform: its name, environment variable, default and meaning, declared once.

This is the only module that reads the environment. Flags win over the environment, the environment over `ingest.toml`,
that over the default. What a setting does is not known here: everybody else takes plain values.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from enum import StrEnum, unique
from pathlib import Path
from typing import Never, TypeVar, cast

from ingest_platform.domain.errors import IngestError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SETTINGS_FILE = "ingest.toml"
ENVIRONMENT_PREFIX = "INGEST_"

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": KIB, "mi": MIB, "gi": GIB}
_SIZE = re.compile(r"(\d+)\s*([a-z]*?)b?", re.IGNORECASE)
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})

Value = TypeVar("Value")


class WrongSetting(IngestError):
    """A setting that is unknown or has a value that it cannot have."""


@unique
class ValueKind(StrEnum):
    """How the text of a setting is read."""

    TEXT = "text"
    PATH = "path"
    NUMBER = "number"
    SIZE = "bytes"
    SECONDS = "seconds"
    SWITCH = "yes/no"
    CHOICE = "one of"


@unique
class ValueSource(StrEnum):
    """Where the value of a setting came from."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = SETTINGS_FILE
    DEFAULT = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is known of a setting besides its value."""

    kind: ValueKind
    meaning: str
    environment: str = ""
    secret: bool = False
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


def _declare(default: Value, declared: Declared) -> Value:
    """Make a dataclass field that carries its declaration."""
    return field(default=default, metadata={"declared": declared})


def _text(default: str, meaning: str, *, environment: str = "", choices: tuple[str, ...] = ()) -> str:
    kind = ValueKind.CHOICE if choices else ValueKind.TEXT
    return _declare(default, Declared(kind=kind, meaning=meaning, environment=environment, choices=choices))


def _absent(meaning: str, *, environment: str = "", secret: bool = False) -> str | None:
    nothing: str | None = None
    return _declare(nothing, Declared(kind=ValueKind.TEXT, meaning=meaning, environment=environment, secret=secret))


def _path(default: str, meaning: str) -> Path:
    return _declare(Path(default), Declared(kind=ValueKind.PATH, meaning=meaning))


def _number(default: int, meaning: str, *, least: int = 0, most: int | None = None) -> int:
    return _declare(default, Declared(kind=ValueKind.NUMBER, meaning=meaning, least=least, most=most))


def _size(default: int, meaning: str, *, least: int = 0) -> int:
    return _declare(default, Declared(kind=ValueKind.SIZE, meaning=meaning, least=least))


def _seconds(default: float, meaning: str, *, least: float = 0.0) -> float:
    return _declare(default, Declared(kind=ValueKind.SECONDS, meaning=meaning, least=least))


def _switch(meaning: str, *, default: bool) -> bool:
    return _declare(default, Declared(kind=ValueKind.SWITCH, meaning=meaning))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one process. A field's environment variable is INGEST_ and its name in capitals."""

    data_dir: Path = _path("data", "Folder of everything written at run time.")  # noqa: RUF009 -- a frozen field
    database_url: str | None = _absent(
        "PostgreSQL to use, postgresql://user:password@host:port/name; absent: the embedded one in the data folder.",
        secret=True,
    )
    storage_url: str | None = _absent("Object store of blobs and lake, s3://bucket/prefix; absent: the data folder.")
    s3_endpoint: str | None = _absent("Endpoint of an S3-compatible store, http(s)://host:port; absent: AWS.")
    s3_region: str = _text("us-east-1", "Region of the object store.")
    s3_access_key_id: str | None = _absent("Access key of the object store; absent: what AWS's own chain finds.")
    s3_secret_access_key: str | None = _absent("Secret of the object store's access key.", secret=True)

    api_host: str = _text("127.0.0.1", "Address that the API and Dagster's UI listen on.")
    api_port: int = _number(8000, "Port of the API.", least=1, most=65535)
    ui_port: int = _number(3000, "Port of Dagster's UI.", least=1, most=65535)
    ui: bool = _switch("Whether `ingest up` starts Dagster's UI and daemon.", default=True)
    workers: int = _number(1, "Workers that `ingest up` starts.", least=1, most=64)

    body_bytes_max: int = _size(16 * MIB, "Largest JSON body of a request, also once decompressed.", least=KIB)
    upload_bytes_max: int = _size(128 * MIB, "Largest streamed or uploaded file, also once decompressed.", least=KIB)
    file_bytes_max: int = _size(4 * GIB, "Largest dropped file.", least=KIB)
    client_requests_per_minute_max: int = _number(0, "Requests a minute from one client address; 0: no limit.")
    proxies: str = _text("", "Addresses of proxies, with commas, whose X-Forwarded-For is believed.")
    client_idle_seconds_max: float = _seconds(30.0, "A client that sends nothing for so long is closed.", least=1)

    load_bytes_max: int = _size(16 * MIB, "Landed bytes that one load takes together.", least=KIB)
    load_submissions_max: int = _number(2000, "Submissions that one load takes together.", least=1)
    linger_seconds: float = _seconds(1.0, "How long a run waits for more work before it ends.")
    run_seconds_max: float = _seconds(60.0, "Age at which a run ends and the next one goes on.", least=1)
    lease_seconds: float = _seconds(15.0, "How long a silent worker keeps what it has in hand.", least=2)
    attempts_max: int = _number(3, "Attempts at a submission before its job is failed.", least=1, most=20)
    parse_seconds_max: float = _seconds(600.0, "Time that the parser of one file may take.", least=1)
    parse_memory_bytes_max: int = _size(4 * GIB, "Address space that the parser of one file may take.", least=2 * GIB)

    database_connections_max: int = _number(8, "Connections to PostgreSQL of one process.", least=2, most=100)
    lake_memory_bytes: int = _size(1 * GIB, "Memory of DuckDB in one process.", least=128 * MIB)
    lake_threads: int = _number(2, "Threads of DuckDB in one process.", least=1, most=256)
    disk_free_bytes_min: int = _size(512 * MIB, "Free disk below which nothing is accepted (503).")
    archive_days: int = _number(30, "Days that archived submissions are kept, and can be worked again.", least=1)
    history_days: int = _number(7, "Days that Dagster's finished runs are kept.", least=1)

    url: str | None = _absent("Address of an API that `ingest load` sends files to; absent: the data folder's own.")
    token: str | None = _absent("API key that `ingest load` sends files with.", secret=True)

    webhook_networks: str = _text(
        "",
        "Networks, with commas, that webhooks and destinations may lead to although not public: 10.1.0.0/16,127.0.0.1.",
    )
    webhook_http: bool = _switch(
        "Whether webhooks and destinations may lead to http:// (syslog: tcp://), not encrypted.", default=False
    )
    webhook_attempts_max: int = _number(15, "Attempts at a delivery before it is given up.", least=1, most=50)
    webhook_pause_seconds: float = _seconds(
        5.0, "Longest pause after the first attempt at a delivery; it doubles with each, up to 6 hours.", least=0.01
    )

    crashpoint: str | None = _absent("Point of the path at which this process dies or pauses; for crash tests only.")

    log_level: str = _text("info", "Least level that is logged.", choices=("debug", "info", "warning", "error"))
    log_format: str = _text(
        "auto", "Form of the log: auto is console on a terminal, else json.", choices=("auto", "json", "console")
    )
    dagster_home: str | None = _absent(
        "Folder of dagster.yaml; absent: the repository root, or one made in the data folder.",
        environment="DAGSTER_HOME",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedSetting:
    """A setting with its value and where that came from."""

    name: str
    value: object
    default: object
    source: ValueSource
    declared: Declared
    environment: str

    @property
    def shown(self) -> str:
        """Write the value for people; a secret's never."""
        if self.value is None:
            return "-"
        if self.declared.secret:
            return "(set)"
        return show_value(self.value, self.declared.kind)


def show_value(value: object, kind: ValueKind) -> str:
    """Write a value as it may be given again.

    >>> show_value(16777216, ValueKind.SIZE)
    '16MiB'
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind is ValueKind.SIZE and isinstance(value, int) and value:
        for unit, factor in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if value % factor == 0:
                return f"{value // factor}{unit}"
    return "-" if value is None else str(value)


def _read_size(text: str) -> int:
    found = _SIZE.fullmatch(text.strip())
    if found is None or found[2].lower() not in _UNITS:
        message = "is no number of bytes; write 16777216 or 16MiB"
        raise ValueError(message)
    return int(found[1]) * _UNITS[found[2].lower()]


def _read_switch(text: str) -> bool:
    if text.lower() not in _TRUE | _FALSE:
        message = "is neither yes nor no"
        raise ValueError(message)
    return text.lower() in _TRUE


def _read_number(text: str, kind: ValueKind) -> float:
    try:
        return int(text) if kind is ValueKind.NUMBER else float(text)
    except ValueError:
        message = "is no whole number" if kind is ValueKind.NUMBER else "is no number of seconds"
        raise ValueError(message) from None


def _check_range(number: float, declared: Declared) -> None:
    if declared.least is not None and not number >= declared.least:
        message = f"is below the least, {show_value(declared.least, declared.kind)}"
        raise ValueError(message)
    if declared.most is not None and number > declared.most:
        message = f"is above the most, {show_value(declared.most, declared.kind)}"
        raise ValueError(message)


def _read_value(text: str, declared: Declared) -> object:
    """Read one value; raises ValueError with the second half of a sentence."""
    match declared.kind:
        case ValueKind.TEXT:
            return text or None
        case ValueKind.PATH:
            return Path(text).expanduser()
        case ValueKind.SWITCH:
            return _read_switch(text)
        case ValueKind.CHOICE:
            if text not in declared.choices:
                message = f"is not one of {', '.join(declared.choices)}"
                raise ValueError(message)
            return text
        case ValueKind.SIZE | ValueKind.NUMBER | ValueKind.SECONDS:
            number = _read_size(text) if declared.kind is ValueKind.SIZE else _read_number(text, declared.kind)
            _check_range(number, declared)
            return number


def _declared(of: Field[object]) -> Declared:
    return cast("Declared", of.metadata["declared"])


def _environment_name(of: Field[object]) -> str:
    return _declared(of).environment or ENVIRONMENT_PREFIX + of.name.upper()


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        message = f"{path} cannot be read: {error}"
        raise WrongSetting(message) from error


def _as_text(value: object) -> str:
    return show_value(value, ValueKind.TEXT) if isinstance(value, bool) else str(value)


def _check_names(given: Mapping[str, object], *, where: str) -> None:
    known = {one.name for one in fields(Settings)}
    unknown = sorted(set(given) - known)
    if unknown:
        message = f"{where}: unknown setting {', '.join(unknown)}. `ingest settings` lists the {len(known)} there are."
        raise WrongSetting(message)


def _resolve_one(
    of: Field[object], *, flags: Mapping[str, object], environment: Mapping[str, str], file: Mapping[str, object]
) -> ResolvedSetting:
    declared, name, variable = _declared(of), of.name, _environment_name(of)
    if name in flags:
        source, given, where = ValueSource.FLAG, flags[name], f"--{name.replace('_', '-')}"
    elif environment.get(variable, "") != "":
        source, given, where = ValueSource.ENVIRONMENT, environment[variable], variable
    elif name in file:
        source, given, where = ValueSource.FILE, file[name], f"{SETTINGS_FILE}: {name}"
    else:
        source, given, where = ValueSource.DEFAULT, of.default, name
    try:
        value = given if source is ValueSource.DEFAULT else _read_value(_as_text(given), declared)
    except ValueError as error:
        said = "the value" if declared.secret else f"“{given}”"
        message = f"{where}: {said} {error}. {declared.meaning}"
        raise WrongSetting(message) from None
    if isinstance(value, Path):
        value = value.absolute()
    return ResolvedSetting(
        name=name, value=value, default=of.default, source=source, declared=declared, environment=variable
    )


def resolve_settings(
    overrides: Mapping[str, object] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> tuple[ResolvedSetting, ...]:
    """Find the value of every setting and where it came from; an override that is None counts as not given."""
    flags = {name: value for name, value in (overrides or {}).items() if value is not None}
    written = _read_file(file or Path(SETTINGS_FILE))
    _check_names(flags, where="flags")
    _check_names(written, where=SETTINGS_FILE)
    around = os.environ if environment is None else environment
    return tuple(_resolve_one(one, flags=flags, environment=around, file=written) for one in fields(Settings))


def collect_settings(resolved: Iterable[ResolvedSetting]) -> Settings:
    """Put resolved values into one record."""
    values = cast("dict[str, Never]", {one.name: one.value for one in resolved})
    return Settings(**values)


def load_settings(overrides: Mapping[str, object] | None = None, /, **named: object) -> Settings:
    """Read the settings of this process; what is given here counts as flags."""
    return collect_settings(resolve_settings({**(overrides or {}), **named}))


def read_variable(name: str, environment: Mapping[str, str] | None = None) -> str | None:
    """Read a variable that is no setting, but was named by whoever declared something; None if it is empty."""
    around = os.environ if environment is None else environment
    return around.get(name) or None


def unknown_variables(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """List the variables that look like settings but are none: most often misspelt."""
    around = os.environ if environment is None else environment
    known = {_environment_name(one) for one in fields(Settings)}
    return tuple(sorted(name for name in around if name.startswith(ENVIRONMENT_PREFIX) and name not in known))


def adopt(settings: Settings) -> None:
    """Make these the settings of whatever this process loads by name (Dagster's instance) or starts."""
    environment = child_environment(settings)
    os.environ.clear()
    os.environ.update(environment)


def child_environment(settings: Settings) -> dict[str, str]:
    """Make the environment of a process that shall have exactly these settings."""
    environment = dict(os.environ)
    for one in fields(Settings):
        value: object = getattr(settings, one.name)
        if value is None:
            environment.pop(_environment_name(one), None)
        else:
            environment[_environment_name(one)] = show_value(value, ValueKind.TEXT)
    return environment
