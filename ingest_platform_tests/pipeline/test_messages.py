"""Rejections go through a file and come back as they were."""

from pathlib import Path

from ingest_platform.domain.rejection import Problem, Rejection
from ingest_platform.pipeline.messages import read_rejections, write_rejections


def test_rejections_come_back_as_they_were(tmp_path: Path) -> None:
    words = Problem(code="invalid_type", field="välue", message="…")
    whole = Problem(code="invalid_json", field=None, message="")
    sent = [
        Rejection(submission=7, record_index=0, problems=(words, whole), raw=b"\xff\n"),
        Rejection(submission=7, record_index=1 << 40, problems=(whole,), raw=b""),
        Rejection(submission=7, record_index=3, problems=(whole,), raw=b"x"),
    ]
    path = tmp_path / "rejections"
    with path.open("wb") as file:
        write_rejections(file, sent[:1])
        write_rejections(file, sent[1:])
    back = list(read_rejections(path, 7))
    assert back == sent
    assert back[1].problems is back[2].problems
