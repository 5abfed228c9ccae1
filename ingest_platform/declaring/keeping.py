"""Secrets of what is declared: given by variables of the environment, or made; kept apart from the catalog."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ingest_platform.declaring.changes import AppliedChange, Sign
from ingest_platform.declaring.judging import SECRET_VARIABLE, Judge, Judged, Sound
from ingest_platform.declaring.mistakes import WronglyDeclared
from ingest_platform.domain.feed import DeclaredKind
from ingest_platform.pipeline.signature import SECRET_PATTERN, new_secret
from ingest_platform.storage import secrets
from ingest_platform.storage.ledger import Transaction

NONE, SET, REPLACED = "(none)", "(set)", "(replaced)"


def read_secrets(judge: Judge, judged: Judged) -> dict[tuple[str, str], str]:
    """Read the secrets that are given, by kind and id; none of them is told when it is wrong."""
    given: dict[tuple[str, str], str] = {}
    for sound in judged.declared:
        one, place = sound.declared, sound.entry.place
        variable = one.body.get(SECRET_VARIABLE)
        if not judge.kinds[one.kind].has_secret or one.retired or variable is None or judge.read_variable is None:
            continue
        secret = judge.read_variable(variable)
        if secret is None:
            judge.mistakes.append(place.wrong(f"the variable {variable} is not set", field=SECRET_VARIABLE))
        elif re.search(SECRET_PATTERN, secret) is None:
            said = f"the value of {variable} must match {SECRET_PATTERN}"
            judge.mistakes.append(place.wrong(said, field=SECRET_VARIABLE))
        else:
            given[one.kind, one.id] = secret
    return given


def put_secrets(
    tx: Transaction,
    judged: Judged,
    changes: Sequence[AppliedChange],
    *,
    kinds: Mapping[str, DeclaredKind],
    given: Mapping[tuple[str, str], str],
    dry_run: bool,
) -> list[AppliedChange]:
    """Give what was declared its secrets: those that were given, and new ones where there is none yet."""
    done: list[AppliedChange] = []
    for sound, change in zip(judged.declared, changes, strict=True):
        one = sound.declared
        kind = kinds[one.kind]
        if kind.variables:
            done.append(_put_values(tx, sound, change))
        elif not kind.has_secret:
            done.append(change)
        elif one.retired:
            secrets.drop(tx, workspace=one.workspace, kind=one.kind, id=one.id)
            done.append(change)
        else:
            done.append(_put_secret(tx, sound, change, given=given.get((one.kind, one.id)), dry_run=dry_run))
    return done


def _put_secret(
    tx: Transaction, sound: Sound, change: AppliedChange, *, given: str | None, dry_run: bool
) -> AppliedChange:
    one = sound.declared
    before = secrets.secret_of(tx, workspace=one.workspace, kind=one.kind, id=one.id)
    made = new_secret() if given is None and before is None else None
    wanted = given or made or before
    assert wanted is not None
    if wanted == before:
        return change
    if not secrets.keep(tx, workspace=one.workspace, kind=one.kind, id=one.id, secret=wanted):
        said = f"{one.id!r} is taken in this installation; whoever calls with it names nothing else, so choose another"
        raise WronglyDeclared([sound.entry.place.wrong(said)])
    # Nobody is told what it is or was.
    told = _with_secrets(change, {"secret": (NONE, SET) if before is None else (SET, REPLACED)})
    return replace(told, secret=None if dry_run else made)


def _put_values(tx: Transaction, sound: Sound, change: AppliedChange) -> AppliedChange:
    """Keep the values of the variables in something, by their places, in place of those that it has."""
    one = sound.declared
    before = secrets.values_of(tx, workspace=one.workspace, kind=one.kind, id=one.id)
    after = sound.given
    if before == after:
        return change
    secrets.keep_values(tx, workspace=one.workspace, kind=one.kind, id=one.id, values=after)
    changed = {name: _told(before.get(name), after.get(name)) for name in sorted({*before, *after})}
    return _with_secrets(change, {f"secret {name}": told for name, told in changed.items() if told is not None})


def _told(before: str | None, after: str | None) -> tuple[object, object] | None:
    if before == after:
        return None
    if before is None:
        return NONE, SET
    return SET, NONE if after is None else REPLACED


def _with_secrets(change: AppliedChange, told: Mapping[str, tuple[object, object]]) -> AppliedChange:
    """Tell that secrets changed, of what stood before; nothing else of it may have changed."""
    if change.sign not in {Sign.UNCHANGED, Sign.CHANGED}:
        return change
    return replace(change, sign=Sign.CHANGED, fields={**change.fields, **told})
