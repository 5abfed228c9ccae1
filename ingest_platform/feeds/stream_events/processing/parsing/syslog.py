"""Syslog messages: of RFC 5424, and of RFC 3164 as they are really sent and written into files.

Members: `facility` and `severity` (names), `timestamp` (as written), `hostname`, `appname`, `procid`, `msgid`,
`structured_data` (objects of texts by their id) and `message`, all texts; what is not given, or is `-`, is left out.
Of RFC 3164 the priority may be missing (files have none) if there is a time, and the time and host if there is a
priority; the time may be one of RFC 3339. A text with neither is no syslog.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from ingest_platform.feeds.stream_events.processing.parsing.members import Lifted, collected
from ingest_platform.feeds.stream_events.processing.paths import Document

FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("ntp", "audit", "alert", "clock"),
    *(f"local{number}" for number in range(8)),
)
SEVERITIES = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
NIL = "-"

_NAME = r'[^\s=\]"]+'
_VALUE = r'(?:[^"\\\]]|\\.)*'
_PARAMS = rf'(?: {_NAME}="{_VALUE}")*'
_NEW = (
    r"(?s)^<(?P<pri>[0-9]{1,3})>1 (?P<timestamp>\S+) (?P<hostname>\S+) (?P<appname>\S+) (?P<procid>\S+) "
    rf"(?P<msgid>\S+) (?P<data>-|(?:\[{_NAME}{_PARAMS}\])+)(?: \x{{FEFF}}?(?P<message>.*))?$"
)
_TIME = (
    r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ 0-9]?[0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:?[0-9]{2})"
)
_OLD = (
    # What ends with a colon is no host, but the name of a program.
    rf"(?s)^(?:<(?P<pri>[0-9]{{1,3}})>)?(?:(?P<timestamp>{_TIME})(?: (?P<hostname>\S*[^\s:]))?(?: |$))?"
    r"(?:(?P<appname>[A-Za-z0-9_./@%()+-]+)(?:\[(?P<procid>[^\s\]]*)\])?:(?: |$))?(?P<message>.*)$"
)
_NAMED = ("timestamp", "hostname", "appname", "procid", "message")
_elements = re.compile(rf"\[({_NAME})({_PARAMS})\]", re.DOTALL).findall
_params = re.compile(rf' ({_NAME})="({_VALUE})"', re.DOTALL).findall
_ESCAPE = re.compile(r'\\(["\\\]])')
# By the number as it must be written: without zeros in front of it.
_PRIORITIES: Mapping[str | None, Mapping[str, str]] = {
    None: {},
    **{
        str(8 * first + second): {"facility": facility, "severity": severity}
        for first, facility in enumerate(FACILITIES)
        for second, severity in enumerate(SEVERITIES)
    },
}


def lift(texts: Sequence[str]) -> Iterator[Lifted]:
    """Take syslog messages apart; None for what is none."""
    column = pl.Series("text", texts, dtype=pl.String)
    is_new = column.str.contains("^<[0-9]{1,3}>1 ")
    new, old = iter(_lift_new(column.filter(is_new))), iter(_lift_old(column.filter(~is_new)))
    return (next(new if each else old) for each in is_new.to_list())


def _lift_new(column: pl.Series) -> Iterator[Lifted]:
    if column.is_empty():
        return
    groups = column.str.extract_groups(_NEW).struct.unnest().select("pri", "data", "msgid", *_NAMED)
    for pri, data, msgid, *named in groups.rows():
        known = None if pri is None else _PRIORITIES.get(pri)
        if known is None:
            yield None
            continue
        members: Document = {**known, **_given(named)}
        if msgid != NIL:
            members["msgid"] = msgid
        if data != NIL:
            members["structured_data"] = {name: _values(params) for name, params in _elements(data)}
        yield members


def _values(params: str) -> Document:
    pairs: list[tuple[str, str]] = _params(params)
    if "\\" in params:
        pairs = [(name, _ESCAPE.sub(r"\1", value)) for name, value in pairs]
    return collected(pairs)


def _lift_old(column: pl.Series) -> Iterator[Lifted]:
    if column.is_empty():
        return
    groups = column.str.extract_groups(_OLD).struct.unnest().select("pri", *_NAMED)
    for pri, *named in groups.rows():
        known = _PRIORITIES.get(pri)
        yield None if known is None or (pri is None and named[0] is None) else {**known, **_given(named)}


def _given(named: Sequence[str | None]) -> dict[str, str]:
    return {name: value for name, value in zip(_NAMED, named, strict=True) if value and value != NIL}
