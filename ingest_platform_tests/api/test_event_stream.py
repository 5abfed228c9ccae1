"""Server-sent events: an event is a name and a line of JSON, and a client that hung up is noticed."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from ingest_platform.api.event_stream import hung_up, server_event


@given(st.text())
def test_no_text_breaks_out_of_its_line(text: str) -> None:
    data = {"text": text.encode("utf-8", "replace").decode()}
    head, line, *rest = server_event("told", data).split(b"\n")
    assert (head, rest) == (b"event: told", [b"", b""])
    assert line.startswith(b'data: {"text":')


def test_whatever_else_comes_it_waits_for_the_disconnect() -> None:
    messages: list[Message] = [{"type": "http.request"}, {"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> Message:
        return messages.pop(0)

    asyncio.run(hung_up(receive))
    assert messages == []
