"""A heartbeat: its fields and rules. Where it lies in the warehouse is not known here (`load.py`)."""

from ingest_platform.domain.contract import Contract, Field, Kind

CONTRACT = Contract(
    name="heartbeats",
    extra_allowed=False,
    fields=(
        Field(
            name="at",
            kind=Kind.TIMESTAMP,
            description="When the device sent it: RFC 3339 with a zone.",
            example="2026-05-06T10:15:00Z",
        ),
        Field(
            name="device",
            kind=Kind.STRING,
            pattern="[a-z0-9-]+",
            length_max=40,
            description="The device's name: lower-case letters, digits and hyphens.",
            example="pump-7",
        ),
        Field(
            name="state",
            kind=Kind.STRING,
            choices=("up", "degraded", "stopping"),
            description="How the device says that it is.",
            example="up",
        ),
        Field(
            name="on_mains",
            kind=Kind.BOOLEAN,
            description="Whether it runs on mains power.",
            example=True,
        ),
        Field(
            name="uptime_seconds",
            kind=Kind.NUMBER,
            description="Seconds since it was started.",
            example=86400.5,
        ),
    ),
)
