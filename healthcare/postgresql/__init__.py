"""The database backend: Django's for PostgreSQL, with limits on how long a web request waits for the server."""
