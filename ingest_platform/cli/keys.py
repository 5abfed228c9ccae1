"""`ingest keys`: create, list, rotate, revoke. A token is shown once, when it is made, and stored as a hash only."""

import re
from collections.abc import Sequence

import click

from ingest_platform.cli.command import Failed, Output, command, opened_ledger
from ingest_platform.cli.demo import CONTROL_SCOPES, READING_SCOPES
from ingest_platform.domain.errors import NotFound
from ingest_platform.feeds import discover
from ingest_platform.settings import Settings
from ingest_platform.storage import catalog, workspaces
from ingest_platform.storage import keys as stored
from ingest_platform.storage.keys import IssuedKey, KeyRecord, NewKey
from ingest_platform.storage.ledger import Transaction

_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class _Duration(click.ParamType[float]):
    """A time like 90d, 12h or 30m."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it in seconds."""
        found = _DURATION.fullmatch(str(value))
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no time; write 90d, 12h, 30m or 45s", param, ctx)
        return float(int(found[1]) * _UNIT_SECONDS[found[2]])


class _Scope(click.ParamType[str]):
    """A scope: one of the contract's, or what a feed asks of those who send to it."""

    name = "scope"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:  # noqa: ARG002 - click's.
        """List them all in the help; which feeds there are is looked up no sooner."""
        return f"[{'|'.join(all_scopes())}]"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Find the scope."""
        if value not in (known := all_scopes()):
            self.fail(f"there is no scope {value!r}; there are {', '.join(known)}", param, ctx)
        return str(value)


def all_scopes() -> tuple[str, ...]:
    """List the scopes that a key may have."""
    return tuple(dict.fromkeys((*stored.SCOPES, *(feed.write_scope for feed in discover()))))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def keys() -> None:
    """Create, list, rotate and revoke keys."""


def _issued(key: IssuedKey) -> dict[str, object]:
    """Write the one answer that has the token in it."""
    record = key.record
    return {
        "key_id": record.key_id,
        "token": key.token,
        "kind": record.kind,
        "workspace": record.workspace,
        "scopes": sorted(record.scopes),
        "sites": None if record.sites is None else sorted(record.sites),
        "slot": record.slot,
        "expires_at": record.expires_at,
    }


def _tell(output: Output, key: IssuedKey) -> None:
    output.give(_issued(key))
    record = key.record
    output.say(key.token, style="bold")
    output.say("This is the only time that the token is shown; keep it now.", style="yellow")
    sites = "all" if record.sites is None else ", ".join(sorted(record.sites)) or "none"
    expires = f", expires {record.expires_at:%Y-%m-%d %H:%M} UTC" if record.expires_at else ""
    output.say(f"{record.kind} key {record.key_id} of {record.workspace}, slot {record.slot}, sites {sites}{expires}")
    output.say(f"scopes: {' '.join(sorted(record.scopes))}")


@command(
    keys,
    epilog="Example:  ingest keys create -w acme --scope machine-data:write --site plant-a --expires 90d --json",
)
@click.option("--workspace", "-w", required=True, help="Workspace that the key belongs to.")
@click.option("--project", help="Project that the key belongs to; dataset routes need one.")
@click.option("--kind", type=click.Choice(["api", "pat"]), default="api", help="API key or personal access token.")
@click.option("--scope", "scopes", multiple=True, type=_Scope(), help="What it may do; repeatable.")
@click.option("--site", "sites", multiple=True, help="Sites that it may write to; repeatable; none given: all.")
@click.option("--slot", type=click.Choice(["primary", "secondary"]), default="primary", help="One of two side by side.")
@click.option("--expires", type=_Duration(), help="Time until it ends: 90d, 12h.  [never]")
def create(
    output: Output,
    settings: Settings,
    *,
    workspace: str,
    project: str | None,
    kind: str,
    scopes: Sequence[str],
    sites: Sequence[str],
    slot: str,
    expires: float | None,
) -> None:
    """Create a key and show its token, this once. Without --scope it may do all that its kind is for."""
    default = _all_of_kind(kind)
    new = NewKey(
        workspace=workspace,
        project=project,
        kind=kind,
        scopes=tuple(dict.fromkeys(scopes)) or default,
        sites=tuple(dict.fromkeys(sites)) or None,
        slot=slot,
        expires_in_seconds=expires,
    )
    with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        warnings = _check(tx, new)
        issued = stored.issue(tx, new)
    for warning in warnings:
        output.warn(warning)
    _tell(output, issued)


def _all_of_kind(kind: str) -> tuple[str, ...]:
    if kind == "pat":
        return (*CONTROL_SCOPES, *READING_SCOPES)
    return tuple(scope for scope in all_scopes() if scope not in CONTROL_SCOPES)


def _check(tx: Transaction, new: NewKey) -> list[str]:
    """Hold a key that is to be made against what is declared; what is odd but allowed is returned."""
    found = workspaces.find(tx, new.workspace)
    if found is None:
        raise Failed(f"{_no_workspace(tx, new.workspace)} Declare it with `ingest apply`.")
    if new.project is not None and new.project not in found.projects:
        there = f"there are {', '.join(found.projects)}" if found.projects else "it has none"
        raise Failed(f"The workspace {new.workspace} has no project {new.project}; {there}. Declare it and apply.")
    declared = {entry.id for entry in catalog.current(tx, workspace=new.workspace, kind="sites")}
    unknown = [site for site in new.sites or () if site not in declared]
    return [f"site {site} is not declared in {new.workspace} yet; `ingest apply` declares it" for site in unknown]


def _no_workspace(tx: Transaction, name: str) -> str:
    known = ", ".join(workspaces.names(tx))
    return f"There is no workspace {name}; " + (f"there are {known}." if known else "there is none yet.")


def _row(record: KeyRecord) -> dict[str, object]:
    state = "active" if record.active else "revoked" if record.revoked_at else "expired"
    return {
        "key_id": record.key_id,
        "kind": record.kind,
        "workspace": record.workspace,
        "project": record.project,
        "slot": record.slot,
        "state": state,
        "scopes": sorted(record.scopes),
        "sites": None if record.sites is None else sorted(record.sites),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
    }


@command(keys, name="list", epilog="Example:  ingest keys list -w acme")
@click.option("--workspace", "-w", help="Only this workspace's.")
def list_command(output: Output, settings: Settings, *, workspace: str | None) -> None:
    """List keys, the newest first; never their tokens."""
    with opened_ledger(settings) as ledger, ledger.connection() as tx:
        if workspace is not None and workspaces.find(tx, workspace) is None:
            raise Failed(_no_workspace(tx, workspace))
        names = [workspace] if workspace else workspaces.names(tx)
        rows = [_row(record) for name in names for record in stored.list_keys(tx, workspace=name)]
    output.give(rows)
    columns = ("key_id", "kind", "workspace", "slot", "state", "sites", "scopes", "expires_at")
    shown = [tuple("all" if name == "sites" and row[name] is None else row[name] for name in columns) for row in rows]
    output.table(columns, shown, empty="There are no keys; `ingest keys create -w WORKSPACE` makes one.")


@command(keys, epilog="Example:  ingest keys rotate 0123456789abcdef --grace-seconds 3600")
@click.argument("key_id")
@click.option("--grace-seconds", type=click.FloatRange(min=0), default=0, help="How long the old one goes on.  [0]")
def rotate(output: Output, settings: Settings, *, key_id: str, grace_seconds: float) -> None:
    """Make a key like this one, show its token, and let this one end after the grace."""
    with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        issued = stored.rotate(tx, _public_id(key_id), grace_seconds=grace_seconds)
    _tell(output, issued)


@command(keys, epilog="Example:  ingest keys revoke 0123456789abcdef")
@click.argument("key_id")
def revoke(output: Output, settings: Settings, *, key_id: str) -> None:
    """End a key at once."""
    with opened_ledger(settings) as ledger, ledger.transaction() as tx:
        revoked = stored.revoke(tx, _public_id(key_id))
        known = revoked or _public_id(key_id) in stored.find(tx, [_public_id(key_id)])
    if not known:
        raise NotFound(f"There is no key {_public_id(key_id)}; `ingest keys list` shows all.")
    output.give({"key_id": _public_id(key_id), "revoked": True})
    output.say(f"{_public_id(key_id)} {'is revoked' if revoked else 'was revoked before'}")


def _public_id(text: str) -> str:
    """Take the public id out of a token, for a person who pasted that."""
    parts = stored.split_token(text)
    return parts[1] if parts else text
