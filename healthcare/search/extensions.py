"""PostgreSQL extensions of search. Without them it finds words by their beginnings alone."""

from django.db import connection

CREATE_EXTENSIONS = """
DO $$
DECLARE
    wanted name;
    missing text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['pg_trgm', 'btree_gin', 'unaccent'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = wanted) THEN
                EXECUTE format('CREATE EXTENSION %I', wanted);
            END IF;
        EXCEPTION WHEN OTHERS THEN  -- this database user may not, or the server does not have it
            missing := concat_ws(' ', missing, format('CREATE EXTENSION %I;', wanted));
        END;
    END LOOP;
    IF missing IS NOT NULL THEN
        RAISE WARNING USING MESSAGE = 'Search finds names by their beginnings, not by similarity, until an '
            'administrator of this database has run: ' || missing || E'\\nThen run: manage.py rebuild_search';
    END IF;
END $$;
"""


def has_similarity() -> bool:
    """Whether the extensions for similar words exist in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_extension WHERE extname IN ('pg_trgm', 'btree_gin')")
        return bool(cursor.fetchone()[0] == 2)
