"""Makes rows of history and access log old, as if they had been written in a month of the past."""

from typing import Any


def move_to_month(cursor: Any, month: str) -> None:
    """Give all rows of the last day the 10th of this month instead. They keep their order."""
    cursor.execute("SELECT table_name FROM information_schema.columns WHERE column_name = 'pgh_created_at'")
    tables = {name: "pgh_created_at" for (name,) in cursor.fetchall()} | {"audit_accesslog": "at"}
    cursor.execute("SET session_replication_role = replica")
    cursor.execute(f"SELECT now() - interval '1 day', timestamptz '{month}-10 12:00Z' - now()")
    recent, shift = cursor.fetchone()
    for table, time in tables.items():
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s "
            "AND column_name IN (%s, 'created_at', 'updated_at')",
            [table, time],
        )
        moved = ", ".join(f"{column} = {column} + %(shift)s" for (column,) in cursor.fetchall())
        cursor.execute(
            f"UPDATE {table} SET {moved} WHERE {time} > %(recent)s",  # noqa: S608
            {"shift": shift, "recent": recent},
        )
    cursor.execute("SET session_replication_role = origin")
