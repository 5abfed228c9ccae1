"""The typed declaration of a stream: its pipeline, as values. How it is read, fault by fault: `reading.py`.

What reads it knows the rule language and the forms of patterns, and those know paths and steps: it is not loaded here.
"""

from ingest_platform.feeds.stream_events.declaration.pipeline import (
    DeriveStep,
    Detector,
    DropStep,
    EnrichStep,
    Envelope,
    How,
    LookupStep,
    Mask,
    Match,
    OnError,
    ParseKind,
    ParseStep,
    Path,
    Pipeline,
    RenameStep,
    RouteRule,
    Routes,
    SetStep,
    Table,
    destinations_of,
    masks_anything,
)

__all__ = [
    "DeriveStep",
    "Detector",
    "DropStep",
    "EnrichStep",
    "Envelope",
    "How",
    "LookupStep",
    "Mask",
    "Match",
    "OnError",
    "ParseKind",
    "ParseStep",
    "Path",
    "Pipeline",
    "RenameStep",
    "RouteRule",
    "Routes",
    "SetStep",
    "Table",
    "destinations_of",
    "masks_anything",
]
