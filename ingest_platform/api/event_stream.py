"""Server-sent events: how one is written, what keeps a stream of them open, and how a client that hung up is noticed.

What is sent, and for how long, is its route's business.
"""

import msgspec
from starlette.types import Receive

EVENT_STREAM = "text/event-stream"
# Proxies cut connections that are silent for half a minute.
HEARTBEAT_SECONDS = 15.0
# A client that still waits then asks again, as it does after any break of the connection.
STREAM_SECONDS_MAX = 3_600.0
_encode = msgspec.json.encode


def server_event(name: str, data: object) -> bytes:
    r"""Write one event, its data as JSON, which has no line breaks.

    >>> server_event("job", {"id": "job_1"})
    b'event: job\ndata: {"id":"job_1"}\n\n'
    """
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(data))


async def hung_up(receive: Receive) -> None:
    """Wait until the client has hung up, or has its whole answer."""
    while (await receive())["type"] != "http.disconnect":
        pass
