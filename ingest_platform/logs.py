"""One structured log for everything that a process says: ours, uvicorn's, Dagster's. What is logged is not known here.

JSON lines for machines, the same events in columns for a person at a terminal. Whatever is bound to the context
(`request_id`, `load_id`) is in every line. Secrets never are, wherever they come from.
"""

import logging
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_SECRET_NAMES = re.compile(r"authorization|token|secret|password|api_key|cookie", re.IGNORECASE)
# A token keeps its public id, so that a line can be traced to a key; a URL keeps everything but the password.
_TOKEN = re.compile(r"\b((?:ing_live|pat)_[0-9a-z]{16})_[0-9A-Za-z-]{8,}")
_WEBHOOK_SECRET = re.compile(r"\b(whsec_)[0-9A-Za-z_-]{8,}")
_URL_PASSWORD = re.compile(r"(://[^\s:/@]+:)[^\s/@]+(@)")
_HIDDEN = "***"
# A line of the log is read by people and shipped by tools; what is longer is a body that somebody logged by mistake.
_VALUE_CHARACTERS_MAX = 8_000

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Libraries that tell at `info` what they do to every request or query.
_QUIET = (
    "alembic",
    "httpx",
    "httpcore",
    "urllib3",
    "botocore",
    "asyncio",
    "watchfiles",
    "multipart",
    "python_multipart",
)


def hide_secrets(text: str) -> str:
    """Take tokens and passwords out of a text.

    >>> hide_secrets("postgresql://ingest:hunter2@db/ingest")
    'postgresql://ingest:***@db/ingest'
    """
    hidden = _WEBHOOK_SECRET.sub(rf"\1{_HIDDEN}", _TOKEN.sub(rf"\1_{_HIDDEN}", text))
    return _URL_PASSWORD.sub(rf"\1{_HIDDEN}\2", hidden)


def _hide(value: object) -> object:
    if isinstance(value, str):
        return hide_secrets(value[:_VALUE_CHARACTERS_MAX])
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, dict):
        given = cast("dict[object, object]", value)
        return {name: _HIDDEN if _SECRET_NAMES.search(str(name)) else _hide(each) for name, each in given.items()}
    if isinstance(value, (list, tuple)):
        return [_hide(each) for each in cast("list[object]", value)]
    return value


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    trace: object = event.get("exception")
    if isinstance(trace, str):
        # What went wrong stands at the end.
        event["exception"] = hide_secrets(trace)[-_VALUE_CHARACTERS_MAX:]
    return cast("EventDict", _hide(event))


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event[name] for name in ("timestamp", "level", "event") if name in event}
    return {**first, **event}


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
    ]


def _ends(*, console: bool, stream: TextIO) -> list[Processor]:
    """Make the last steps: a person sees colours, a machine JSON."""
    if console:
        colours = stream.isatty()
        # The default traceback shows local variables, and so bodies and tokens; the plain one is text by then, so that
        # what an error says is searched for secrets too.
        plain = structlog.dev.plain_traceback
        return [
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.dev.ConsoleRenderer(colors=colours, sort_keys=False, exception_formatter=plain),
        ]
    return [
        structlog.processors.format_exc_info,
        _without_secrets,
        _in_order,
        structlog.processors.JSONRenderer(sort_keys=False, default=str, ensure_ascii=False),
    ]


def configure_logs(*, level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Send everything that this process logs to one stream, standard error if none is given."""
    output = sys.stderr if stream is None else stream
    console = form == "console" or (form == "auto" and output.isatty())
    least, shared, ends = _LEVELS[level], _shared(), _ends(console=console, stream=output)
    structlog.configure(
        processors=[*shared, structlog.processors.StackInfoRenderer(), *ends],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=output),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(least)
    logging.captureWarnings(capture=True)
    _route_libraries(least)


def _route_libraries(least: int) -> None:
    """Let the libraries' loggers speak through the root's handler and no other."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "dagster"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        # Dagster gives its logger a level of its own, which would be heard in spite of the one asked for.
        logger.setLevel(logging.NOTSET)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(least, logging.WARNING))


@contextmanager
def bound(**values: str) -> Generator[None]:
    """Put values into every line that is logged inside.

    Use it as ``with bound(request_id=…):``; threads and tasks started inside inherit them.
    """
    with structlog.contextvars.bound_contextvars(**values):
        yield
