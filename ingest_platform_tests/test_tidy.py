"""The rules of style that ruff, pyright and import-linter do not know, held by machine."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ingest_platform"
TESTS = ROOT / "ingest_platform_tests"
FEEDS = PACKAGE / "feeds"

FUNCTION_LINES_MAX = 40
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}
FEED_FILES = {"__init__.py", "contract.py", "wire.py", "routes.py", "load.py", "README.md"}

# Who may catch everything, and why; whoever catches it to clean up and raises it again needs no place here.
CATCHES_EVERYTHING: dict[str, str] = {
    "ingest_platform/api/service.py": "the last resort of a request: logged whole, answered 500, told to nobody",
    "ingest_platform/feeds/stream_events/delivering/deliverer.py": "raised by whoever runs the thread that met it",
    "ingest_platform/feeds/stream_events/delivering/sending.py": "kept as the outcome of one delivery, and logged",
    "ingest_platform/pipeline/grouped.py": "handed to those who asked, so that none of them waits for ever",
    "ingest_platform/pipeline/sandboxed.py": "told to the parent process, which decides",
    "ingest_platform_tests/crash/clients.py": "raised where the trial is, in another thread",
}
# Modules without a test module of their own, and where they are tested instead.
TESTED_ELSEWHERE: dict[str, str] = {
    "__main__.py": "test_cli.py starts it",
    "domain/feed.py": "test_conformance.py keeps its laws, for every feed",
    "domain/submission.py": "storage/test_jobs.py: a submission comes back as it was accepted",
    "pipeline/platform.py": "holds values; pipeline/test_work.py works with it",
    "pipeline/report.py": "pipeline/test_work.py: a run's report balances",
    "storage/files.py": "pipeline/test_files.py drops files",
}
# What the platform shows to the outside is tested from the outside: over HTTP, as commands. One test module in the same
# place is asked for, not one for each part.
SURFACES = (PACKAGE / "api", PACKAGE / "cli", FEEDS)


def _modules(*folders: Path) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def _named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# Each rule looks at each file.
@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


ours = pytest.mark.parametrize("path", _modules(PACKAGE), ids=_named)
everywhere = pytest.mark.parametrize("path", _modules(PACKAGE, TESTS, ROOT / "benchmarks"), ids=_named)


@everywhere
def test_a_module_says_what_belongs_in_it(path: Path) -> None:
    tree = _tree(path)
    if path.parent.is_relative_to(TESTS) and not tree.body:
        return
    first = (ast.get_docstring(tree) or "").partition("\n\n")[0]
    assert first.endswith((".", "?", "!", ":", ")")), "the module needs a docstring that begins with a sentence"


@everywhere
def test_a_module_is_named_after_what_it_holds(path: Path) -> None:
    assert FORBIDDEN_NAMES.isdisjoint(path.relative_to(ROOT).with_suffix("").parts)


def _functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


@everywhere
def test_a_function_fits_on_a_screen(path: Path) -> None:
    long = {each.name: _lines(each) for each in _functions(_tree(path)) if _lines(each) > FUNCTION_LINES_MAX}
    assert long == {}


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    caught = [] if handler.type is None else [each for each in ast.walk(handler.type) if isinstance(each, ast.Name)]
    return handler.type is None or any(each.id in {"Exception", "BaseException"} for each in caught)


def _raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@everywhere
def test_nobody_catches_everything_to_carry_on(path: Path) -> None:
    if _named(path) in CATCHES_EVERYTHING:
        return
    handlers = [node for node in ast.walk(_tree(path)) if isinstance(node, ast.ExceptHandler)]
    assert [each.lineno for each in handlers if _catches_everything(each) and not _raises_again(each)] == []


def test_whoever_may_catch_everything_still_does() -> None:
    for name in CATCHES_EVERYTHING:
        handlers = [node for node in ast.walk(_tree(ROOT / name)) if isinstance(node, ast.ExceptHandler)]
        assert any(_catches_everything(each) for each in handlers), f"{name} needs no exception from the rule"


@ours
def test_only_the_settings_read_the_environment(path: Path) -> None:
    if path == PACKAGE / "settings.py":
        return
    tree = _tree(path)
    read = [
        node.lineno
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os" and _imports(node, {"environ", "getenv"}))
    ]
    assert read == []


def _imports(node: ast.ImportFrom, names: set[str]) -> bool:
    return not names.isdisjoint(alias.name for alias in node.names)


def _imported(tree: ast.Module) -> set[str]:
    found = set[str]()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@ours
def test_only_storage_opens_duckdb(path: Path) -> None:
    if not path.is_relative_to(PACKAGE / "storage"):
        assert "duckdb" not in _imported(_tree(path))


@ours
def test_the_time_is_told_with_its_zone(path: Path) -> None:
    told = [
        node.lineno
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (node.func.attr == "utcnow" or (node.func.attr == "now" and ast.unparse(node.func.value) == "datetime"))
        and not node.args
        and not node.keywords
    ]
    assert told == []


@ours
def test_polars_calls_no_python_back(path: Path) -> None:
    """Its threads would wait for the interpreter's lock, held by a thread that waits for them: both stand still."""
    called = {node.attr for node in ast.walk(_tree(path)) if isinstance(node, ast.Attribute)}
    assert called.isdisjoint({"map_batches", "map_elements", "map_groups"})


@everywhere
def test_nothing_is_left_to_be_done(path: Path) -> None:
    # Put together here, so that this line is not found.
    marks = "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X"])
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, start=1) if re.search(rf"\b({marks})\b", line)] == []


def _mirror(module: Path) -> Path:
    return TESTS / module.relative_to(PACKAGE).with_name(f"test_{module.name}")


@functools.cache
def _modules_named_in(folder: Path) -> frozenset[str]:
    """List what the tests of one folder import: modules, and names that may be modules."""
    named = set[str]()
    for path in folder.glob("*.py"):
        for node in ast.walk(_tree(path)):
            if isinstance(node, ast.ImportFrom) and node.module:
                named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
    return frozenset(named)


@ours
def test_a_module_has_tests_in_the_same_place(path: Path) -> None:
    """Of its own name; or, where several small modules are one thing, the tests of its folder import it."""
    name, folder = path.relative_to(PACKAGE).as_posix(), _mirror(path).parent
    if path.name == "__init__.py" or name in TESTED_ELSEWHERE or _mirror(path).is_file():
        return
    if any(path.is_relative_to(surface) for surface in SURFACES):
        assert [*folder.glob("test_*.py"), *folder.parent.glob(f"test_{folder.name}.py")], (
            f"{_named(folder)} has no tests"
        )
        return
    dotted = _named(path).removesuffix(".py").replace("/", ".")
    assert dotted in _modules_named_in(folder), f"{_named(_mirror(path))} is missing"


@pytest.mark.parametrize("name", sorted(TESTED_ELSEWHERE))
def test_what_is_tested_elsewhere_exists_and_has_no_tests_in_its_place(name: str) -> None:
    assert (PACKAGE / name).is_file()
    assert not _mirror(PACKAGE / name).is_file(), f"{name} has tests of its own and needs no place in the list"


@pytest.mark.parametrize(
    "folder",
    [path.parent for folder in (FEEDS, TESTS / "example_feed") for path in sorted(folder.glob("*/__init__.py"))],
    ids=lambda folder: folder.name,
)
def test_a_feed_is_one_folder_with_everything_in_it(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= FEED_FILES


def test_the_lock_file_names_no_address() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "://" in line or line.startswith("-")] == []
