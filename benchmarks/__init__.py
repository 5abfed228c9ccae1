"""Measurements of the platform as it is run. How to read them is in README.md; nothing here is part of the product."""
