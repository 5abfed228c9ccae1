"""Bytes too large for a row, by key: in a local folder or an object store. What the bytes mean is not known here.

A blob is visible whole or not at all, and durable once its writer has committed. Its bytes never change; a key may be
written again by whoever repeats a step after a crash.
"""

import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self, cast
from urllib.parse import urlsplit

from ingest_platform.domain.errors import Fault, Unavailable
from ingest_platform.storage import durable

# Keys are ours (prefixes, ids, days), never a client's words but percent-encoded ones, so their alphabet is small.
_KEY = re.compile(r"[0-9A-Za-z_=-][0-9A-Za-z_=.%-]*(/[0-9A-Za-z_=-][0-9A-Za-z_=.%-]*)*")
# Object stores take 1,024 bytes; what is left is for the prefix.
KEY_LENGTH_MAX = 900
# No writer is this slow: what is older was left behind by a process that died.
TEMPORARY_SECONDS_MAX = 86_400
_CHUNK_BYTES = 1024 * 1024
# Names beginning with a dot are in no key, so a temporary name can be nobody's blob.
_TEMPORARY = ".{name}.{random}.tmp"
_BLOB_MODE = 0o440


class BlobFault(Fault):
    """The blob store refused, was away, or has lost a blob; `job_id` is whose, where that is known."""

    job_id: str | None = None


class BlobGone(BlobFault):
    """The blob store is there, and a blob that was durable is not."""


class BlobWriter(Protocol):
    """A blob that is being written; it exists once it is committed. Leaving a with block aborts what is not."""

    def write(self, data: bytes) -> None:
        """Append bytes. Raises Unavailable when the disk is full."""
        ...

    def commit(self) -> None:
        """Make the blob durable, then visible. Raises Unavailable when the disk is full."""
        ...

    def abort(self) -> None:
        """Forget what was written; harmless after a commit."""
        ...

    def __enter__(self) -> Self:
        """Use the writer in a with statement."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort unless it was committed."""
        ...


class Blobs(Protocol):
    """A store of blobs by key."""

    def writer(self, key: str) -> BlobWriter:
        """Begin a blob."""
        ...

    def open(self, key: str) -> BinaryIO:
        """Open a blob for reading."""
        ...

    def local_path(self, key: str) -> AbstractContextManager[Path]:
        """Lend the blob as a file of this machine; it must not be changed and may be gone afterwards."""
        ...

    def exists(self, key: str) -> bool:
        """Tell whether there is a blob."""
        ...

    def size(self, key: str) -> int:
        """Count a blob's bytes."""
        ...

    def delete(self, key: str) -> None:
        """Delete a blob; one that does not exist is deleted already."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with a prefix, in order."""
        ...

    def sweep(self, *, now: float | None = None) -> int:
        """Delete what writers that died left behind; returns how many."""
        ...


def open_blobs(
    where: str | Path,
    *,
    endpoint: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    spool: Path | None = None,
) -> Blobs:
    """Open the store that is meant: `s3://bucket/prefix`, or a local folder.

    The other parameters are the object store's; `spool` is where its blobs lie while they are written.
    """
    if str(where).startswith("s3://"):
        return S3Blobs(
            str(where),
            endpoint=endpoint,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            spool=spool,
        )
    return LocalBlobs(Path(where))


def check_key(key: str) -> str:
    """Return a key that is sound; raises ValueError for one that could leave the store or collide in it.

    >>> check_key("files/acme/job_01kqzcjrpyf27tge33jwvjhkff")
    'files/acme/job_01kqzcjrpyf27tge33jwvjhkff'
    """
    if len(key) > KEY_LENGTH_MAX or _KEY.fullmatch(key) is None:
        raise ValueError(f"not a key of a blob: {key!r:.100}")
    return key


@contextmanager
def _room() -> Generator[None]:
    """Turn a full disk into the refusal that it is for the client; other errors of the disk are faults."""
    try:
        yield
    except OSError as error:
        if durable.is_full(error):
            raise Unavailable("There is no room for more data at the moment.", headers={"Retry-After": "5"}) from error
        raise BlobFault(f"the disk: {error}") from error


