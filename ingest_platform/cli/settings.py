"""`ingest settings`: every setting, its value, where that came from, and what it means."""

from ingest_platform.cli.command import Output, command
from ingest_platform.settings import Settings, resolve_settings, show_value, unknown_variables


@command(epilog="Flags win over the environment, that over ingest.toml, that over the default.")
def settings(output: Output, loaded: Settings) -> None:
    """List every setting with its value and meaning."""
    resolved = resolve_settings({"data_dir": loaded.data_dir})
    rows = [
        {
            "name": one.name,
            "value": one.shown,
            "default": show_value(one.default, one.declared.kind),
            "source": one.source.value,
            "environment": one.environment,
            "meaning": one.declared.meaning,
        }
        for one in resolved
    ]
    output.give(rows)
    output.table(
        ("setting", "value", "default", "from", "environment", "meaning"),
        [tuple(row[name] for name in ("name", "value", "default", "source", "environment", "meaning")) for row in rows],
        empty="",
    )
    for name in unknown_variables():
        output.warn(f"{name} looks like a setting but is none; is it misspelt?")
