"""Statistics for tests that look at plans."""

from django.db import connection


def rewrite_and_analyze(*tables: str) -> None:
    """Rewrite these tables and their indexes, and gather statistics, for the rest of the transaction.

    The rows that other tests have rolled back fill pages, and the planner prefers an index by its pages: without the
    rewrite, a plan would depend on the tests before.
    """
    quote = connection.ops.quote_name
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")  # CLUSTER refuses pending ones
        for table in tables:
            cursor.execute(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass AND indisprimary",
                [table],
            )
            cursor.execute(f"CLUSTER {quote(table)} USING {cursor.fetchone()[0]}; ANALYZE {quote(table)}")
