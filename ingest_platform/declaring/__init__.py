"""What a person declares in YAML, checked as a whole and brought into the ledger in one revision."""

from ingest_platform.declaring.applying import apply, read_declared
from ingest_platform.declaring.changes import AppliedChange, Sign, change_object
from ingest_platform.declaring.mistakes import Mistake, WronglyDeclared

__all__ = ["AppliedChange", "Mistake", "Sign", "WronglyDeclared", "apply", "change_object", "read_declared"]
