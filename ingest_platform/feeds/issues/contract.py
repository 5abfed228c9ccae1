"""An issue as its source reports it: fields and rules. Where it lies in the warehouse is not known here (`load.py`)."""

from ingest_platform.domain.contract import Contract, Field, Kind

EXTERNAL_ID_CHARACTERS_MAX = 500
SOURCE_CHARACTERS_MAX = 100
TITLE_CHARACTERS_MAX = 300
# A stack trace or a mail with its whole thread fits; what is longer belongs behind `external_url`.
BODY_CHARACTERS_MAX = 100_000
WORD_CHARACTERS_MAX = 200
URL_CHARACTERS_MAX = 2_000

# The most severe first. Clients may say either word; the first is stored.
SEVERITIES = {"p1": "critical", "p2": "high", "p3": "medium", "p4": "low"}
SEVERITY_DEFAULT = "p3"
# What an issue's id is made of is parted by NUL.
NO_NUL_PATTERN = r"[^\x00]+"
# Written without \s, which Python and Rust read differently.
URL_PATTERN = r"https?://[^\x00-\x20\x7f-\xa0\"<>\\]+"

CONTRACT = Contract(
    name="issues",
    extra_allowed=True,
    fields=(
        Field(
            name="external_id",
            kind=Kind.STRING,
            blank_allowed=False,
            length_max=EXTERNAL_ID_CHARACTERS_MAX,
            pattern=NO_NUL_PATTERN,
            description="The issue's id in its source; with the source it says which issue this is.",
            example="CHECKOUT-123",
        ),
        Field(
            name="source",
            kind=Kind.STRING,
            blank_allowed=False,
            length_max=SOURCE_CHARACTERS_MAX,
            pattern=NO_NUL_PATTERN,
            description="The tool that reports it; one that is not known is kept as sent, and shown as custom_api.",
            example="jira",
        ),
        Field(
            name="title",
            kind=Kind.STRING,
            blank_allowed=False,
            length_max=TITLE_CHARACTERS_MAX,
            description="What is wrong, in one line.",
            example="Checkout times out after 30 s",
        ),
        Field(
            name="body",
            kind=Kind.STRING,
            required=False,
            nullable=True,
            length_max=BODY_CHARACTERS_MAX,
            description="What is wrong, at length.",
            example="POST /checkout answered 504 in 12 of 40 attempts.",
        ),
        Field(
            name="severity",
            kind=Kind.STRING,
            required=False,
            nullable=True,
            choices=(*SEVERITIES, *SEVERITIES.values()),
            description="p1 (critical), p2 (high), p3 (medium) or p4 (low); p3 for an issue that was never given one.",
            example="p2",
        ),
        Field(
            name="team",
            kind=Kind.STRING,
            required=False,
            nullable=True,
            length_max=WORD_CHARACTERS_MAX,
            description="Who looks after it.",
            example="payments",
        ),
        Field(
            name="external_url",
            kind=Kind.STRING,
            required=False,
            nullable=True,
            length_max=URL_CHARACTERS_MAX,
            pattern=URL_PATTERN,
            description="Where it is in its source: an http or https URL.",
            example="https://jira.example.com/browse/CHECKOUT-123",
        ),
        Field(
            name="source_created_at",
            kind=Kind.TIMESTAMP,
            required=False,
            nullable=True,
            description="When it was created in its source: RFC 3339 with a zone.",
            example="2026-05-06T10:15:00Z",
        ),
        Field(
            name="source_updated_at",
            kind=Kind.TIMESTAMP,
            required=False,
            nullable=True,
            description="When it was last changed in its source; what is older than what is stored changes nothing.",
            example="2026-05-06T10:20:00Z",
        ),
        Field(
            name="connector_id",
            kind=Kind.STRING,
            required=False,
            nullable=True,
            length_max=WORD_CHARACTERS_MAX,
            description="The connector that it came through.",
            example="con_jira_main",
        ),
        Field(
            name="metadata",
            kind=Kind.OBJECT,
            required=False,
            nullable=True,
            description="Whatever else the source says; kept as it is.",
            example={"labels": ["checkout"], "attempts": 40},
        ),
    ),
)
