"""Tests of the Dagster machinery."""
