"""What the routes of patterns promise, as data: scopes, parameters, schemas. The handlers are elsewhere."""

from collections.abc import Mapping

from ingest_platform.api.lists import CURSOR, limit_parameter, list_schema
from ingest_platform.api.replies import JSON
from ingest_platform.api.route import Access, ApiRoute, Content, Handler, Parameter, Schema, json_answer
from ingest_platform.domain.contract import WHITE_SPACE
from ingest_platform.domain.errors import Conflict, NotFound
from ingest_platform.feeds.issues import FEED
from ingest_platform.feeds.issues.pattern_stats import ACTIVE_ISSUES_MIN, SORTS, STATUSES, WORDINGS_SHOWN_MAX
from ingest_platform.feeds.issues.references import SOURCES

TAG = "Patterns"
ROOT = "/v1/patterns"
READ = Access(scopes=("patterns:read",))
WRITE = Access(scopes=(FEED.write_scope,))
PAGE, PAGE_MAX = 25, 100
BODY_BYTES_MAX = 64 * 1024

_TEXT: Schema = {"type": "string"}
_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
_NULLABLE_INSTANT: Schema = {"type": ["string", "null"], "format": "date-time"}
_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_NULLABLE_SHARE: Schema = {**_SHARE, "type": ["number", "null"]}
_COUNT: Schema = {"type": "integer", "minimum": 0}


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


_HOW = (
    "matched: found by its wording; merged, split: as people decided about patterns; pinned: a person put this very "
    "issue here."
)
_MATCHED_BY = (
    "first: the pattern began with it; same: the same words; variable: the same but for a word where many were seen; "
    "similar: nearly the same words, weighed by how rare they are."
)
_TERMS: Schema = {
    "type": "array",
    "items": _object({"term": _TEXT, "weight": _SHARE}),
    "description": "The words that matched, and what each adds to the confidence; the weightiest first.",
}
_FIELDS: Mapping[str, Schema] = {
    "id": {"type": "string", "description": "The same for the pattern's life, also when everything is grouped anew."},
    "name": {"type": "string", "description": "Its wording: `<…>` are values, `<*>` is a place where words vary."},
    "status": {
        "enum": list(STATUSES),
        "description": (
            f"watching: fewer than {ACTIVE_ISSUES_MIN} issues; resolved: all of its issues are resolved or closed."
        ),
    },
    "issue_count": _COUNT,
    "confidence": {**_SHARE, "description": "How sure it is that an issue belongs here: the mean of its issues."},
    "risk_score": {
        "type": "integer",
        "minimum": 0,
        "maximum": 100,
        "description": (
            "50 × severity + 30 × rate + 20 × recency, of the issues that are neither resolved nor closed. Severity is "
            "half the worst weight and half the mean (p1 1, p2 0.6, p3 0.3, p4 0.1); rate is the logarithm of the "
            "number of issues seen within a day, 1 from 100 on; recency halves in three days since the last was seen."
        ),
    },
    "first_seen_at": _NULLABLE_INSTANT,
    "last_seen_at": _NULLABLE_INSTANT,
    "sources": {"type": "array", "items": {"enum": list(SOURCES)}},
    "teams": {"type": "array", "items": _TEXT},
}
PATTERN = _object(_FIELDS)
_WORDING = _object(
    {
        "fingerprint": _TEXT,
        "wording": {"type": "string", "description": "Lower-cased, values masked."},
        "issue_count": {**_COUNT, "description": "Issues of this wording that are in this pattern."},
        "how": {"enum": ["matched", "merged", "split"], "description": _HOW},
        "matched_by": {"enum": ["first", "same", "variable", "similar"], "description": _MATCHED_BY},
        "confidence": _SHARE,
        "terms": _TERMS,
    }
)
_CHANGE = _object(
    {
        "id": {"type": "integer"},
        "kind": {
            "enum": ["merged", "split", "pinned", "unpinned", "grouped"],
            "description": "grouped: two patterns were found to be one.",
        },
        "pattern_id": {"type": "string", "description": "The one that stayed, was split, or was pinned to."},
        "other_pattern_id": {**_NULLABLE_TEXT, "description": "The one that went into it, or was split off."},
        "subjects": {"type": "array", "items": _TEXT, "description": "Fingerprints of a split, issues of a pin."},
        "by": {**_NULLABLE_TEXT, "description": "The id of a key; null for what was found."},
        "at": {"type": "string", "format": "date-time"},
        "undone_by": _NULLABLE_TEXT,
        "undone_at": _NULLABLE_INSTANT,
    }
)
EXPLAINED = _object(
    {
        **_FIELDS,
        "risk": _object({"severity": _SHARE, "rate": _SHARE, "recency": _SHARE}),
        "fingerprints": {
            "type": "array",
            "items": _WORDING,
            "maxItems": WORDINGS_SHOWN_MAX,
            "description": "Its wordings, those of most issues first.",
        },
        "fingerprint_count": {**_COUNT, "description": "Of all of its wordings."},
        "changes": {"type": "array", "items": _CHANGE, "maxItems": 100, "description": "The latest first."},
    }
)
ISSUE_PATTERN = _object(
    {
        "issue_id": _TEXT,
        "pattern_id": {**_NULLABLE_TEXT, "description": "Null while the issue is pending and its wording is new."},
        "fingerprint": _TEXT,
        "wording": _NULLABLE_TEXT,
        "how": {"enum": ["matched", "merged", "split", "pinned", None], "description": _HOW},
        "matched_by": {"enum": ["first", "same", "variable", "similar", None], "description": _MATCHED_BY},
        "confidence": _NULLABLE_SHARE,
        "terms": _TERMS,
    }
)
_EXAMPLE_ID = "pat_01kqzcjrpyf27tge33jwvjhkff"
_EXAMPLE: Mapping[str, object] = {
    "id": _EXAMPLE_ID,
    "name": "checkout times out after <num>",
    "status": "watching",
    "issue_count": 1,
    "confidence": 1.0,
    "risk_score": 55,
    "first_seen_at": "2026-05-06T10:15:32.441Z",
    "last_seen_at": "2026-05-06T10:15:32.441Z",
    "sources": ["jira"],
    "teams": ["payments"],
}
_EXAMPLE_WORDING: Mapping[str, object] = {
    "fingerprint": "8d2f6f7a0c4b19e3",
    "wording": "checkout times out after <num>",
    "issue_count": 1,
    "how": "matched",
    "matched_by": "first",
    "confidence": 1.0,
    "terms": [{"term": "checkout", "weight": 0.25}, {"term": "times", "weight": 0.25}],
}
_EXAMPLE_EXPLAINED: Mapping[str, object] = {
    **_EXAMPLE,
    "risk": {"severity": 0.6, "rate": 0.1502, "recency": 1.0},
    "fingerprints": [_EXAMPLE_WORDING],
    "fingerprint_count": 1,
    "changes": [],
}
# No pattern: whatever is no pattern's id is answered as one that is nobody's.
_PATTERN_ID = Parameter(
    name="pattern_id",
    where="path",
    schema=_TEXT,
    description="The pattern's id. One that was merged into another leads there.",
    required=True,
    example=_EXAMPLE_ID,
)
_ID: Schema = {"type": "string", "pattern": r"^[^\u0000]*$"}
_IDS: Schema = {"type": "array", "items": _ID, "minItems": 1, "maxItems": 500}
_BLANK = "".join(f"\\u{ord(each):04x}" for each in WHITE_SPACE)
_NAME_PATTERN = rf"^[^\u0000]*[^\u0000{_BLANK}][^\u0000]*$"


