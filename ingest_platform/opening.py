"""Opening the stores of one process from its settings. What is done with them is not known here."""

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ingest_platform.domain import crashpoint
from ingest_platform.pipeline.addresses import OutboundRules, read_networks
from ingest_platform.pipeline.platform import Limits, Platform
from ingest_platform.pipeline.references import KnownCache
from ingest_platform.pipeline.sandbox import Sandbox
from ingest_platform.pipeline.shapes import ShapeCache
from ingest_platform.settings import Settings, WrongSetting
from ingest_platform.storage.blobs import Blobs, open_blobs
from ingest_platform.storage.embedded import database_url
from ingest_platform.storage.ledger import Ledger
from ingest_platform.storage.scratch import ScratchFolder
from ingest_platform.storage.warehouse import Warehouse


def open_ledger(settings: Settings, *, application: str) -> Ledger:
    """Open the ledger, starting the embedded PostgreSQL if none is configured and none runs."""
    return Ledger(
        database_url(settings.data_dir, settings.database_url),
        application=f"ingest-{application}",
        connections_max=settings.database_connections_max,
    )


def open_store(settings: Settings) -> Blobs:
    """Open the store of blobs: the data folder's, or the object store."""
    return open_blobs(
        f"{settings.storage_url}/blobs" if settings.storage_url else settings.data_dir / "blobs",
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=settings.s3_secret_access_key,
        spool=settings.data_dir / "run" / "spool",
    )


def open_warehouse(settings: Settings, *, spill: Path) -> Warehouse:
    """Prepare the warehouse; DuckDB itself is opened by whoever first reads or writes."""
    return Warehouse(
        database_url(settings.data_dir, settings.database_url),
        lake_path=f"{settings.storage_url}/lake" if settings.storage_url else str(settings.data_dir / "lake"),
        memory_bytes_max=settings.lake_memory_bytes,
        threads=settings.lake_threads,
        s3=_s3(settings),
        spill_path=str(spill),
    )


def _s3(settings: Settings) -> dict[str, str] | None:
    """Name the object store's settings as DuckDB's S3 secret does."""
    if not settings.storage_url:
        return None
    secret = {"REGION": settings.s3_region}
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        secret |= {"KEY_ID": settings.s3_access_key_id, "SECRET": settings.s3_secret_access_key}
    if settings.s3_endpoint:
        endpoint = urlsplit(settings.s3_endpoint)
        # Stores other than AWS's are addressed by path: their buckets have no host names.
        secret |= {"ENDPOINT": endpoint.netloc, "URL_STYLE": "path", "USE_SSL": str(endpoint.scheme == "https").lower()}
    return secret


def outbound_rules(settings: Settings) -> OutboundRules:
    """Say where webhooks may lead, and how often a delivery is tried. Raises WrongSetting."""
    try:
        networks = read_networks(settings.webhook_networks)
    except ValueError as error:
        message = f"webhook_networks: {error}. Write networks with commas between them, such as 10.1.0.0/16."
        raise WrongSetting(message) from None
    return OutboundRules(
        networks=networks,
        http_allowed=settings.webhook_http,
        attempts_max=settings.webhook_attempts_max,
        pause_seconds=settings.webhook_pause_seconds,
    )


def open_platform(
    settings: Settings,
    *,
    application: str,
    on_close: Sequence[Callable[[], None]] = (),
) -> Platform:
    """Open everything that a worker, a run or a command needs."""
    if settings.crashpoint:
        crashpoint.arm(settings.crashpoint)
    ledger = open_ledger(settings, application=application)
    spill = ScratchFolder(settings.data_dir / "run" / "spill", f"{application}-{secrets.token_hex(8)}")
    return Platform(
        data_dir=settings.data_dir,
        ledger=ledger,
        warehouse=open_warehouse(settings, spill=spill.path),
        blobs=open_store(settings),
        sandbox=Sandbox(
            address_bytes_max=settings.parse_memory_bytes_max,
            total_seconds_max=settings.parse_seconds_max,
        ),
        known=KnownCache(ledger),
        shapes=ShapeCache(ledger),
        limits=Limits(
            load_bytes_max=settings.load_bytes_max,
            load_submissions_max=settings.load_submissions_max,
            lease_seconds=settings.lease_seconds,
            attempts_max=settings.attempts_max,
            disk_free_bytes_min=settings.disk_free_bytes_min,
            file_bytes_max=settings.file_bytes_max,
        ),
        outbound=outbound_rules(settings),
        on_close=(spill.close, *on_close),
    )
