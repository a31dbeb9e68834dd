"""The PostgreSQL that comes along: `DATABASE_URL=embedded:` or `embedded:///some/folder`.

Importing this package registers the scheme with dj-database-url; the server starts at the first refused connection.
"""

from healthcare.embedded import url as url
