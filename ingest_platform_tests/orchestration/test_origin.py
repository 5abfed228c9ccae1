"""Who executes a run, and whether that process lives."""

import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from ingest_platform.orchestration.origin import MODE_TAG, Executor, Mode, job_origin, warm


@pytest.mark.parametrize(("mode", "expected"), [(Mode.LIVE, True), (Mode.LIGHT, True), (Mode.HEAVY, False)])
def test_short_runs_are_for_the_warm_worker(mode: Mode, *, expected: bool) -> None:
    assert warm({MODE_TAG: mode.value}) is expected


def test_a_run_that_says_nothing_gets_a_process_of_its_own() -> None:
    assert not warm({})


def test_a_tag_is_read_as_it_was_written() -> None:
    here = Executor.here()
    assert Executor.read(str(here)) == here
    assert here.pid == os.getpid()
    assert not here.dead


@pytest.mark.parametrize("tag", ["", "box", "box/12", "box/a@b", "/1@2"])
def test_a_tag_that_names_no_process_is_none(tag: str) -> None:
    assert Executor.read(tag) is None


def test_a_process_that_ended_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started = int(psutil.Process(child.pid).create_time())
        executor = replace(Executor.here(), pid=child.pid, started=started)
        assert not executor.dead
        child.kill()
        child.wait()
    assert executor.dead


def test_another_process_with_the_number_of_a_dead_one_does_not_revive_it() -> None:
    assert replace(Executor.here(), started=1).dead


def test_nothing_is_said_of_a_process_on_another_machine() -> None:
    assert not replace(Executor.here(), host="elsewhere", pid=1, started=1).dead


def test_a_run_belongs_to_the_code_location_of_the_workspace() -> None:
    assert job_origin("machine_data_job").repository_origin.get_label() == "__repository__@ingest_platform"
