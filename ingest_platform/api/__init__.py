"""The HTTP machinery that every feed's routes stand on. It never loads Dagster."""
