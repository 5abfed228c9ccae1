"""What each tool asks of an issue that is sent by a route of its own: the form of its ids, in which no two mix.

The rules for every record are the contract's (`contract.py`); which sources there are besides is in `references.py`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ingest_platform.domain.rejection import Code, Problem

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NUMBER = "[1-9][0-9]{0,17}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A tool with a route of its own: `POST /v1/ingest/<name>/issues`.

    `id_pattern` is what an external id must be, as a whole. `url_id_pattern` is another form that identifies something
    only together with an `external_url`. `requirement` says both in words, `example` is a good body.
    """

    name: str
    title: str
    requirement: str
    example: Mapping[str, object]
    id_pattern: str | None = None
    url_id_pattern: str | None = None

    def problems(self, *, external_id: str, has_url: bool) -> list[Problem]:
        """List what is missing for this source in a record that keeps the contract's rules.

        >>> [problem.field for problem in SOURCES["github"].problems(external_id="17", has_url=False)]
        ['external_url']
        """
        if self.id_pattern is None or re.fullmatch(self.id_pattern, external_id):
            return []
        if self.url_id_pattern is None or not re.fullmatch(self.url_id_pattern, external_id):
            return [Problem(code=Code.INVALID_FORMAT.value, field="external_id", message=self.requirement)]
        if has_url:
            return []
        return [Problem(code=Code.MISSING_FIELD.value, field="external_url", message=self.requirement)]

    @property
    def schema_pattern(self) -> str | None:
        """Write both forms of an external id as one pattern for a JSON schema."""
        forms = [pattern for pattern in (self.id_pattern, self.url_id_pattern) if pattern is not None]
        return f"^(?:{'|'.join(forms)})$" if forms else None


def _example(external_id: str, title: str, **more: object) -> Mapping[str, object]:
    return {"external_id": external_id, "title": title, **more}


_ALL = (
    Source(
        name="jira",
        title="Jira",
        requirement="external_id must be an issue key such as ABC-123.",
        id_pattern="[A-Z][A-Z0-9_]{1,50}-[1-9][0-9]{0,17}",
        example=_example("CHECKOUT-123", "Checkout times out after 30 s", severity="p2", team="payments"),
    ),
    Source(
        name="servicenow",
        title="ServiceNow",
        requirement="external_id must be a record's number such as INC0010023, or its sys_id (32 hexadecimal digits).",
        id_pattern="[A-Z]{2,10}[0-9]{4,15}|[0-9a-f]{32}",
        example=_example("INC0010023", "Mail is not delivered to the Lyon office", severity="p3"),
    ),
    Source(
        name="github",
        title="GitHub",
        requirement=(
            "external_id must be owner/repo#n, or the issue's number n together with external_url (numbers are counted "
            "by repository, so owner/repo#n is the better one)."
        ),
        id_pattern=f"[A-Za-z0-9][A-Za-z0-9_-]{{0,99}}/[A-Za-z0-9._-]{{1,100}}#{_NUMBER}",
        url_id_pattern=_NUMBER,
        example=_example(
            "acme/checkout#17",
            "Payment form loses its focus",
            external_url="https://github.com/acme/checkout/issues/17",
        ),
    ),
    Source(
        name="pagerduty",
        title="PagerDuty",
        requirement=(
            "external_id must be an incident's id such as PT4KHLK or Q1XQJ3MWTB5UH2, or its number together with "
            "external_url."
        ),
        id_pattern="[A-Z][A-Z0-9]{5,25}",
        url_id_pattern=_NUMBER,
        example=_example("PT4KHLK", "checkout-api: error rate above 5 %", severity="p1"),
    ),
    Source(
        name="opsgenie",
        title="Opsgenie",
        requirement=(
            "external_id must be the id of an alert or incident (a UUID, of an alert with its time behind it), or an "
            "alert's tiny id (a number) together with external_url."
        ),
        id_pattern=f"{_UUID}(?:-[0-9]{{10,16}})?",
        url_id_pattern=_NUMBER,
        example=_example("70413a06-38d6-4c85-92b8-5ebc900d42e2-1422263583", "Disk of db-3 is 95 % full"),
    ),
    Source(
        name="linear",
        title="Linear",
        requirement="external_id must be an issue's identifier such as ENG-123, or its UUID.",
        id_pattern=f"[A-Z][A-Z0-9]{{0,20}}-[1-9][0-9]{{0,17}}|{_UUID}",
        example=_example("ENG-123", "Export runs out of memory", team="platform"),
    ),
    Source(
        name="zendesk",
        title="Zendesk",
        requirement="external_id must be a ticket's number such as 35436.",
        id_pattern=_NUMBER,
        example=_example("35436", "Invoice shows the wrong address", severity="p4"),
    ),
    Source(
        name="custom_api",
        title="A tool of your own",
        requirement="external_id may be any text that stays the same for the same issue.",
        example=_example("backup-2026-05-06", "Nightly backup did not finish", severity="p2"),
    ),
)
# By the word in the path.
SOURCES: Mapping[str, Source] = {source.name: source for source in _ALL}
