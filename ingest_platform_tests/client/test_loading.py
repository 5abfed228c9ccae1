"""`ingest load --url`: the command sends files with the client, and tells what became of them."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_platform_tests.serving import CONFIG, Site


def _load(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Call the command as a person does who has an address and a key, and no database."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("INGEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "ingest_platform", "load", *arguments],
        env=ours | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_file_of_readings_is_uploaded_and_its_rejections_are_told(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    lines = [f"2026-05-06T10:00:0{second}Z,{CONFIG},{value}" for second, value in enumerate(["1", "2", "warm"])]
    path.write_text("\n".join(["timestamp,machine_data_point_config_id,value", *lines]))
    code, out, err = _load(str(path), "-f", "machine-data", "--url", site.url, INGEST_TOKEN=site.token)
    assert (code, err) == (0, "")
    assert "3 received = 2 accepted + 1 rejected" in out
    assert "record 2, value: invalid_type" in out


def test_a_file_of_issues_is_sent_in_batches_and_bad_lines_stay_behind(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "issues.ndjson.gz"
    good = '{"source":"jira","external_id":"A-1","title":"It fails"}\n'
    path.write_bytes(gzip.compress((good + '{"source":"jira","source":"x"}\n' + '{"source":"jira"}\n').encode()))
    token = site.key("ingest:write", "jobs:read").token
    code, out, err = _load(str(path), "-f", "issues", "--json", INGEST_URL=site.url, INGEST_TOKEN=token)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["received"], told["accepted"], told["rejected"]) == (3, 1, 2)
    assert {(each["index"], each["code"]) for each in told["rejections"]} == {
        (1, "duplicate_key"),
        (2, "missing_field"),
    }
    assert [job["state"] for job in told["jobs"]] == ["finished"]


@pytest.mark.parametrize(
    ("token", "status", "said"),
    [((), 2, "INGEST_TOKEN"), (("--token", "ing_live_nobody"), 1, "401")],
    ids=["no token", "an unknown token"],
)
def test_without_a_good_key_nothing_is_sent(
    site: Site, tmp_path: Path, token: tuple[str, ...], status: int, said: str
) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("timestamp,machine_data_point_config_id,value\n")
    code, _, err = _load(str(path), "-f", "machine-data", "--url", site.url, *token)
    assert code == status
    assert said in err
