"""Where heartbeats lie in the warehouse: one row per device and instant, the one accepted last."""

from ingest_platform.domain.feed import Column, KeyedTable

TABLE = KeyedTable(
    name="heartbeats",
    columns=(
        Column(name="device", type="VARCHAR"),
        Column(name="at", type="TIMESTAMPTZ"),
        Column(name="state", type="VARCHAR"),
        Column(name="on_mains", type="BOOLEAN"),
        Column(name="uptime_seconds", type="DOUBLE"),
    ),
    key=("device", "at"),
    range_column="at",
    compared=("state", "on_mains", "uptime_seconds"),
)
