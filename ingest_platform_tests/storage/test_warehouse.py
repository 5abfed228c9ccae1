"""The warehouse: a writer that lost its turn changes nothing, readers never wait, the engine reaches nothing else."""

import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from ingest_platform.domain.errors import LeaseLost, TooCostly, WarehouseFault
from ingest_platform.domain.feed import Column, KeyedTable
from ingest_platform.storage.warehouse import EXTENSIONS, Warehouse, _replace_fence, rows_of, try_extension

MIB = 1024 * 1024
TABLE = KeyedTable(
    name="gauges",
    columns=(Column(name="gauge", type="BIGINT"), Column(name="at", type="TIMESTAMPTZ")),
    key=("gauge", "at"),
    range_column="at",
    compared=("gauge",),
)
OTHER = KeyedTable(name="others", columns=TABLE.columns, key=TABLE.key, range_column="at", compared=())
INSERT = f"INSERT INTO {rows_of('gauges')} (gauge) SELECT * FROM range(?)"
COUNT = f"SELECT count(*) FROM {rows_of('gauges')}"


@pytest.fixture
def lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with _open(database_url, tmp_path) as opened:
        opened.ensure([TABLE, OTHER])
        yield opened


@pytest.fixture
def other_lake(database_url: str, tmp_path: Path) -> Iterator[Warehouse]:
    with _open(database_url, tmp_path) as opened:
        yield opened


def _open(database_url: str, tmp_path: Path, *, memory_bytes_max: int = 512 * MIB) -> Warehouse:
    return Warehouse(
        database_url,
        lake_path=str(tmp_path / "lake"),
        memory_bytes_max=memory_bytes_max,
        spill_path=str(tmp_path / "spill"),
        silent_seconds_max=0.5,
    )


def _rows(lake: Warehouse) -> int:
    return lake.query(COUNT).column(0)[0].as_py()


# One row is inlined into PostgreSQL, a thousand are a file: conflicts are found in different ways.
@pytest.mark.parametrize("rows", [1, 1_000])
@pytest.mark.parametrize("flushed", [False, True], ids=["fence inlined", "fence in a file"])
def test_a_writer_that_others_overtook_cannot_commit_and_leaves_nothing(
    lake: Warehouse, other_lake: Warehouse, rows: int, *, flushed: bool
) -> None:
    # What a process does that is stopped between "is the turn still mine?" and its COMMIT, and wakes after that.
    if flushed:
        lake.flush_inlined("gauges")
    zombie = lake.session()
    zombie.execute("BEGIN")
    _replace_fence(zombie, "gauges", 1)
    zombie.execute(INSERT, [rows])
    with other_lake.writing("gauges", fence=2) as winner:
        winner.execute(INSERT, [rows])
    with pytest.raises(LeaseLost):
        zombie.execute("COMMIT")
    zombie.close()
    assert _rows(lake) == _rows(other_lake) == rows
    with lake.writing("gauges", fence=3) as again:
        again.execute(INSERT, [rows])
    assert _rows(other_lake) == 2 * rows


def test_upkeep_in_between_does_not_let_an_overtaken_writer_commit(lake: Warehouse, other_lake: Warehouse) -> None:
    zombie = lake.session()
    zombie.execute("BEGIN")
    _replace_fence(zombie, "gauges", 1)
    zombie.execute(INSERT, [1_000])
    with other_lake.writing("gauges", fence=2) as winner:
        winner.execute(INSERT, [1])
    other_lake.maintain()
    with pytest.raises(LeaseLost):
        zombie.execute("COMMIT")
    zombie.close()
    assert _rows(other_lake) == 1


def test_a_writer_that_sleeps_until_snapshots_expire_has_been_ended_by_then(
    lake: Warehouse, database_url: str, tmp_path: Path
) -> None:
    with Warehouse(
        database_url, lake_path=str(tmp_path / "lake"), memory_bytes_max=512 * MIB, idle_seconds_max=0.3
    ) as sleeper:
        zombie = sleeper.session()
        zombie.execute("BEGIN")
        _replace_fence(zombie, "gauges", 1)
        zombie.execute(INSERT, [1_000])
        with lake.writing("gauges", fence=2) as winner:
            winner.execute(INSERT, [1])
        time.sleep(1)
        lake.maintain(snapshot_age=timedelta(0))
        with pytest.raises(WarehouseFault):
            zombie.execute("COMMIT")
        zombie.close()
    assert _rows(lake) == 1


def test_a_writer_whose_connections_were_ended_has_lost_its_turn(lake: Warehouse, database_url: str) -> None:
    with pytest.raises(LeaseLost), lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [10])
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ingest-lake-%'"
            )
    assert _rows(lake) == 0
    with lake.writing("gauges", fence=2) as writer:
        writer.execute(INSERT, [10])
    assert _rows(lake) == 10


