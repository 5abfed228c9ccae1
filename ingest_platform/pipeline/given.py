"""Between parser and warehouse: frames, files of frames in a folder of the load, and what of them is withdrawn.

Who reads and who stages is not known here.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl

from ingest_platform.storage.scratch import ScratchFolder


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was given of a submission so far does not count: it can't be read to its end, or is read once more."""

    submission: int


# Accepted records on their way, typed as by `check`. A file may be gone once the next one is asked for.
Given: TypeAlias = pl.DataFrame | Path | Withdrawn
Frames: TypeAlias = Generator[Given]


@contextmanager
def staging_folder(staging_dir: Path, name: str) -> Generator[Path]:
    """Make a folder for files on their way; it is gone afterwards, and swept if this process is killed."""
    with ScratchFolder(staging_dir, name) as folder:
        yield folder.path
