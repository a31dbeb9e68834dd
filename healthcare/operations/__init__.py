"""What operators need of a running server: health, metrics, logs, backups and maintenance."""
