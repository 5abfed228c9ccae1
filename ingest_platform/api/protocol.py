"""The HTTP/1.1 connection: uvicorn's, with what it lacks against slow, huge and smuggled requests.

What a request means is not known here.
"""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from ingest_platform.api.problems import COMMON, Family
from ingest_platform.api.request_ids import REQUEST_ID_PREFIX
from ingest_platform.api.service import HttpService
from ingest_platform.domain.errors import Malformed, Refusal, TooSlow
from ingest_platform.domain.ids import new_id
from ingest_platform.pipeline.grouped import unavailable

# A connection that has not sent its headers by then is closed (promise 23 allows 35 s).
HEAD_SECONDS_MAX = 15.0
# Request line and headers together; ours have a kilobyte.
HEAD_BYTES_MAX = 64 * 1024
# A client that does not read its answer for this long is gone or means harm.
WRITE_STALLED_SECONDS_MAX = 30.0
# Each costs about 20 kB and a file handle; beyond this many they are refused at once.
CONNECTIONS_MAX = 4_000


class HeadTooLarge(Refusal):
    """The request line and headers are larger than any sane request's."""

    status, code = 431, "headers_too_large"


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._in_head = True
        self._head_bytes = 0
        self._refusal: Refusal | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            self._refuse(unavailable("Nothing was taken: there are too many connections."))
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._end_timer("_head_timer")
        self._end_timer("_write_timer")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse a head that does not end."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(HeadTooLarge(f"The request line and headers are larger than {HEAD_BYTES_MAX} bytes."))

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_head = True
        self._head_bytes = 0
        self._await_head()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Refuse a request whose length can be read in two ways; else begin to answer it."""
        self._in_head = False
        self._end_timer("_head_timer")
        names = [name for name, _ in self.headers]
        lengths = names.count(b"content-length")
        codings = names.count(b"transfer-encoding")
        if lengths + codings > 1:
            self._refusal = Malformed(
                "A request has one Content-Length or one Transfer-Encoding, not both.", code="ambiguous_length"
            )
            raise ValueError(self._refusal.code)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Give the rest of a request that was answered early as long as a head."""
        cycle = self._present()
        unfinished = cycle is not None and cycle.more_body
        super().on_response_complete()
        if unfinished and not self.transport.is_closing():
            self._await_head()

    def on_message_complete(self) -> None:
        """End a request's body."""
        super().on_message_complete()
        self._end_timer("_head_timer")
        cycle = self._present()
        if cycle is not None and cycle.response_complete:
            # The answer went before the end of the body: only now does the connection stand idle.
            cycle.more_body = False
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(WRITE_STALLED_SECONDS_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on writing."""
        self._end_timer("_write_timer")
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the same envelope as everything else."""
        if self.transport.is_closing():
            return
        self._refuse(self._refusal or Malformed(msg, code="invalid_http"))

    def _present(self) -> RequestResponseCycle | None:
        # Uvicorn declares it as always there, but there is none before the first head.
        return self.cycle

    def _await_head(self) -> None:
        self._end_timer("_head_timer")
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self._head_overdue)

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        cycle = self._present()
        if cycle is not None and not cycle.response_complete:
            # An earlier request of this connection is being answered; it shall have its answer.
            self._await_head()
        elif self._head_bytes and self._in_head:
            self._refuse(TooSlow(f"The headers were not complete after {HEAD_SECONDS_MAX:.0f} seconds."))
        else:
            self.transport.close()

    def _end_timer(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _refuse(self, refusal: Refusal) -> None:
        request_id = new_id(REQUEST_ID_PREFIX)
        family = self._family()
        reply = family.problem(refusal, request_id)
        headers = {
            "content-type": reply.content_type,
            "content-length": str(len(reply.body)),
            "connection": "close",
            **dict.fromkeys(family.id_headers, request_id),
            **reply.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[reply.status] + lines.encode("latin-1") + b"\r\n" + reply.body)
        self.transport.close()

    def _family(self) -> Family:
        app = self.config.app
        # The path is known once the request line was read; a broken one is nobody's.
        url: bytes = getattr(self, "url", b"")
        return app.family(url.decode("latin-1")) if isinstance(app, HttpService) else COMMON
