"""The client for Python: `Client` and `AsyncClient`, for records, readings, issues and jobs. See docs/client.md."""

from ingest_platform.client.asking import Patience
from ingest_platform.client.asynchronous import AsyncClient, AsyncDataset
from ingest_platform.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    Forbidden,
    Invalid,
    JobUnfinished,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RecordError,
    RecordsRejected,
    ServerError,
    TooLarge,
    Unauthorized,
    Unreachable,
    UnsafeRecord,
)
from ingest_platform.client.sync import Client, Dataset
from ingest_platform.client.working import Job, Sent

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncDataset",
    "Client",
    "ClientError",
    "Conflict",
    "Dataset",
    "Forbidden",
    "Invalid",
    "Job",
    "JobUnfinished",
    "NotFound",
    "Patience",
    "QuotaExceeded",
    "RateLimited",
    "RecordError",
    "RecordsRejected",
    "Sent",
    "ServerError",
    "TooLarge",
    "Unauthorized",
    "Unreachable",
    "UnsafeRecord",
]
