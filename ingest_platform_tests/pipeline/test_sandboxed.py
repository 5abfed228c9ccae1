"""The child by itself: it limits itself first, then speaks only in messages."""

import resource
import subprocess
import sys

import msgspec

from ingest_platform.pipeline.messages import LENGTH_BYTES, Ready, Reply

ADDRESS_BYTES = 4 << 30


def test_the_child_says_that_it_is_ready_and_ends_with_its_input() -> None:
    command = [sys.executable, "-m", "ingest_platform.pipeline.sandboxed", str(ADDRESS_BYTES)]
    ended = subprocess.run(command, input=b"", capture_output=True, check=True)
    said, length = ended.stdout[LENGTH_BYTES:], int.from_bytes(ended.stdout[:LENGTH_BYTES])
    assert len(said) == length
    assert isinstance(msgspec.msgpack.decode(said, type=Reply), Ready)
    assert ended.stderr == b""


def test_the_child_limits_itself_before_it_reads_anything() -> None:
    command = [sys.executable, "-m", "ingest_platform.pipeline.sandboxed", str(ADDRESS_BYTES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.read(LENGTH_BYTES)
        assert resource.prlimit(child.pid, resource.RLIMIT_AS) == (ADDRESS_BYTES, ADDRESS_BYTES)
        assert resource.prlimit(child.pid, resource.RLIMIT_CORE) == (0, 0)
        child.stdin.close()
