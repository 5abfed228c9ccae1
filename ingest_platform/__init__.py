"""A workflow-orchestrated batch ingestion platform. Nothing is imported here: each process loads only its own part."""