def declare_patterns(handlers: Mapping[str, Handler]) -> list[ApiRoute]:
    """Declare the routes; `handlers` by the ids of their operations."""
    return [
        _list(handlers["list_patterns"]),
        _get(handlers["get_pattern"]),
        _issue(handlers["get_issue_pattern"]),
        _merge(handlers["merge_pattern"]),
        _split(handlers["split_pattern"]),
        *_pins(handlers),
        _undo(handlers["undo_pattern"]),
    ]


def _list(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=ROOT,
        handler=handler,
        operation_id="list_patterns",
        tag=TAG,
        summary="List patterns",
        description=(
            "Groups of issues with the same root wording, of issues that are stored. In the order of `first_seen_at` "
            "pages are stable while issues are added; figures that move may move a pattern from page to page. Risk is "
            "of the moment of the first page on all of them."
        ),
        access=READ,
        parameters=(
            Parameter(
                name="status", schema={"type": "string", "enum": list(STATUSES)}, description="Only those of a status."
            ),
            Parameter(
                name="sort",
                schema={"type": "string", "enum": list(SORTS), "default": "-first_seen_at"},
                description="The order; `-` begins with the greatest or latest.",
            ),
            limit_parameter(default=PAGE, most=PAGE_MAX),
            CURSOR,
        ),
        answers={200: json_answer("A page of patterns.", list_schema(PATTERN))},
    )


