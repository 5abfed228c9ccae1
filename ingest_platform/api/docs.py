"""The documentation page: the OpenAPI document as one page of HTML that needs nothing from anywhere else."""

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import cast

from ingest_platform.api.openapi import Json, operations

CONTENT_TYPE = "text/html; charset=utf-8"
_SUCCESS_END = 300


def page(document: Mapping[str, object]) -> bytes:
    """Render a document."""
    template = (resources.files("ingest_platform.api") / "docs.html").read_text(encoding="utf-8")
    info = cast("Mapping[str, str]", document["info"])
    filled = (
        template.replace("{{title}}", html.escape(info["title"]))
        .replace("{{version}}", html.escape(info["version"]))
        .replace("{{introduction}}", _paragraphs(info["description"]))
        .replace("{{contents}}", _contents(document))
        .replace("{{operations}}", _sections(document))
    )
    return filled.encode()


def _by_tag(document: Mapping[str, object]) -> dict[str, list[tuple[str, str, Json]]]:
    tags: dict[str, list[tuple[str, str, Json]]] = {}
    for path, method, operation in operations(document):
        # An alias says nothing new; it is named with the path that it stands for.
        if "deprecated" not in operation:
            tags.setdefault(cast("list[str]", operation["tags"])[0], []).append((path, method, operation))
    return tags


def _aliases(document: Mapping[str, object], operation: Json) -> list[str]:
    prefix = f"{operation['operationId']}_alias"
    return [path for path, _, other in operations(document) if str(other["operationId"]).startswith(prefix)]


def _contents(document: Mapping[str, object]) -> str:
    groups: list[str] = []
    for tag, found in _by_tag(document).items():
        links = "".join(
            f'<li><a href="#{operation["operationId"]}"><b class="{method.lower()}">{method}</b>'
            f" {html.escape(str(operation['summary']))}</a></li>"
            for _, method, operation in found
        )
        groups.append(f"<h2>{html.escape(tag)}</h2><ul>{links}</ul>")
    return "".join(groups)


def _sections(document: Mapping[str, object]) -> str:
    return "".join(
        f"<h2>{html.escape(tag)}</h2>"
        + "".join(_operation(document, path, method, operation) for path, method, operation in found)
        for tag, found in _by_tag(document).items()
    )


def _operation(document: Mapping[str, object], path: str, method: str, operation: Json) -> str:
    aliases = _aliases(document, operation)
    also = "Also: " + ", ".join(f"<code>{html.escape(alias)}</code>" for alias in aliases) if aliases else ""
    return (
        f'<section id="{operation["operationId"]}">'
        f'<h3><b class="{method.lower()}">{method}</b> <code>{html.escape(path)}</code></h3>'
        f'<p class="summary">{html.escape(str(operation["summary"]))}</p>'
        f"{_paragraphs(str(operation['description']))}"
        f'<p class="also">{also}</p>'
        f"{_parameters(cast('Sequence[Json]', operation['parameters']))}"
        f"{_bodies(operation)}"
        f"<h4>Example</h4><pre>{html.escape(curl(path, method, operation))}</pre>"
        f"{_responses(operation)}"
        "</section>"
    )


def _paragraphs(text: str) -> str:
    shown: list[str] = []
    for paragraph in text.strip().split("\n\n"):
        parts = html.escape(" ".join(paragraph.split())).split("`")
        shown.append("".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)))
    return "".join(f"<p>{paragraph}</p>" for paragraph in shown if paragraph)


def _parameters(parameters: Sequence[Json]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{html.escape(str(each['name']))}</code>{' <i>required</i>' if each['required'] else ''}</td>"
        f"<td>{each['in']}</td><td>{html.escape(_kind(cast('Json', each['schema'])))}</td>"
        f"<td>{_paragraphs(str(each['description']))}</td></tr>"
        for each in parameters
    )
    return f"<h4>Parameters</h4><table><tr><th>Name<th>In<th>Type<th>Meaning</tr>{rows}</table>"


def _kind(schema: Mapping[str, object]) -> str:
    """Say what a value may be, in a few words.

    >>> _kind({"type": "integer", "minimum": 1, "maximum": 50, "default": 50})
    'integer, 1 to 50, default 50'
    """
    if "enum" in schema:
        return " | ".join(str(choice) for choice in cast("Sequence[object]", schema["enum"]))
    kind = schema.get("type", "object")
    words = [" or ".join(cast("Sequence[str]", kind)) if isinstance(kind, list) else str(kind)]
    if "format" in schema:
        words.append(str(schema["format"]))
    if "minimum" in schema and "maximum" in schema:
        words.append(f"{schema['minimum']} to {schema['maximum']}")
    if "default" in schema:
        words.append(f"default {json.dumps(schema['default'])}")
    return ", ".join(words)


def _bodies(operation: Json) -> str:
    if "requestBody" not in operation:
        return ""
    contents = cast("Mapping[str, Json]", cast("Json", operation["requestBody"])["content"])
    shown = "".join(
        f"<details><summary><code>{html.escape(name)}</code></summary>{_example(content)}{_schema(content)}</details>"
        for name, content in contents.items()
    )
    return f"<h4>Body</h4>{shown}"


def _example(content: Json) -> str:
    if "example" not in content:
        return ""
    example = content["example"]
    text = html.escape(example) if isinstance(example, str) else _pretty(example)
    return f"<pre>{text}</pre>"


def _schema(content: Json) -> str:
    return f"<pre>{_pretty(content['schema'])}</pre>" if "schema" in content else ""


def _pretty(value: object) -> str:
    return html.escape(json.dumps(value, indent=2, ensure_ascii=False))


def _responses(operation: Json) -> str:
    shown: list[str] = []
    for status, response in cast("Mapping[str, Json]", operation["responses"]).items():
        inside = ""
        if int(status) < _SUCCESS_END:
            contents = cast("Mapping[str, Json]", response.get("content", {}))
            inside = "".join(_example(content) + _schema(content) for content in contents.values())
        headers = ", ".join(f"<code>{name}</code>" for name in cast("Json", response["headers"]))
        head = f'<b class="status s{status[0]}">{status}</b> {_inline(str(response["description"]))}'
        shown.append(f"<details><summary>{head}</summary><p>Headers: {headers}</p>{inside}</details>")
    return f"<h4>Answers</h4>{''.join(shown)}"


def _inline(text: str) -> str:
    return _paragraphs(text).removeprefix("<p>").removesuffix("</p>")


def curl(path: str, method: str, operation: Json) -> str:
    """Write a command that tries an operation."""
    # -N shows the pieces of a stream as they come.
    quiet = "-sSN" if _is_stream(operation) else "-sS"
    lines = [f"curl {quiet}" if method == "GET" else f"curl {quiet} -X {method}"]
    if operation["security"]:
        lines.append('-H "Authorization: Bearer $INGEST_TOKEN"')
    if "requestBody" in operation:
        contents = cast("Mapping[str, Json]", cast("Json", operation["requestBody"])["content"])
        name, content = next(iter(contents.items()))
        lines.append(f'-H "Content-Type: {name}"')
        if "example" in content:
            lines.append(f"-d '{json.dumps(content['example'], ensure_ascii=False)}'")
    lines.append(f'"$INGEST_URL{path}"')
    return " \\\n  ".join(lines)


def _is_stream(operation: Json) -> bool:
    answers = cast("Mapping[str, Mapping[str, Json]]", operation["responses"])
    return any("text/event-stream" in answer.get("content", {}) for answer in answers.values())
