"""The embedded PostgreSQL: `DATABASE_URL=embedded:` or `embedded:///some/folder`.

Importing this package registers the URL scheme with dj-database-url. The first refused connection starts the server.
It stops after the last process that uses it has ended.
"""

from healthcare.embedded import url as url
