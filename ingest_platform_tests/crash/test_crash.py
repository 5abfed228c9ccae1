"""`make crash`: the promises hold whatever dies, wherever; and planted defects are seen."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ingest_platform_tests.crash import trials
from ingest_platform_tests.crash.installation import Installation
from ingest_platform_tests.crash.trials import Trial, Who

pytestmark = pytest.mark.crash
TRIALS = trials.matrix()


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Start a platform that is kept over all trials; only what was killed is started again."""
    # A unix socket's path may have about 100 bytes, so the folder is not pytest's own.
    folder = Path(tempfile.mkdtemp(prefix="ingest-crash-"))
    opened = Installation(folder)
    try:
        yield opened
    finally:
        opened.close()
        shutil.rmtree(folder, ignore_errors=True)


def test_there_are_at_least_sixty_trials() -> None:
    assert len(TRIALS) >= 60
    assert len({trial.seed for trial in TRIALS}) == len(TRIALS)


@pytest.mark.parametrize("trial", TRIALS, ids=str)
def test_nothing_is_lost_doubled_or_changed(installation: Installation, trial: Trial) -> None:
    result = trials.run(installation, trial, name=f"w{trial.seed}")
    assert not result.violations, f"{trial}\n" + "\n".join(result.violations) + f"\nsent:\n{result.sent}"


def test_a_key_whose_request_was_killed_is_free_again_in_time(installation: Installation) -> None:
    # One submission after the other: the retry of the one that was killed meets its own reservation.
    trial = Trial(who=Who.API, point="land.received", only_garbage=True, seed=170)
    result = trials.run(installation, trial, name=f"w{trial.seed}")
    assert not result.violations, "\n".join(result.violations) + f"\nsent:\n{result.sent}"
    assert result.in_flight, "no retry was told that its key is in flight: nothing was proven"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """A planted defect, the trial that must show it, and the promise that it breaks."""

    planted: Callable[[Installation], AbstractContextManager[None]]
    trial: Trial
    promise: str


def _in_workers(mutant: str) -> Callable[[Installation], AbstractContextManager[None]]:
    return lambda installation: installation.mutated(installation.workers, mutant)


def _in_api(mutant: str) -> Callable[[Installation], AbstractContextManager[None]]:
    return lambda installation: installation.mutated([installation.api], mutant)


DEFECTS = {
    "no fence": Defect(
        planted=_in_workers("no_fence"),
        trial=Trial(who=Who.WORKER, point="settle.before_commit", pause=True, only_garbage=True, seed=900),
        promise="2",
    ),
    "outcomes in a transaction of their own": Defect(
        planted=_in_workers("torn_settle"),
        trial=Trial(who=Who.WORKER, point="settle.before_commit", nth=2, seed=910),
        promise="3",
    ),
    "a load that is not remembered": Defect(
        planted=_in_workers("forgetful_load"),
        trial=Trial(who=Who.BOTH_WORKERS, point="load.after_commit", seed=920),
        promise="8",
    ),
    "acknowledged before the commit": Defect(
        planted=_in_api("early_answer"),
        trial=Trial(who=Who.API, point="land.before_commit", nth=2, seed=930),
        promise="1",
    ),
    "commits without fsync": Defect(
        planted=Installation.committing_lazily,
        trial=Trial(who=Who.ALL, backlog=True, seed=950),
        promise="1",
    ),
    "blobs without fsync": Defect(
        planted=_in_api("no_fsync"),
        trial=Trial(who=Who.ALL, backlog=True, uploads=True, seed=940),
        promise="2",
    ),
    # A load of issues that is not remembered is no defect that can be seen: every record is kept with its place, and
    # what is kept already changes nothing.
    "issues without a pattern": Defect(
        planted=_in_workers("patternless"),
        trial=Trial(who=Who.WORKER, point="load.staged", issues=True, seed=970),
        promise="8",
    ),
    "a file that is counted again": Defect(
        planted=_in_workers("counted_again"),
        trial=Trial(who=Who.BOTH_WORKERS, point="load.staged", datasets=True, files=True, seed=980),
        promise="8",
    ),
    "events whose bytes are kept": Defect(
        planted=_in_workers("unforgotten"),
        trial=Trial(who=Who.API, point="land.before_reply", streams=True, seed=990),
        promise="21",
    ),
    "a delivery that is sent under another id": Defect(
        planted=_in_workers("sent_anew"),
        trial=Trial(who=Who.BOTH_WORKERS, point="deliver.sent", streams=True, seed=1000),
        promise="8",
    ),
}
ATTEMPTS_MAX = 3


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_a_planted_defect_is_seen(installation: Installation, defect: Defect) -> None:
    seen: list[str] = []
    with defect.planted(installation):
        for attempt in range(ATTEMPTS_MAX):
            trial = replace(defect.trial, seed=defect.trial.seed + attempt)
            seen += trials.run(installation, trial, name=f"w{trial.seed}").violations
            if any(line.startswith(f"{defect.promise}: ") for line in seen):
                return
    pytest.fail(f"not seen in {ATTEMPTS_MAX} trials; seen was only {seen}")
