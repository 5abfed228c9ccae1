"""Parsing: structure lifted out of texts in events. One module a kind of text; `parse.py` takes them all."""
