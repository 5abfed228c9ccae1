"""What is given: a folder for what is on its way, which never stays."""

from pathlib import Path

import pytest

from ingest_platform.pipeline.given import staging_folder


def test_the_folder_is_gone_afterwards_whatever_happened(tmp_path: Path) -> None:
    with pytest.raises(KeyError), staging_folder(tmp_path / "staging", "load_1") as folder:
        (folder / "0-0.arrow").write_bytes(b"records")
        raise KeyError
    assert list((tmp_path / "staging").iterdir()) == []
