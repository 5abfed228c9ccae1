"""The rule language of streams: conditions and derived values over events, on whole frames. See: docs/rules.md.

What a stream does with them (routes, filters, derive) is not known here.
"""

from ingest_platform.feeds.stream_events.language.columns import columns_of
from ingest_platform.feeds.stream_events.language.expression import (
    Expression,
    Outcome,
    compile_expression,
    compile_rule,
)
from ingest_platform.feeds.stream_events.language.fault import RuleFault
from ingest_platform.feeds.stream_events.language.syntax import Path, Type

__all__ = [
    "Expression",
    "Outcome",
    "Path",
    "RuleFault",
    "Type",
    "columns_of",
    "compile_expression",
    "compile_rule",
]