def _get(handler: Handler) -> ApiRoute:
    return ApiRoute(
        method="GET",
        path=f"{ROOT}/{{pattern_id}}",
        handler=handler,
        operation_id="get_pattern",
        tag=TAG,
        summary="Show a pattern and why its issues are in it",
        access=READ,
        parameters=(_PATTERN_ID,),
        answers={200: json_answer("The pattern.", EXPLAINED, example=_EXAMPLE_EXPLAINED)},
        refusals=(NotFound,),
    )


def _issue(handler: Handler) -> ApiRoute:
    example = {name: value for name, value in _EXAMPLE_WORDING.items() if name != "issue_count"}
    issue_id = Parameter(name="issue_id", where="path", schema=_TEXT, description="The issue's id.", required=True)
    return ApiRoute(
        method="GET",
        path="/v1/issues/{issue_id}/pattern",
        handler=handler,
        operation_id="get_issue_pattern",
        tag=TAG,
        summary="Show why an issue is in its pattern",
        access=READ,
        parameters=(issue_id,),
        answers={
            200: json_answer(
                "The assignment.",
                ISSUE_PATTERN,
                example={"issue_id": "iss_9mb2nwn2gzssebqfbgn13qndh1", "pattern_id": _EXAMPLE_ID, **example},
            )
        },
        refusals=(NotFound,),
    )


def _changing(name: str, handler: Handler, summary: str, description: str, body: Content) -> ApiRoute:
    return ApiRoute(
        method="POST",
        path=f"{ROOT}/{{pattern_id}}/{name}",
        handler=handler,
        operation_id=f"{name}_pattern",
        tag=TAG,
        summary=summary,
        description=description,
        access=WRITE,
        parameters=(_PATTERN_ID,),
        bodies={JSON: body},
        answers={200: json_answer("The pattern as it is now.", EXPLAINED, example=_EXAMPLE_EXPLAINED)},
        refusals=(NotFound, Conflict),
    )


def _body(properties: Mapping[str, Schema], *, required: tuple[str, ...], example: object, **rules: object) -> Content:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **rules,
    }
    return Content(schema=schema, example=example, bytes_max=BODY_BYTES_MAX)


def _merge(handler: Handler) -> ApiRoute:
    return _changing(
        "merge",
        handler,
        "Merge patterns",
        "This one `into` another, or others (`pattern_ids`) into this one; answered with the one that stays. Their "
        "issues, and all that will be found to be like them, belong to it from now on; their ids lead to it. What is "
        "one already: 409.",
        _body(
            {"into": {"type": ["string", "null"]}, "pattern_ids": {**_IDS, "type": ["array", "null"]}},
            required=(),
            example={"into": _EXAMPLE_ID},
            oneOf=[
                {"required": ["into"], "properties": {"into": _ID, "pattern_ids": {"type": "null"}}},
                {"required": ["pattern_ids"], "properties": {"pattern_ids": _IDS, "into": {"type": "null"}}},
            ],
        ),
    )


def _split(handler: Handler) -> ApiRoute:
    name: Schema = {"type": ["string", "null"], "maxLength": 200, "pattern": _NAME_PATTERN}
    return _changing(
        "split",
        handler,
        "Split wordings off a pattern",
        "Wordings, by their fingerprints as the pattern shows them, become a pattern of their own; answered with the "
        "new one. They stay there whatever is found; wordings that are new are grouped as if nothing had been split.",
        _body(
            {"fingerprints": _IDS, "name": {**name, "description": "Else it is called by the oldest of the wordings."}},
            required=("fingerprints",),
            example={"fingerprints": ["8d2f6f7a0c4b19e3"]},
        ),
    )


def _pins(handlers: Mapping[str, Handler]) -> list[ApiRoute]:
    body = _body(
        {"issue_ids": _IDS}, required=("issue_ids",), example={"issue_ids": ["iss_9mb2nwn2gzssebqfbgn13qndh1"]}
    )
    return [
        _changing(
            "pin",
            handlers["pin_pattern"],
            "Put issues into a pattern",
            "Whatever their wording is, and however it changes. An issue is pinned to one pattern at most.",
            body,
        ),
        _changing(
            "unpin",
            handlers["unpin_pattern"],
            "Let issues go that were put into a pattern",
            "They belong to the pattern of their wording again.",
            body,
        ),
    ]


def _undo(handler: Handler) -> ApiRoute:
    number: Schema = {"type": ["integer", "null"], "description": "One of `changes`; else the last one of a person."}
    return _changing(
        "undo",
        handler,
        "Undo what a person did to a pattern",
        "A merge, a split, pins; answered with the pattern that it was done to. What has been changed since is to be "
        "undone first: 409. What was found is not undone, but split.",
        _body({"change_id": number}, required=(), example={}),
    )
