"""What an apply does to each thing, and how that is told."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import cast

from ingest_platform.declaring.files import WORKSPACES
from ingest_platform.domain.feed import Kept
from ingest_platform.storage import catalog
from ingest_platform.storage.catalog import ChangeKind

# Of a value that is told as it was and as it is.
VALUE_CHARACTERS_MAX = 200


@unique
class Sign(StrEnum):
    """What an apply does to a thing, as it is printed."""

    CREATED = "+"
    CHANGED = "~"
    RETIRED = "-"
    UNCHANGED = "="


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedChange:
    """What an apply does to one thing; `fields` are those that change, each with before and after."""

    sign: Sign
    section: str
    workspace: str
    id: str
    version: int | None
    fields: Mapping[str, tuple[object, object]]
    # One that was made here; this is the only time that it is shown.
    secret: str | None = field(default=None, repr=False)
    # What it is called by besides its name, if that was not chosen here.
    assigned: str | None = None

    def __str__(self) -> str:
        """Write the line that is printed."""
        where = "" if self.section == WORKSPACES else f" in {self.workspace}"
        number = "" if self.assigned is None else f" ({self.assigned})"
        what = f"{self.sign.value} {self.section}/{self.id}{number}{where}"
        if self.sign is Sign.CHANGED:
            fields = ", ".join(
                f"{name}: {_told(before)} → {_told(after)}" for name, (before, after) in self.fields.items()
            )
            versions = f" (version {self.version - 1} → {self.version})" if self.version else ""
            return f"{what}: {fields}{versions}"
        return f"{what}: {self.sign.name.lower()}"


_SIGNS = {
    ChangeKind.CREATED: Sign.CREATED,
    ChangeKind.CHANGED: Sign.CHANGED,
    ChangeKind.RETIRED: Sign.RETIRED,
    ChangeKind.UNCHANGED: Sign.UNCHANGED,
}


def as_applied(change: catalog.Change) -> AppliedChange:
    """Tell a change of the catalog."""
    changed = change.kind is ChangeKind.CHANGED
    return AppliedChange(
        sign=_SIGNS[change.kind],
        section=change.declared.kind,
        workspace=change.declared.workspace,
        id=change.declared.id,
        version=change.version,
        fields=dict(_differences(change.before or {}, change.declared.body)) if changed else {},
    )


def as_kept(one: catalog.Declared, kept: Kept, *, dry_run: bool) -> AppliedChange:
    """Tell what a feed did to keep one thing."""
    sign = Sign.CHANGED if kept.changed else Sign.UNCHANGED
    sign = Sign.CREATED if kept.created else Sign.RETIRED if kept.retired else sign
    return AppliedChange(
        sign=sign,
        section=one.kind,
        workspace=one.workspace,
        id=one.id,
        version=None,
        fields=kept.changed,
        # What a dry run makes is taken back, and gets another the next time.
        assigned=None if kept.created and dry_run else kept.assigned,
    )


def _differences(
    before: Mapping[str, object], after: Mapping[str, object], within: str = ""
) -> Iterator[tuple[str, tuple[object, object]]]:
    """Find what differs, as deep as both are alike: a field of ten rules, of which one changed, is told by that one."""
    for name in sorted({*before, *after}):
        yield from _difference(before.get(name), after.get(name), f"{within}.{name}" if within else name)


def _difference(before: object, after: object, place: str) -> Iterator[tuple[str, tuple[object, object]]]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _differences(cast("Mapping[str, object]", before), cast("Mapping[str, object]", after), place)
    elif isinstance(before, list) and isinstance(after, list) and len(cast("list[object]", before)) == len(after):
        pairs = zip(cast("list[object]", before), cast("list[object]", after), strict=True)
        for index, (one, other) in enumerate(pairs):
            yield from _difference(one, other, f"{place}[{index}]")
    else:
        yield place, (before, after)


def _told(value: object) -> str:
    """Write a value so that a line stays a line: a lookup table has as many rows as it has.

    >>> len(_told("x" * 1000))
    200
    """
    text = repr(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 1]}…"


def change_object(change: AppliedChange) -> dict[str, object]:
    """Lay out a change for programs."""
    return {
        "change": change.sign.name.lower(),
        "section": change.section,
        "workspace": change.workspace,
        "id": change.id,
        "version": change.version,
        "fields": {name: {"before": before, "after": after} for name, (before, after) in change.fields.items()},
        **({} if change.secret is None else {"secret": change.secret}),
        **({} if change.assigned is None else {"assigned": change.assigned}),
    }