def test_a_fault_inside_the_block_rolls_back(lake: Warehouse) -> None:
    with pytest.raises(WarehouseFault), lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [10])
        writer.execute("SELECT nothing FROM nowhere")
    with pytest.raises(KeyError), lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [10])
        raise KeyError
    assert _rows(lake) == 0


def test_work_that_is_not_ours_any_more_is_not_begun(lake: Warehouse) -> None:
    with pytest.raises(LeaseLost), lake.writing("gauges", fence=1, still_ours=lambda: False) as writer:
        writer.execute(INSERT, [10])
    with lake.writing("gauges", fence=1, still_ours=lambda: True) as writer:
        writer.execute(INSERT, [10])
    assert _rows(lake) == 10


def test_writers_of_two_tables_do_not_meet(lake: Warehouse, other_lake: Warehouse) -> None:
    with lake.writing("gauges", fence=2) as one, other_lake.writing("others", fence=1) as other:
        one.execute(INSERT, [1])
        other.execute(f"INSERT INTO {rows_of('others')} (gauge) VALUES (1)")
    assert _rows(lake) == 1


def test_an_older_fence_is_no_zombie_when_it_has_the_turn(lake: Warehouse, other_lake: Warehouse) -> None:
    # Two workers claim two loads at once; the one that claimed first may well be the second to write.
    with other_lake.writing("gauges", fence=11) as writer:
        writer.execute(INSERT, [1])
    with lake.writing("gauges", fence=10) as writer:
        writer.execute(INSERT, [1])
    assert _rows(lake) == 2


def test_a_reader_does_not_wait_for_a_writer(lake: Warehouse) -> None:
    with lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [10])
        read: list[int] = []
        reader = threading.Thread(target=lambda: read.append(_rows(lake)))
        reader.start()
        reader.join(timeout=10)
        assert read == [0]
    assert _rows(lake) == 10


def test_a_lake_and_its_tables_may_be_made_by_several_at_once(database_url: str, tmp_path: Path) -> None:
    lakes = [_open(database_url, tmp_path) for _ in range(3)]
    threads = [threading.Thread(target=lake.ensure, args=([TABLE, OTHER],)) for lake in lakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, lake in enumerate(lakes, start=1):
        with lake.writing("gauges", fence=number) as writer:
            writer.execute(INSERT, [1])
        assert lake.query("SELECT count(*) FROM lake.fences.gauges").column(0)[0].as_py() == 1
    assert _rows(lakes[0]) == 3
    for lake in lakes:
        lake.close()


def test_the_engine_reaches_nothing_but_the_lake(lake: Warehouse) -> None:
    for statement in (
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_blob('/etc/hostname')",
        "SELECT * FROM 'https://example.com/x.parquet'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET autoload_known_extensions = true",
        "ATTACH 'other.db' AS other",
        "COPY (SELECT 1) TO '/tmp/leak.csv'",
    ):
        with pytest.raises(WarehouseFault):
            lake.query(statement)


def test_the_lake_may_lie_in_an_object_store(database_url: str) -> None:
    import boto3  # noqa: PLC0415 - slow to import.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    store = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        aws_access_key_id="key",
        aws_secret_access_key="hidden",
        region_name="us-east-1",
    )
    store.create_bucket(Bucket="bucket")
    s3 = {"KEY_ID": "key", "SECRET": "hidden", "REGION": "us-east-1", "URL_STYLE": "path", "USE_SSL": "false"}
    with Warehouse(
        database_url,
        lake_path="s3://bucket/some/lake",
        memory_bytes_max=512 * MIB,
        s3={**s3, "ENDPOINT": f"{host}:{port}"},
    ) as lake:
        lake.ensure([TABLE])
        with lake.writing("gauges", fence=1) as writer:
            writer.execute(INSERT, [1_000])
        assert _rows(lake) == 1_000
        lake.maintain()
        with pytest.raises(WarehouseFault, match="Permission"):
            lake.query("SELECT * FROM read_blob('s3://other/x')")
    keys = [entry["Key"] for entry in store.list_objects_v2(Bucket="bucket")["Contents"]]
    assert any(key.startswith("some/lake/main/gauges/") for key in keys)
    server.stop()


def test_times_are_utc_in_every_session(lake: Warehouse) -> None:
    assert lake.query("SELECT current_setting('TimeZone') AS zone").to_pylist() == [{"zone": "UTC"}]


def test_a_database_that_is_away_is_a_fault_that_shows_no_secret(tmp_path: Path) -> None:
    lake = _open("postgresql://nobody:hidden@127.0.0.1:1/none", tmp_path)
    with pytest.raises(WarehouseFault) as caught:
        lake.query("SELECT 1")
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_the_engine_recovers_when_its_connections_are_gone(lake: Warehouse, database_url: str) -> None:
    assert _rows(lake) == 0
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'ingest-lake-%'"
        )
    assert _rows(lake) == 0
    with lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [10])
    assert _rows(lake) == 10


