"""The door: the contract evaluated record by record, before anything is taken. The run evaluates it again, by frame.

Both give the same verdict on the same bytes: records are judged by the same reader, and values by the same rules.
"""

from collections.abc import Sequence

import polars as pl

from ingest_platform.domain.contract import Contract
from ingest_platform.domain.feed import Refer
from ingest_platform.domain.rejection import Problem
from ingest_platform.pipeline.check import check
from ingest_platform.pipeline.parse import parse_lines
from ingest_platform.pipeline.records import reader_of

# There is one submission at the door.
ORDINAL = 0
# Fewer take less time one by one: 16 us each, beside 5 ms for any number and 3 us each.
TOGETHER_MIN = 400
_NOTHING = pl.DataFrame()


def check_record(raw: bytes, contract: Contract) -> list[Problem]:
    """List all problems of one record, those of the whole first, then by field in the contract's order.

    What the record refers to is not looked up; see `check_items`.
    """
    reader = reader_of(contract)
    return [] if reader.is_good(raw) else list(reader.problems(raw))


def check_records(records: Sequence[bytes], contract: Contract) -> list[tuple[int, Sequence[Problem]]]:
    """Judge records of a contract that refers to nothing: the index and problems of each bad one, in order.

    None of the records may be blank. Many are judged together, as the run does it, which has its price.
    """
    if len(records) < TOGETHER_MIN:
        verdicts = ((index, check_record(raw, contract)) for index, raw in enumerate(records))
        return [(index, problems) for index, problems in verdicts if problems]
    checked = check(parse_lines(records, ORDINAL, contract), contract, refer=None, origins=_NOTHING, known=_NOTHING)
    return [(rejection.record_index, rejection.problems) for rejection in checked.rejections]


def check_items(
    records: Sequence[bytes],
    contract: Contract,
    *,
    refer: Refer | None,
    workspace: str,
    catalog_revision: int,
    sites: Sequence[str] | None,
    known: pl.DataFrame,
) -> list[tuple[int, tuple[Problem, ...]]]:
    """Judge records that are answered at once, references included: the index and problems of each bad one, in order.

    None of the records may be blank. An empty list means that all are good.
    """
    origins = pl.DataFrame(
        {
            "submission": [ORDINAL],
            "workspace": [workspace],
            "catalog_revision": [catalog_revision],
            "sites": [None if sites is None else list(sites)],
        },
        schema={
            "submission": pl.UInt32(),
            "workspace": pl.String(),
            "catalog_revision": pl.Int64(),
            "sites": pl.List(pl.String()),
        },
    )
    parsed = parse_lines(records, ORDINAL, contract)
    checked = check(parsed, contract, refer=refer, origins=origins, known=known)
    return [(rejection.record_index, rejection.problems) for rejection in checked.rejections]
