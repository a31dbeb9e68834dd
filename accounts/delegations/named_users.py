"""Users as others see them: `{id, username, name}`.

Row-level security shows a caller no account but their own, so a function of the database answers the three columns.
"""

from typing import Any

from django.db.models import F, Func, JSONField

from healthcare.database_objects import DatabaseObject, declare

NAMED_USER = declare(
    DatabaseObject(
        "accounts",
        "named_user",
        """
CREATE OR REPLACE FUNCTION named_user(user_id bigint) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT jsonb_build_object('id', id, 'username', username, 'name', name) FROM accounts_user WHERE id = user_id;
$$;
REVOKE ALL ON FUNCTION named_user(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION named_user(bigint) TO healthcare_api;
""",
        "DROP FUNCTION named_user(bigint);",
    )
)


class NamedUser(Func):
    """`{"id", "username", "name"}` of the user whose id is in a column, as an SQL expression; NULL for no user."""

    function = "named_user"

    def __init__(self, column: str) -> None:
        super().__init__(F(column), output_field=JSONField())


def as_named_user(user: Any) -> dict[str, Any]:
    """What `NamedUser` gives, of a user who is in memory."""
    return {"id": user.pk, "username": user.username, "name": user.name}
