"""Machine data: readings of sensors, sent as import jobs."""

from ingest_platform.domain.feed import DeclaredKind, Feed
from ingest_platform.feeds.machine_data.contract import CONFIG_ID_PATTERN, CONTRACT
from ingest_platform.feeds.machine_data.load import TABLE
from ingest_platform.feeds.machine_data.references import refer

FEED = Feed(
    name="machine_data",
    folder="machine-data",
    title="Machine data",
    job_prefix="job_",
    contract=CONTRACT,
    envelope_key="items",
    rate_per_minute=1500,
    write_scope="machine-data:write",
    table=TABLE,
    refer=refer,
    kinds=(
        DeclaredKind(section="sites", id_field="name", id_pattern="^[a-z0-9][a-z0-9-]{0,62}$", fields={}),
        DeclaredKind(
            section="machine_data_point_configs",
            id_field="id",
            id_pattern=CONFIG_ID_PATTERN,
            fields={
                "site": {"type": "string"},
                "machine": {"type": "string", "minLength": 1, "maxLength": 200},
                "measurement": {"type": "string", "minLength": 1, "maxLength": 200},
                "unit": {"type": "string", "maxLength": 50},
                "factor": {"type": "number"},
            },
            required=("site", "machine", "measurement"),
            defaults={"unit": "", "factor": 1.0},
            refers={"site": "sites"},
        ),
    ),
)
