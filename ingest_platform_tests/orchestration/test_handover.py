"""Questions between processes of one machine."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest_platform.orchestration.handover import Message, Switchboard, ask, sockets


def echo(message: Message) -> Message:
    return {"answer": message["ask"]}


@contextmanager
def answering(folder: Path) -> Generator[Path]:
    board = Switchboard(folder, echo)
    board.start()
    try:
        yield board.path
    finally:
        board.close()


def test_a_question_is_answered(tmp_path: Path) -> None:
    with answering(tmp_path) as path:
        assert ask(path, {"ask": "run"}) == {"answer": "run"}


def test_a_folder_may_lie_deep(tmp_path: Path) -> None:
    with answering(tmp_path / ("d" * 90) / ("e" * 90)) as path:
        assert ask(path, {"ask": "run"}) == {"answer": "run"}


def test_who_has_ended_answers_no_more_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with answering(tmp_path) as path:
        assert sockets(tmp_path) == [path]
    assert sockets(tmp_path) == []
    with pytest.raises(OSError, match="No such file"):
        ask(path, {"ask": "run"})


def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    with answering(tmp_path) as path:
        assert path.stat().st_mode & 0o077 == 0


def test_nonsense_does_not_end_the_switchboard(tmp_path: Path) -> None:
    with answering(tmp_path) as path:
        with pytest.raises(OSError, match=r"hung up|reset"):
            ask(path, {"no": "question" * 10_000})
        assert ask(path, {"ask": "run"}) == {"answer": "run"}
