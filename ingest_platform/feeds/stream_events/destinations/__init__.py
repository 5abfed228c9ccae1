"""Destinations: where events go, one module a type. A further type is one more module with a `KIND` in it.

When a batch is sent, again or not at all, is not known here (`delivering/`).
"""
