"""Between parser and warehouse: frames, files of frames in a folder of the load, and what of them is withdrawn.

Who reads and who stages is not known here.
"""

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import polars as pl


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What was given of a submission so far does not count: it can't be read to its end, or is read once more."""

    submission: int


# Accepted records on their way, typed as by `check`. A file may be gone once the next one is asked for.
Given: TypeAlias = pl.DataFrame | Path | Withdrawn
Frames: TypeAlias = Generator[Given]


@contextmanager
def staging_folder(staging_dir: Path, name: str) -> Generator[Path]:
    """Make a folder for files on their way; it is gone afterwards, whatever happened."""
    folder = staging_dir / name
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
