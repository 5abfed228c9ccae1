"""Tests of the HTTP machinery."""
