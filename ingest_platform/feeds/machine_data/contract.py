"""A reading of a machine: its fields and rules. Where it lies in the warehouse is not known here (`load.py`)."""

from ingest_platform.domain.contract import Contract, Field, Kind

CONFIG_ID_PATTERN = "^mdp_[0-9a-z]{26}$"

CONTRACT = Contract(
    name="machine_data",
    extra_allowed=True,
    fields=(
        Field(
            name="timestamp",
            kind=Kind.TIMESTAMP,
            description="When the value was measured: RFC 3339 with a zone.",
            example="2026-05-06T10:15:00Z",
        ),
        Field(
            name="machine_data_point_config_id",
            kind=Kind.STRING,
            description="The configured data point; it must be registered and belong to a site of the key.",
            example="mdp_01kqzcjrpyf27tge9dnvsqv8t2",
        ),
        Field(
            name="value",
            kind=Kind.NUMBER,
            description="The raw value, finite; multiplied by the config's factor when stored.",
            example=73.96732207,
        ),
    ),
)
