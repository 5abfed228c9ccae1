"""What is written for people: it exists, its links lead somewhere, its commands and examples are real."""

import dataclasses
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest

from ingest_platform.api.services import Limits
from ingest_platform.app import create_app
from ingest_platform.cli import COMMANDS
from ingest_platform.cli.demo import seed
from ingest_platform.declaring import Sign, apply
from ingest_platform.feeds import discover
from ingest_platform.pipeline.platform import Platform
from ingest_platform.pipeline.work import work_until_idle
from ingest_platform.settings import load_settings
from ingest_platform.storage.ledger import Ledger
from ingest_platform_tests.serving import listening

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DECISIONS = ROOT / "docs" / "decisions"
DECISION_LINES_MAX = 40
# The words that every decision answers, in this order.
DECISION_PARTS = ("Context", "Decision", "Consequences", "Alternatives")

_SKIPPED_FOLDERS = {".venv", ".git", ".pytest_cache", ".ruff_cache", ".hypothesis", "node_modules"}
# [text](target), without images' sizes and titles.
_LINK = re.compile(r"(?<!\\)\]\(<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_MAKE = re.compile(r"\bmake ([a-z-]+)\b")


def _documents() -> list[Path]:
    return sorted(path for path in ROOT.rglob("*.md") if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(ROOT).parts))


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _anchors(document: Path) -> set[str]:
    """List a document's headings as its links name them."""
    text = _CODE.sub("", document.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _fenced(document: Path, language: str) -> list[str]:
    text = document.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


documents = pytest.mark.parametrize("document", _documents(), ids=_named)


def test_the_readme_begins_with_how_to_start_and_how_to_test() -> None:
    text = README.read_text(encoding="utf-8")
    assert "make up" in text
    assert "make test" in text


@documents
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = _CODE.sub("", document.read_text(encoding="utf-8"))
    broken: list[str] = []
    for target in _LINK.findall(text):
        if re.match(r"[a-z][a-z+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        found = (document.parent / unquote(path)).resolve() if path else document
        missing_anchor = bool(anchor) and found.suffix == ".md" and found.is_file() and anchor not in _anchors(found)
        if not found.exists() or not found.is_relative_to(ROOT) or missing_anchor:
            broken.append(target)
    assert broken == []


@documents
def test_documents_name_no_paths_of_one_machine(document: Path) -> None:
    found = re.findall(r"(?<![\w.])/(?:work|root|home|Users|tmp)/[^\s)`\"']*", document.read_text(encoding="utf-8"))
    assert found == []


@documents
def test_the_make_targets_that_are_named_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    in_code = re.findall(r"`+([^`]+)`+", document.read_text(encoding="utf-8"))
    named = {target for code in in_code for target in _MAKE.findall(code)}
    assert named <= targets


@documents
def test_python_examples_can_be_read_by_python(document: Path) -> None:
    for example in _fenced(document, "python"):
        compile(example, f"{_named(document)}, example", "exec")


def _decisions() -> list[Path]:
    return sorted(path for path in DECISIONS.glob("*.md") if path.name != "README.md")


@pytest.mark.parametrize("decision", _decisions(), ids=_named)
def test_a_decision_is_short_and_answers_the_four_questions(decision: Path) -> None:
    text = decision.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= DECISION_LINES_MAX
    assert re.findall(r"^## (\w+)$", text, re.MULTILINE) == list(DECISION_PARTS)


# The README's examples, on a platform that is alive


def _section(document: Path, title: str) -> str:
    text = document.read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@contextmanager
def _working(platform: Platform) -> Iterator[None]:
    """Work off whatever is accepted while the block runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            for feed in discover():
                work_until_idle(
                    platform, feed, day=None, run_id="run-1", linger_seconds=0.1, stop=ended.is_set, wait=ended.wait
                )

    services = [service for feed in discover() for service in feed.services]
    works = [work, *(partial(service.run, platform, ended.is_set, ended.wait) for service in services)]
    threads = [threading.Thread(target=each, daemon=True) for each in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(timeout=30)
            assert not thread.is_alive()


@pytest.fixture
def checkout(database_url: str, tmp_path: Path) -> Path:
    """Make a folder that looks like a checkout after `make up`: installed, with the first credentials."""
    folder = tmp_path / "checkout"
    (folder / "data").mkdir(parents=True)
    (folder / ".venv").symlink_to(ROOT / ".venv", target_is_directory=True)
    seed(load_settings(data_dir=folder / "data", database_url=database_url))
    return folder


def _answers(platform: Platform, checkout: Path, section: str) -> list[str]:
    """Run a section's commands on a platform that is alive; what each block has printed."""
    app = create_app(feeds=discover(), platform=platform, limits=Limits(disk_free_bytes_min=1))
    with listening(app) as (host, port), _working(platform):
        script = "set -euo pipefail\n"
        for block in _blocks(section, "sh"):
            # Each block may use what the ones before it have set.
            script += block.replace("127.0.0.1:8000", f"{host}:{port}") + "echo\necho '== end of block'\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=checkout, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("== end of block\n")


def test_the_first_import_goes_as_the_readme_says(platform: Platform, checkout: Path) -> None:
    section = _section(README, "A first import")
    answers = _answers(platform, checkout, section)
    shown = json.loads(_blocks(section, "json")[0])
    answered = json.loads(answers[0])
    assert _without_time(answered) == _without_time(shown)
    points, rejected = _objects(answers[1])
    page = points["data"]
    assert isinstance(page, list)
    assert [point["value"] for point in page] == [73.9]
    assert "warm" in json.dumps(rejected)


def test_the_first_issue_goes_as_the_readme_says(platform: Platform, checkout: Path) -> None:
    section = _section(README, "A first issue")
    # With the key of the first import.
    *_, sent, seen = _answers(platform, checkout, _section(README, "A first import") + section)[:-1]
    reply, told = _blocks(section, "json")
    assert _steady(sent) == _steady(reply)
    assert _steady(seen) == _steady(told)


def test_a_first_batch_of_issues_goes_as_their_readme_says(platform: Platform, checkout: Path) -> None:
    document = ROOT / "ingest_platform" / "feeds" / "issues" / "README.md"
    first_batch, reading = _section(document, "A first batch"), _section(document, "Reading")
    sent, again, history, _ = _answers(platform, checkout, first_batch + reading)
    reply, status = _blocks(first_batch, "json")
    # An issue's id is a function of its key, so the document has the very one.
    assert _steady(sent) == _steady(reply)
    second, ended = _objects(again)
    assert second["issue_ids"][0] == _objects(reply)[0]["issue_ids"][0]  # type: ignore[index]
    assert _without_time(ended) == _without_time(json.loads(status))
    assert _steady(history) == _steady(*_blocks(reading, "json"))


def test_a_first_event_goes_as_the_readme_of_streams_says(platform: Platform, checkout: Path) -> None:
    section = _section(ROOT / "ingest_platform" / "feeds" / "stream_events" / "README.md", "A first event")
    # The worker's files are where the section looks for them.
    (checkout / "data" / "exports").mkdir()
    sent, explained, delivered, _ = _answers(
        dataclasses.replace(platform, data_dir=checkout / "data"), checkout, section
    )
    reply, told = _blocks(section, "json")
    assert _steady(sent) == _steady(reply)
    assert _without_deliveries(explained) == _without_deliveries(told)
    exported, stats = _objects(delivered)
    assert exported["document"] == _objects(told)[0]["event"]
    assert stats["balanced"] is True


def _without_deliveries(text: str) -> list[dict[str, object]]:
    """Read explanations, of which a delivery may have begun or not."""
    found = _steady(text)
    for each in found:
        assert isinstance(each["destinations"], list)
        for destination in each["destinations"]:
            destination["state"], destination["deliveries"] = "any", []
    return found


def _steady(text: str) -> list[dict[str, object]]:
    """Read JSON objects without what is another one each time: ids that are made anew, times, cursors, keys."""
    text = re.sub(r"\b(ing_job|pat|evt)_[0-9a-z]{26}\b", r"\1", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "now", text)
    return _objects(re.sub(r'("(?:next_cursor|by)":)"[^"]*"', r'\1"one"', text))


def _objects(text: str) -> list[dict[str, object]]:
    """Read JSON objects that follow each other, as answers on a terminal do."""
    found: list[dict[str, object]] = []
    place = 0
    while rest := text[place:].lstrip():
        one, length = json.JSONDecoder().raw_decode(rest)
        found.append(one)
        place = len(text) - len(rest) + length
    return found


def _without_time(job: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in job.items() if name not in {"job_id", "created_at", "finished_at"}}


def test_the_declaration_of_the_readme_can_be_applied(ledger: Ledger, tmp_path: Path) -> None:
    (declaration,) = _blocks(_section(README, "Your own workspace"), "yaml")
    file = tmp_path / "platform.yaml"
    file.write_text(declaration, encoding="utf-8")
    changes = apply(ledger, [file], feeds=discover())
    assert {change.sign for change in changes} == {Sign.CREATED}
    assert {change.sign for change in apply(ledger, [file], feeds=discover())} == {Sign.UNCHANGED}


@documents
def test_the_commands_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    code = [*re.findall(r"`([^`\n]+)`", _CODE.sub("", text)), *_blocks(text, "(?:sh|bash|console)")]
    # After a line's begin, a bin folder, a prompt or a word that ends a command.
    named = {
        name for each in code for name in re.findall(r"(?:^|bin/|\$ |&& |; )ingest ([a-z][a-z-]*)", each, re.MULTILINE)
    }
    assert named <= set(COMMANDS)
