"""The way of a record, one verb a module: admit, land, gather, parse, check, dedupe, load, settle."""
