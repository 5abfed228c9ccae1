"""Where readings lie in the warehouse: one row per data point and instant, the one accepted last."""

from ingest_platform.domain.feed import Column, KeyedTable

TABLE = KeyedTable(
    name="readings",
    columns=(
        Column(name="machine_data_point_config_id", type="VARCHAR"),
        Column(name="timestamp", type="TIMESTAMPTZ"),
        Column(name="value", type="DOUBLE"),
        Column(name="raw_value", type="DOUBLE"),
        Column(name="config_version", type="INTEGER"),
    ),
    key=("machine_data_point_config_id", "timestamp"),
    range_column="timestamp",
    compared=("raw_value", "config_version"),
)