def test_what_does_not_fit_into_memory_is_spilled(database_url: str, tmp_path: Path) -> None:
    with _open(database_url, tmp_path, memory_bytes_max=128 * MIB) as lake:
        session = lake.session()
        session.execute("CREATE TEMP TABLE wide AS SELECT range AS number, md5(range::VARCHAR) FROM range(5000000)")
        assert session.fetch("SELECT count(DISTINCT number) FROM wide").column(0)[0].as_py() == 5_000_000
        session.close()
    assert list((tmp_path / "spill").glob("*/*")) == []


def test_a_question_that_takes_too_long_is_interrupted_and_the_next_one_is_not(lake: Warehouse) -> None:
    endless = "SELECT count(*) FROM range(100_000_000) AS a, range(?) AS b WHERE a.range % 7 = b.range % 11"
    began = time.monotonic()
    with closing(lake.session()) as session:
        with pytest.raises(TooCostly, match="more time"):
            session.ask(endless, [100_000], seconds_max=0.3, bytes_max=1_000)
        assert time.monotonic() - began < 5
        assert session.ask("SELECT ? AS one", [1], seconds_max=5, bytes_max=1_000).to_pylist() == [{"one": 1}]


def test_a_question_may_not_have_an_answer_of_any_size(lake: Warehouse) -> None:
    with closing(lake.session()) as session, pytest.raises(TooCostly, match="limit is 1,000"):
        session.ask("SELECT repeat('x', ?) AS text", [2_000], seconds_max=5, bytes_max=1_000)


def test_a_question_that_takes_more_memory_than_there_is_leaves_the_engine_whole(
    database_url: str, tmp_path: Path
) -> None:
    with _open(database_url, tmp_path, memory_bytes_max=128 * MIB) as lake, closing(lake.session()) as session:
        with pytest.raises(TooCostly, match="more memory"):
            session.ask("SELECT list(md5(range::VARCHAR)) FROM range(?)", [20_000_000], seconds_max=30, bytes_max=1_000)
        assert session.ask("SELECT ? AS one", [1], seconds_max=5, bytes_max=1_000).to_pylist() == [{"one": 1}]


def test_inlined_rows_are_counted_and_flushed_to_files(lake: Warehouse, tmp_path: Path) -> None:
    with lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [100])
    assert lake.inlined_rows()["gauges"] >= 100
    assert not list(tmp_path.glob("lake/**/*.parquet"))
    assert lake.flush_inlined("gauges") >= 100
    assert lake.inlined_rows()["gauges"] == 0
    assert list(tmp_path.glob("lake/main/gauges/*.parquet"))
    assert _rows(lake) == 100


def test_many_small_changes_are_flushed_by_whoever_makes_them(
    lake: Warehouse, database_url: str, tmp_path: Path
) -> None:
    with Warehouse(
        database_url, lake_path=str(tmp_path / "lake"), memory_bytes_max=512 * MIB, flushed_rows_min=250
    ) as small:
        for number, expected in enumerate((100, 200, 0), start=1):
            with small.writing("gauges", fence=number) as writer:
                writer.execute(INSERT, [100])
            assert (small.inlined_rows()["gauges"] >= expected) if expected else (small.inlined_rows()["gauges"] == 0)
    assert _rows(lake) == 300


def test_upkeep_merges_files_and_leaves_the_rows(lake: Warehouse, tmp_path: Path) -> None:
    for number in range(4):
        with lake.writing("gauges", fence=number) as writer:
            writer.execute(INSERT, [1_000])
    with lake.writing("gauges", fence=9) as writer:
        writer.execute(f"DELETE FROM {rows_of('gauges')} WHERE gauge < 500")
    done = lake.maintain(snapshot_age=timedelta(0))
    # Files that are forgotten now are deleted by the next upkeep.
    lake.maintain(snapshot_age=timedelta(0))
    assert done["files rewritten"] + done["files merged"] > 0
    assert len(list(tmp_path.glob("lake/main/gauges/*.parquet"))) == 1
    assert _rows(lake) == 2_000


def test_upkeep_deletes_files_that_no_commit_knows(lake: Warehouse, tmp_path: Path) -> None:
    with lake.writing("gauges", fence=1) as writer:
        writer.execute(INSERT, [1_000])
    orphan = tmp_path / "lake" / "main" / "gauges" / "orphan.parquet"
    orphan.write_bytes(b"left by a process that was killed")
    assert lake.maintain()["orphans deleted"] == 0
    assert lake.maintain(orphan_age=timedelta(0))["orphans deleted"] == 1
    assert not orphan.exists()
    assert _rows(lake) == 1_000


@pytest.mark.parametrize("name", EXTENSIONS)
def test_every_extension_loads_from_its_wheel(name: str) -> None:
    assert try_extension(name).startswith("1.")


def test_an_extension_that_is_not_installed_is_a_fault() -> None:
    with pytest.raises(WarehouseFault, match="duckdb-extension-spatial is not installed"):
        try_extension("spatial")
