"""The processes of `ingest up`: what they are, that they run only once, that they live, and what they say."""
