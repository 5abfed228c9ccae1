"""A route declared as data: how it is dispatched, guarded and documented all follow from one `ApiRoute`."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from ingest_platform.api.replies import JSON, Reply
from ingest_platform.domain.errors import Refusal
from ingest_platform.pipeline.admit import RateRule

if TYPE_CHECKING:
    from ingest_platform.api.call import Call

Handler: TypeAlias = "Callable[[Call], Awaitable[Reply]]"
Schema: TypeAlias = Mapping[str, object]

API_KEY = frozenset({"api"})
PAT = frozenset({"pat"})
ANY_KEY = API_KEY | PAT


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of the path or the query: read by its schema, and documented by it."""

    name: str
    where: str = "query"
    schema: Schema
    description: str
    required: bool = False
    example: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Who may use a route: the kinds of token, and the scopes of which any one is enough."""

    scopes: tuple[str, ...]
    kinds: frozenset[str] = API_KEY


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A body as it may be sent or is answered: its schema, an example and, when sent, its limit.

    `part_types` are the content types of a form's files.
    """

    schema: Schema
    example: object = None
    bytes_max: int = 0
    part_types: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One documented response of a route, refusals apart."""

    description: str
    content: Mapping[str, Content] = field(default_factory=dict[str, Content])
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def json_answer(description: str, schema: Schema, *, example: object = None, **headers: str) -> Answer:
    """Document a response in JSON."""
    return Answer(
        description=description,
        content={JSON: Content(schema=schema, example=example)},
        headers={name.replace("_", "-"): text for name, text in headers.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute:
    """One method of one path.

    `path` has its variables in braces; `aliases` are other paths with the same behaviour. `bodies` are the content
    types that it reads. `refusals` are those that can't be told from the other fields.
    """

    method: str
    path: str
    handler: Handler
    operation_id: str
    tag: str
    summary: str
    answers: Mapping[int, Answer]
    description: str = ""
    access: Access | None = None
    rate: RateRule | None = None
    parameters: tuple[Parameter, ...] = ()
    bodies: Mapping[str, Content] = field(default_factory=dict[str, Content])
    refusals: tuple[type[Refusal], ...] = ()
    aliases: tuple[str, ...] = ()

    @property
    def idempotent(self) -> bool:
        """Whether the route takes an `Idempotency-Key`: every guarded POST does."""
        return self.method == "POST" and self.access is not None

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths of the route, its own first."""
        return (self.path, *self.aliases)
