"""Who made a run and who executes it, as tags; the code location it belongs to. What a run does is not known here."""

import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Self

import psutil
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

# As in workspace.yaml: the UI finds a run's job by the location's name.
LOCATION_NAME = "ingest_platform"
DEFINITIONS_MODULE = "ingest_platform.definitions"

MODE_TAG = "ingest/mode"
FEED_TAG = "ingest/feed"
# Under this prefix it is not shown among the tags that people look at.
WORKER_TAG = "dagster/ingest_worker"
LOADS_TAG = "ingest/loads"
JOBS_TAG = "ingest/jobs"


@unique
class Mode(StrEnum):
    """How a run is to be executed; one without the tag is heavy."""

    # Works off what was landed, in the warm worker.
    LIVE = "live"
    # Short upkeep, in the warm worker too.
    LIGHT = "light"
    # Works days again: minutes and gigabytes, so in a process of its own.
    HEAVY = "heavy"


def warm(tags: Mapping[str, str]) -> bool:
    """Tell whether a run with these tags is for the warm worker."""
    return tags.get(MODE_TAG) in {Mode.LIVE, Mode.LIGHT}


@dataclass(frozen=True, slots=True)
class Executor:
    """A process that executes runs; the time of its start tells it from a later one with its number."""

    host: str
    pid: int
    started: int

    @classmethod
    def here(cls) -> Self:
        """Name this process."""
        return cls(socket.gethostname(), os.getpid(), int(psutil.Process().create_time()))

    @classmethod
    def read(cls, tag: str) -> Self | None:
        """Read the tag of a run; None if it names no process."""
        host, _, numbers = tag.rpartition("/")
        pid, _, started = numbers.partition("@")
        return cls(host, int(pid), int(started)) if host and pid.isdigit() and started.isdigit() else None

    def __str__(self) -> str:
        """Write the tag.

        >>> str(Executor("box", 12, 1700000000))
        'box/12@1700000000'
        """
        return f"{self.host}/{self.pid}@{self.started}"

    @property
    def dead(self) -> bool:
        """Whether the process surely does not live any more; of another machine's nothing is sure."""
        if self.host != socket.gethostname():
            return False
        try:
            # Both are whole seconds of the same clock reading; a reused number differs by more.
            return abs(int(psutil.Process(self.pid).create_time()) - self.started) > 1
        except psutil.NoSuchProcess:
            return True


def job_origin(job_name: str) -> RemoteJobOrigin:
    """Name a job as the webserver does, so that a run made here links to its job, assets and code location."""
    location = ManagedGrpcPythonEnvCodeLocationOrigin(
        loadable_target_origin=LoadableTargetOrigin(
            executable_path=sys.executable, module_name=DEFINITIONS_MODULE, working_directory=None
        ),
        location_name=LOCATION_NAME,
    )
    return RemoteRepositoryOrigin(location, SINGLETON_REPOSITORY_NAME).get_job_origin(job_name)
