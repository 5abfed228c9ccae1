"""What connects issues with others: connectors, through which tools report them, and the events that are announced."""

from ingest_platform.domain.feed import Announced, DeclaredKind
from ingest_platform.domain.outcome import Outcome

# Tools whose webhook payloads are read; each is a source, too.
TOOLS = ("github", "jira", "pagerduty", "opsgenie", "zendesk", "linear", "servicenow")

CONNECTORS = DeclaredKind(
    section="connectors",
    id_field="id",
    id_pattern="^[a-z0-9][a-z0-9_-]{2,62}$",
    fields={"type": {"type": "string", "enum": list(TOOLS)}},
    required=("type",),
    has_secret=True,
)

ANNOUNCED = Announced(
    id_column="issue_id",
    ids_name="issue_ids",
    by_outcome={Outcome.CREATED: "issue.created", Outcome.UPDATED: "issue.updated"},
    others=("pattern.detected",),
)
