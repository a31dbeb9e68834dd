"""Upgrades while the API goes on: how `migrate` takes its locks, and the check of what new migrations execute."""