class _Aborting:
    """What every writer does with a with block."""

    def abort(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()


class _LocalWriter(_Aborting):
    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(_TEMPORARY.format(name=path.name[:100], random=secrets.token_hex(8)))
        with _room():
            durable.make_folder(path.parent)
            # Unbuffered: callers write in large chunks, and a full disk then shows in write, never in close.
            self._file = self._temporary.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        rest = memoryview(data)
        with _room():
            while rest:
                rest = rest[self._file.write(rest) :]

    def commit(self) -> None:
        """Make the blob durable, then visible."""
        with _room():
            os.fchmod(self._file.fileno(), _BLOB_MODE)
            os.fsync(self._file.fileno())
            self._file.close()
            # Rename is atomic within a folder, so nobody ever sees half a blob.
            self._temporary.rename(self._path)
            durable.sync_folder(self._path.parent)

    def abort(self) -> None:
        """Forget what was written."""
        self._file.close()
        # After a commit the temporary name is gone.
        self._temporary.unlink(missing_ok=True)


class LocalBlobs:
    """Blobs as files of a folder: the key is the path."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def writer(self, key: str) -> BlobWriter:
        """Begin a blob. Raises Unavailable when the disk is full."""
        return _LocalWriter(self._path(key))

    def open(self, key: str) -> BinaryIO:
        """Open a blob for reading."""
        path = self._path(key)
        with _present(path, key=key):
            return path.open("rb")

    @contextmanager
    def local_path(self, key: str) -> Generator[Path]:
        """Lend the blob's own file."""
        path = self._path(key)
        with _present(path, key=key):
            path.stat()
        yield path

    def exists(self, key: str) -> bool:
        """Tell whether there is a blob."""
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        """Count a blob's bytes."""
        path = self._path(key)
        with _present(path, key=key):
            return path.stat().st_size

    def delete(self, key: str) -> None:
        """Delete a blob; one that does not exist is deleted already."""
        self._path(key).unlink(missing_ok=True)

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with a prefix, in order."""
        # Only the folder that the prefix names is walked; its last part may be half a name.
        top = self.root / prefix.rpartition("/")[0]
        keys = (str(path.relative_to(self.root)) for path in _files(top) if not path.name.startswith("."))
        yield from sorted(key for key in keys if key.startswith(prefix))

    def sweep(self, *, now: float | None = None) -> int:
        """Delete temporary files that nobody writes any more; returns how many."""
        oldest = (time.time() if now is None else now) - TEMPORARY_SECONDS_MAX
        swept = 0
        for path in _files(self.root):
            if not (path.name.startswith(".") and path.name.endswith(".tmp")):
                continue
            try:
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    swept += 1
            except FileNotFoundError:
                # Its writer has just committed or aborted.
                continue
        return swept


def _files(top: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(top):
        yield from (Path(folder) / name for name in names)


@contextmanager
def _present(path: Path, *, key: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        # Without its folder it is the disk that is away, and may come back.
        kind = BlobGone if path.parent.is_dir() else BlobFault
        raise kind(f"the blob {key} is gone") from error


class _S3Writer(_Aborting):
    """Spools to a local file and uploads on commit.

    pyarrow publishes an upload even when its stream is only dropped, so a stream must not be opened before all of the
    bytes are known to be good.
    """

    def __init__(self, store: "S3Blobs", key: str) -> None:
        self._store = store
        self._key = key
        with _room():
            self._spool = tempfile.TemporaryFile(dir=store.spool, buffering=0)  # noqa: SIM115 - closed by abort.

    def write(self, data: bytes) -> None:
        """Append bytes."""
        rest = memoryview(data)
        with _room():
            while rest:
                rest = rest[self._spool.write(rest) :]

    def commit(self) -> None:
        """Upload the blob; it is visible once the store has all of it."""
        self._store.upload(self._key, cast("BinaryIO", self._spool))
        self._spool.close()

    def abort(self) -> None:
        """Forget what was written."""
        self._spool.close()


class _Object(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def is_file(self) -> bool: ...
    @property
    def size(self) -> int: ...


class _ObjectStore(Protocol):
    """The part of Arrow's file systems that is used here; Arrow comes without types."""

    def open_output_stream(self, path: str) -> AbstractContextManager[BinaryIO]: ...
    def open_input_file(self, path: str) -> BinaryIO: ...
    def get_file_info(self, paths: object) -> Sequence[_Object]: ...
    def delete_file(self, path: str) -> None: ...


class S3Blobs:
    """Blobs as objects below `s3://bucket/prefix`."""

    def __init__(
        self,
        url: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        spool: Path | None = None,
    ) -> None:
        # Importing Arrow's file systems takes longer than everything else here; a local store never needs them.
        from pyarrow.fs import S3FileSystem  # noqa: PLC0415 # pyright: ignore[reportUnknownVariableType]

        where = urlsplit(url)
        self._root = "/".join(part for part in (where.netloc, where.path.strip("/")) if part)
        self.spool = spool
        if spool is not None:
            durable.make_folder(spool)
        parts = urlsplit(endpoint or "")
        store: object = S3FileSystem(  # pyright: ignore[reportUnknownVariableType]
            access_key=access_key_id,
            secret_key=secret_access_key,
            region=region,
            endpoint_override=parts.netloc or None,
            scheme=parts.scheme or "https",
            # A store that is away is noticed in seconds; the load is put back and tried again.
            connect_timeout=5,
            request_timeout=60,
        )
        self._store = cast("_ObjectStore", store)

    def _path(self, key: str) -> str:
        return f"{self._root}/{check_key(key)}"

    def writer(self, key: str) -> BlobWriter:
        """Begin a blob. Raises Unavailable when the local disk, on which it is spooled, is full."""
        check_key(key)
        return _S3Writer(self, key)

    def upload(self, key: str, source: BinaryIO) -> None:
        """Put a whole local file into the store."""
        size = source.seek(0, os.SEEK_END)
        source.seek(0)
        with _reachable(key):
            # Larger objects go up in parts; the store shows none of them before the last is there.
            with self._store.open_output_stream(self._path(key)) as stream:
                shutil.copyfileobj(source, stream, _CHUNK_BYTES)
            stored = self._size(key)
            if stored != size:
                self._store.delete_file(self._path(key))
                raise BlobFault(f"{stored} of {size} bytes of {key} were stored")

    def open(self, key: str) -> BinaryIO:
        """Open a blob for reading."""
        with _reachable(key):
            return self._store.open_input_file(self._path(key))

    @contextmanager
    def local_path(self, key: str) -> Generator[Path]:
        """Download the blob; the file is gone after the with block."""
        with tempfile.TemporaryDirectory(dir=self.spool) as folder:
            path = Path(folder) / key.rpartition("/")[2]
            with self.open(key) as source, _room(), path.open("xb") as target:
                shutil.copyfileobj(source, target, _CHUNK_BYTES)
            yield path

    def exists(self, key: str) -> bool:
        """Tell whether there is a blob."""
        with _reachable(key):
            return self._size(key) is not None

    def size(self, key: str) -> int:
        """Count a blob's bytes."""
        with _reachable(key):
            size = self._size(key)
        if size is None:
            raise BlobFault(f"the blob {key} is gone")
        return size

    def _size(self, key: str) -> int | None:
        (info,) = self._store.get_file_info([self._path(key)])
        return int(info.size) if info.is_file else None

    def delete(self, key: str) -> None:
        """Delete a blob; one that does not exist is deleted already."""
        with _reachable(key):
            if self._size(key) is not None:
                self._store.delete_file(self._path(key))

    def list(self, prefix: str = "") -> Iterator[str]:
        """List the keys that begin with a prefix, in order."""
        from pyarrow.fs import FileSelector  # noqa: PLC0415 # pyright: ignore[reportUnknownVariableType]

        top = f"{self._root}/{prefix.rpartition('/')[0]}".rstrip("/")
        with _reachable(prefix):
            below: object = FileSelector(top, allow_not_found=True, recursive=True)  # pyright: ignore[reportUnknownVariableType]
            found = self._store.get_file_info(cast("object", below))
        keys = (info.path.removeprefix(self._root + "/") for info in found if info.is_file)
        yield from sorted(key for key in keys if key.startswith(prefix))

    def sweep(self, *, now: float | None = None) -> int:
        """Do nothing: spooled files have no name, and unfinished uploads end by the bucket's own rule."""
        del now
        return 0


@contextmanager
def _reachable(key: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        # Arrow raises every answer of the store as an OSError.
        raise BlobFault(f"the object store, at {key}: {error}") from error
