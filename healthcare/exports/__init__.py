"""Exporting the records of a list as CSV or NDJSON, streamed from one snapshot of the database."""
