"""The admin of the audit, and what the admin of other apps records there."""
