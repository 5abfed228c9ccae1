"""The states of a job and the origins of a submission, as clients and the ledger read them."""

from ingest_platform.domain.job import JobState, Origin


def test_a_job_ends_finished_or_failed() -> None:
    assert [state.value for state in JobState] == ["accepted", "processing", "finished", "failed"]
    assert [state for state in JobState if state.terminal] == [JobState.FINISHED, JobState.FAILED]


def test_the_origins_are_the_contracts() -> None:
    assert {origin.value for origin in Origin} == {"api", "file", "webhook", "replay", "backfill"}
