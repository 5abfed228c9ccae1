"""The settings: where a value comes from, and what is said about a wrong one."""

import os
import re
from dataclasses import fields
from pathlib import Path
from unittest.mock import patch

import pytest

from ingest_platform import settings as settings_module
from ingest_platform.settings import (
    MIB,
    Settings,
    ValueSource,
    WrongSetting,
    adopt,
    child_environment,
    collect_settings,
    load_settings,
    resolve_settings,
    unknown_variables,
)


def _one(name: str, *, flags: dict[str, object], environment: dict[str, str], file: Path) -> tuple[object, ValueSource]:
    resolved = resolve_settings(flags, environment=environment, file=file)
    found = next(one for one in resolved if one.name == name)
    return found.value, found.source


def test_a_flag_wins_over_the_environment_that_over_the_file_that_over_the_default(tmp_path: Path) -> None:
    file = tmp_path / "ingest.toml"
    assert _one("api_port", flags={}, environment={}, file=file) == (8000, ValueSource.DEFAULT)
    file.write_text("api_port = 8001\n")
    assert _one("api_port", flags={}, environment={}, file=file) == (8001, ValueSource.FILE)
    environment = {"INGEST_API_PORT": "8002"}
    assert _one("api_port", flags={}, environment=environment, file=file) == (8002, ValueSource.ENVIRONMENT)
    assert _one("api_port", flags={"api_port": 8003}, environment=environment, file=file) == (8003, ValueSource.FLAG)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("api_port", "0", "below the least, 1"),
        ("api_port", "65536", "above the most, 65535"),
        ("api_port", "80.5", "no whole number"),
        ("body_bytes_max", "3 apples", "no number of bytes"),
        ("ui", "perhaps", "neither yes nor no"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("linger_seconds", "nan", "below the least"),
    ],
)
def test_a_wrong_value_names_the_setting_and_what_is_allowed(tmp_path: Path, name: str, text: str, said: str) -> None:
    variable = f"INGEST_{name.upper()}"
    with pytest.raises(WrongSetting, match=said) as raised:
        resolve_settings(environment={variable: text}, file=tmp_path / "none.toml")
    assert variable in str(raised.value)


@pytest.mark.parametrize(
    ("text", "bytes_"), [("2MiB", 2 * MIB), ("2 mib", 2 * MIB), ("2000000", 2000000), ("2M", 2000000)]
)
def test_a_size_is_bytes_or_has_a_unit(tmp_path: Path, text: str, bytes_: int) -> None:
    assert _one("body_bytes_max", flags={"body_bytes_max": text}, environment={}, file=tmp_path / "no")[0] == bytes_


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "ingest.toml"
    file.write_text("api_prot = 8001\n")
    with pytest.raises(WrongSetting, match="unknown setting api_prot"):
        resolve_settings(environment={}, file=file)


def test_a_misspelt_variable_is_found() -> None:
    assert unknown_variables({"INGEST_API_PROT": "1", "INGEST_API_PORT": "1", "HOME": "/"}) == ("INGEST_API_PROT",)


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    url = "postgresql://u:hunter2@h/d"
    resolved = resolve_settings({"database_url": url}, environment={}, file=tmp_path / "none.toml")
    assert all("hunter2" not in one.shown for one in resolved)
    with pytest.raises(WrongSetting) as raised:
        resolve_settings({"api_port": "hunter2"}, environment={}, file=tmp_path / "none.toml")
    assert "api-port" in str(raised.value)


@pytest.mark.parametrize("name", [one.name for one in fields(Settings)])
def test_every_setting_has_an_effect(name: str) -> None:
    """Somebody beside the settings themselves reads it from them."""
    package = Path(settings_module.__file__).parent
    modules = [path for path in package.rglob("*.py") if path.name != "settings.py"]
    assert any(re.search(rf"(settings|wanted)\.{name}\b", path.read_text(encoding="utf-8")) for path in modules)


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, api_port=1234, ui=False, database_url=None, linger_seconds=0.25)
    resolved = resolve_settings(environment=child_environment(settings), file=tmp_path / "none.toml")
    assert collect_settings(resolved) == settings


def test_settings_given_as_flags_reach_what_reads_them_by_itself(tmp_path: Path) -> None:
    with patch.dict(os.environ):
        adopt(load_settings(data_dir=tmp_path / "elsewhere", linger_seconds=2))
        assert load_settings().data_dir == tmp_path / "elsewhere"
        assert load_settings().linger_seconds == 2
