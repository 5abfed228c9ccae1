"""Which configuration a reading belongs to: as of its submission's acceptance, and within the sites of its key."""

from collections.abc import Sequence

import msgspec
import polars as pl

from ingest_platform.domain.rejection import Code

KIND = "machine_data_point_configs"
CONFIG_ID = "machine_data_point_config_id"
# The same words whether it exists in another workspace, at another site, or nowhere.
NOT_FOUND = f"{CONFIG_ID} is no data point that this key may write to."
NOT_FINITE = "value times the factor of its configuration does not fit a double."


class _Body(msgspec.Struct, gc=False):
    site: str
    factor: float = 1.0


_body = msgspec.json.Decoder(_Body).decode


def refer(frame: pl.DataFrame, *, origins: pl.DataFrame, known: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Find each reading's configuration; add `raw_value` (as sent), `value` (raw times factor), `config_version`."""
    # A load has few submissions and few configurations: each pair of them is resolved once.
    one = origins.height == 1 and frame.height > 0
    keys = [CONFIG_ID] if one else ["submission", CONFIG_ID]
    asked = frame.select(keys).unique()
    if one:
        asked = asked.with_columns(submission=origins["submission"].item())
    resolved = _resolve(asked, origins=origins, known=known).select(*keys, "factor", "config_version")
    joined = frame.rename({"value": "raw_value"}).join(resolved, on=keys, how="left", maintain_order="left")
    found = joined.with_columns(value=pl.col("raw_value") * pl.col("factor")).drop("factor")
    return found, _problems(found)


def _resolve(asked: pl.DataFrame, *, origins: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    """Resolve pairs of submission and configuration; pairs that can't be resolved are left out."""
    versions = known.filter(pl.col("kind") == KIND).rename({"id": CONFIG_ID, "version": "config_version"})
    candidates = (
        asked.join(origins.with_columns(pl.col("submission").cast(asked["submission"].dtype)), on="submission")
        .join(versions, on=["workspace", CONFIG_ID])
        .filter(pl.col("revision") <= pl.col("catalog_revision"))
        .sort("revision")
        .unique(["submission", CONFIG_ID], keep="last")
        .filter(~pl.col("retired"))
    )
    sites, factors = _bodies(candidates["body"].to_list())
    return candidates.with_columns(sites_of(sites), factors_of(factors)).filter(
        pl.col("sites").is_null() | pl.col("sites").list.contains(pl.col("site"))
    )


def _bodies(texts: Sequence[str]) -> tuple[list[str], list[float]]:
    bodies = [_body(text) for text in texts]
    return [body.site for body in bodies], [body.factor for body in bodies]


def sites_of(sites: Sequence[str]) -> pl.Series:
    """Lay out sites as a column."""
    return pl.Series("site", sites, dtype=pl.String)


def factors_of(factors: Sequence[float]) -> pl.Series:
    """Lay out factors as a column."""
    return pl.Series("factor", factors, dtype=pl.Float64)


def _problems(found: pl.DataFrame) -> pl.DataFrame:
    unknown = pl.col("config_version").is_null()
    overflown = ~pl.col("value").is_finite()
    return found.filter(unknown | overflown).select(
        "submission",
        "record_index",
        code=pl.when(unknown).then(pl.lit(Code.NOT_FOUND.value)).otherwise(pl.lit(Code.NOT_FINITE.value)),
        field=pl.when(unknown).then(pl.lit(CONFIG_ID)).otherwise(pl.lit("value")),
        message=pl.when(unknown).then(pl.lit(NOT_FOUND)).otherwise(pl.lit(NOT_FINITE)),
    )
