"""Deliveries: what was consigned to destinations, put together, sent, and sent again until it is delivered or dead.

How a type of destination is spoken to is not known here (`destinations/`).
"""
