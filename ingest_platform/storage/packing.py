"""How bodies lie in their rows: larger ones compressed. Which bodies lie in rows at all is not decided here."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import zstandard

# A body as it lies in its row, and whether that is packed.
Packed: TypeAlias = tuple[bytes | None, bool]

# From 2 kB a row on, PostgreSQL compresses by itself, and slowly. Its CPU for a job in a group of 32, plain and packed:
# 1 kB 30 and 31 us, 2 kB 41 and 33, 8 kB 90 and 33, 25 kB 252 and 49, 241 kB 3,187 and 94. Packing takes 4 us of ours
# for 1 kB, 30 for 25 kB, 230 for 250 kB; unpacking a third of it.
PACKED_BYTES_MIN = 1_536
_LEVEL = 1


def pack(bodies: Sequence[bytes | None]) -> list[Packed]:
    """Compress the bodies that are large enough for it.

    >>> [packed for _, packed in pack([b"short", None, b"long " * 1000])]
    [False, False, True]
    """
    # Its stubs ask for a list of ByteString, which no Python has any more.
    large: list[Any] = [body for body in bodies if body is not None and len(body) >= PACKED_BYTES_MIN]
    if not large:
        return [(body, False) for body in bodies]
    # All in one call: after each, this thread waits for Python's lock, up to 5 ms where another one is busy.
    packed = iter(zstandard.ZstdCompressor(level=_LEVEL).multi_compress_to_buffer(large))
    return [
        (next(packed).tobytes(), True) if body is not None and len(body) >= PACKED_BYTES_MIN else (body, False)
        for body in bodies
    ]


def unpack(packed: bytes) -> bytes:
    """Give back the body that was packed.

    >>> [(body, _)] = pack([b"long " * 1000])
    >>> unpack(body) == b"long " * 1000
    True
    """
    return zstandard.ZstdDecompressor().decompress(packed)
