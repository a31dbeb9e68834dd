"""Entering the database as a caller: for the rest of the transaction, as the restricted role."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

from healthcare.isolation import ROLE

# Local to the transaction, so that nothing stays on a pooled connection, PgBouncer's transaction pooling included.
# The timeouts hold here alone: a migration may take its time.
ENTER = f"""set_config('app.user_id', {{caller}}, true), set_config('role', '{ROLE}', true),
    set_config('statement_timeout', '10s', true), set_config('lock_timeout', '2s', true)"""


def leave() -> None:
    """Work as the database's owner again, for what a caller may cause and not do: counting failed attempts, say."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('role', 'none', true)")


def enter(user_id: int | None) -> None:
    """Work as this user until the transaction ends; as nobody, who owns no rows, with None."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {ENTER.format(caller='%s')}", ["" if user_id is None else str(user_id)])


@contextmanager
def entered(user_id: int | None) -> Iterator[None]:
    """A transaction as this user, in a view that has none around it."""
    with transaction.atomic():
        enter(user_id)
        yield
