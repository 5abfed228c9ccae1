"""Durable stores: the ledger (PostgreSQL), the catalog in it, the warehouse (DuckLake) and blobs."""
