"""Days as partitions."""

from datetime import UTC, datetime, timedelta

from ingest_platform.orchestration.partitions import DAYS, FIRST_DAY, days_of, key_of


def test_today_is_the_last_partition() -> None:
    today = datetime.now(UTC)
    # A test that runs over midnight sees either day.
    assert DAYS.get_last_partition_key() in {key_of(today.date()), key_of((today + timedelta(minutes=1)).date())}
    assert DAYS.get_first_partition_key() == FIRST_DAY


def test_days_come_in_order_whatever_the_order_of_the_keys() -> None:
    assert [key_of(day) for day in days_of(["2026-03-02", "2026-03-01"])] == ["2026-03-01", "2026-03-02"]
