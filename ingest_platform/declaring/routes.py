"""Declarations over HTTP: the file that `ingest apply` reads, sent by an administrator of a workspace, for that one.

Workspaces themselves (their quotas and rate limits) are declared by whoever runs the platform, with `ingest apply`.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from ingest_platform.api.call import Call
from ingest_platform.api.replies import JSON, Reply, json_reply
from ingest_platform.api.route import Access, ApiRoute, Content, Parameter, Schema, json_answer
from ingest_platform.api.services import MIB, Services
from ingest_platform.declaring.applying import apply
from ingest_platform.declaring.changes import AppliedChange, change_object
from ingest_platform.declaring.mistakes import Mistake, WronglyDeclared
from ingest_platform.domain.errors import Detail, Malformed, Unprocessable

# One with a lookup table of the largest size, and much besides.
BODY_BYTES_MAX = 4 * MIB
FILES_MAX = 20
FILE_NAME_BYTES_MAX = 200
NAME = "declaration.yaml"
WRONG = "wrongly_declared"
APPLY = Access(scopes=("admin",), kinds=frozenset({"pat"}))


class _Given(msgspec.Struct, forbid_unknown_fields=True):
    declaration: str
    variables: dict[str, str] = {}
    files: dict[str, str] = {}


_decode = msgspec.json.Decoder(_Given).decode


class ApplyRoutes:
    """The handler."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def apply_declaration(self, call: Call) -> Reply:
        """Bring a declaration into the ledger, all of it or nothing."""
        assert call.body is not None
        body, dry_run = await call.body.read(), bool(call.get("dry_run", bool))
        call.know_body(body, salt=f"dry_run={dry_run}".encode())
        given = _read(body)
        changes = await self._services.run(lambda: self._apply(given, workspace=call.who.workspace, dry_run=dry_run))
        return json_reply(200, {"dry_run": dry_run, "changes": [change_object(each) for each in changes]})

    def _apply(self, given: _Given, *, workspace: str, dry_run: bool) -> Sequence[AppliedChange]:
        with tempfile.TemporaryDirectory(prefix="ingest-apply-") as folder:
            path = Path(folder) / NAME
            path.write_text(given.declaration, encoding="utf-8")
            for name, text in given.files.items():
                (Path(folder) / name).write_text(text, encoding="utf-8", newline="")
            try:
                return apply(
                    self._services.ledger,
                    [path],
                    feeds=self._services.feeds,
                    dry_run=dry_run,
                    read_variable=given.variables.get,
                    only=workspace,
                )
            except WronglyDeclared as wrong:
                raise _refused(wrong, folder=folder) from None


def _read(body: bytes) -> _Given:
    try:
        given = _decode(body)
    except msgspec.ValidationError as error:
        raise Malformed(f"The body does not fit: {error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not valid JSON in UTF-8.") from None
    if len(given.files) > FILES_MAX:
        raise Malformed(f"files has {len(given.files)} entries; the limit is {FILES_MAX}.", param="files")
    for name in given.files:
        # Beside the declaration, and nowhere else.
        plain = PurePosixPath(name).name == name and name not in {"", ".", "..", NAME} and "\x00" not in name
        if not plain or len(name.encode()) > FILE_NAME_BYTES_MAX:
            shown = name[:FILE_NAME_BYTES_MAX]
            raise Malformed(f"files: {shown!r} must be the name of a file, without folders.", param="files")
    return given


def _refused(wrong: WronglyDeclared, *, folder: str) -> Unprocessable:
    number = len(wrong.mistakes)
    return Unprocessable(
        f"The declaration has {number} mistake{'s' if number > 1 else ''}; nothing was applied.",
        code=WRONG,
        details=[Detail(code=WRONG, param=each.path or None, message=_told(each, folder)) for each in wrong.mistakes],
    )


def _told(mistake: Mistake, folder: str) -> str:
    # Where it lay for a moment is nobody's business.
    message = mistake.message.replace(f"{folder}/", "")
    return f"line {mistake.line}: {message}" if mistake.line else message


_TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
_BODY: Schema = {
    "type": "object",
    "properties": {
        "declaration": {
            "type": "string",
            "description": "The YAML file that `ingest apply` would read. Entries without a workspace are the key's, "
            "and no other workspace's are taken.",
        },
        "variables": {**_TEXTS, "description": "Values of the `${VARIABLES}` in it; kept as secrets, never shown."},
        "files": {**_TEXTS, "description": "Files that it names (lookup tables), by their names."},
    },
    "required": ["declaration"],
    "additionalProperties": False,
}
_CHANGE: Schema = {
    "type": "object",
    "properties": {
        "change": {"enum": ["created", "changed", "retired", "unchanged"]},
        "section": {"type": "string"},
        "workspace": {"type": "string"},
        "id": {"type": "string"},
        "version": {"type": ["integer", "null"]},
        "fields": {"type": "object", "description": "What has changed, with before and after of each."},
        "secret": {"type": "string", "description": "One that was made; this is the only time that it is shown."},
        "assigned": {"type": "string", "description": "What it is called by besides its name."},
    },
    "required": ["change", "section", "workspace", "id", "version", "fields"],
}
_EXAMPLE: Mapping[str, object] = {"declaration": "sites:\n  - {name: plant-a}\n"}


def routes(services: Services) -> Sequence[ApiRoute]:
    """Declare the route."""
    return [
        ApiRoute(
            method="POST",
            path="/v1/declarations",
            handler=ApplyRoutes(services).apply_declaration,
            operation_id="apply_declaration",
            tag="Declarations",
            summary="Declare sites, streams, destinations …",
            description=(
                "What `ingest apply` does with a file: everything in it is brought into one new revision, or nothing. "
                "Each mistake is told with its line and its place."
            ),
            access=APPLY,
            parameters=(
                Parameter(
                    name="dry_run",
                    schema={"type": "boolean"},
                    description="Say what would change, and change nothing.",
                ),
            ),
            bodies={JSON: Content(schema=_BODY, example=_EXAMPLE, bytes_max=BODY_BYTES_MAX)},
            answers={
                200: json_answer(
                    "What has changed.",
                    {
                        "type": "object",
                        "properties": {"dry_run": {"type": "boolean"}, "changes": {"type": "array", "items": _CHANGE}},
                        "required": ["dry_run", "changes"],
                        "additionalProperties": False,
                    },
                )
            },
            refusals=(Malformed, Unprocessable),
        )
    ]
