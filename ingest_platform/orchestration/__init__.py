"""The Dagster machinery: assets from feeds, sensors, schedules, the warm worker and its launcher."""
