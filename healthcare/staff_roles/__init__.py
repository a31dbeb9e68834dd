"""Roles of staff: groups that migrations create, to which each app grants permissions on its own models."""
