"""How migrations take their locks: briefly, and again when they were not free.

A statement that waits for an ACCESS EXCLUSIVE lock stops all later readers of the table, so it may wait for 0.3 s
only. If it does not get the lock, the migration is rolled back and tried again after a pause. A transaction
holds its locks to its end, so what it waits for the next ones is bounded too.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from django.contrib.postgres.operations import NotInTransactionMixin
from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState
from psycopg2.extensions import TRANSACTION_STATUS_INERROR

from healthcare.migration_operations import RETRIED

# Together less than the second that a reader may wait behind the first lock of a migration.
LOCK_TIMEOUT = 0.3  # seconds that one statement waits
LOCKED_SECONDS = 0.5  # a transaction that is older waits SHORTEST_TIMEOUT only, since it holds locks already
SHORTEST_TIMEOUT = 0.02
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)  # between attempts; the last one repeats
PATIENCE = 300.0  # seconds until `migrate` gives up
# Waiting for this mode stops neither readers nor writers. It ends an autovacuum of the table, which would not let the
# migration have its locks for as long as it runs.
QUIET_LOCK = "LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE"
VACUUMED_TABLES = """
SELECT DISTINCT tables.oid::regclass::text FROM pg_locks JOIN pg_class tables ON tables.oid = relation
WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND locktype = 'relation'
AND mode = 'ShareUpdateExclusiveLock' AND granted AND pid <> pg_backend_pid() AND relkind IN ('r', 'p')
AND relnamespace = 'public'::regnamespace AND pg_has_role(relowner, 'USAGE') ORDER BY 1
"""


# An operation with the states of the models before and after it.
Step = tuple[Any, ProjectState, ProjectState]
Result = TypeVar("Result")


def prepare_steps(state: ProjectState, migration: Migration) -> tuple[list[Step], ProjectState]:
    """The steps of a migration and the state after it.

    Making the models of a state takes longer than most statements, so all are made before the first lock is taken.
    """
    steps = []
    for operation in migration.operations:
        before, state = state, state.clone()
        operation.state_forwards(migration.app_label, state)
        for each in (before, state):
            _ = each.apps  # a cached property
        steps.append((operation, before, state))
    return steps, state


class LockTimeouts:
    """Sets `lock_timeout` before each statement of a transaction (for `connection.execute_wrapper`)."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self.started = time.monotonic()

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        # In a failed transaction only a rollback to a savepoint can follow.
        failed = self.connection.connection.info.transaction_status == TRANSACTION_STATUS_INERROR
        if self.connection.in_atomic_block and not failed:
            left = LOCKED_SECONDS - (time.monotonic() - self.started)
            self.set_timeout(min(LOCK_TIMEOUT, max(SHORTEST_TIMEOUT, left)))
        return execute(sql, params, many, context)

    def set_timeout(self, seconds: float) -> None:
        with self.connection.connection.cursor() as cursor:  # of the driver, which no wrapper sees
            cursor.execute(f"SET LOCAL lock_timeout = '{round(seconds * 1000)}ms'")


class PatientExecutor(MigrationExecutor):
    """Django's executor, which tries a migration again while its locks are not free.

    An atomic migration is one transaction with the row that records it. Of a migration with `atomic = False`, each
    operation is tried again by itself, so each must be able to start over: see `healthcare.migration_operations`.
    """

    verify: Callable[[], None] = staticmethod(lambda: None)  # raises if another `migrate` may work on this database
    report: Callable[[str], None] = staticmethod(lambda text: None)
    patience = PATIENCE

    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        self.verify()
        if fake or fake_initial:
            return super().apply_migration(state, migration, fake, fake_initial)
        self._show("apply_start", migration)
        if migration.atomic:
            steps, state = prepare_steps(state, migration)
            self._attempt(migration, lambda: self._apply_and_record(steps, migration))
        else:
            for operation in migration.operations:
                apply = self._step(state, migration, operation)
                state = self._attempt(migration, apply, in_transaction=_is_atomic(operation))
            self.record_migration(migration)  # type: ignore[arg-type, call-arg]  # the stubs have another signature
        self._show("apply_success", migration)
        return state

    def unapply_migration(self, state: ProjectState, migration: Migration, fake: bool = False) -> ProjectState:
        self.verify()
        if fake or not migration.atomic:
            return super().unapply_migration(state, migration, fake)
        return self._attempt(migration, partial(super().unapply_migration, state, migration, fake))

    def _show(self, action: str, migration: Migration) -> None:
        if self.progress_callback:
            self.progress_callback(action, migration, False)

    def _apply_and_record(self, steps: list[Step], migration: Migration) -> None:
        with self.connection.schema_editor(atomic=True) as editor:
            for operation, before, after in steps:
                operation.database_forwards(migration.app_label, editor, before, after)
        self.record_migration(migration)  # type: ignore[arg-type, call-arg]

    def _step(self, state: ProjectState, migration: Migration, operation: Any) -> Callable[[], ProjectState]:
        """What applies one operation of a migration that is not atomic."""
        single = Migration(migration.name, migration.app_label)
        vars(single).update(operations=[operation], atomic=_is_atomic(operation))

        def apply() -> ProjectState:
            with self.connection.schema_editor(atomic=_is_atomic(operation)) as editor:
                return single.apply(state.clone(), editor)

        return apply

    def _attempt(self, migration: Migration, work: Callable[[], Result], *, in_transaction: bool = True) -> Result:
        """Run the work, in a transaction unless it has its own, until it gets its locks.

        Raises CommandError after `patience` seconds.
        """
        deadline, attempts = time.monotonic() + self.patience, 0
        while True:
            try:
                with self._locks(quiet=attempts > 0) if in_transaction else nullcontext():
                    return work()
            except OperationalError as error:
                if getattr(error.__cause__, "pgcode", None) not in RETRIED:
                    raise
            pause = PAUSES[min(attempts, len(PAUSES) - 1)]
            attempts += 1
            if time.monotonic() + pause > deadline:
                raise CommandError(
                    f"{migration} was not applied: other transactions have kept its tables locked for "
                    f"{self.patience:.0f} s. Wait for them or end them (pg_stat_activity), then run `migrate` again."
                ) from None
            self.report(f"{migration}: a table is in use. Attempt {attempts + 1} in {pause:g} s…")
            time.sleep(pause)

    @contextmanager
    def _locks(self, *, quiet: bool) -> Iterator[None]:
        with transaction.atomic(self.connection.alias):
            timeouts = LockTimeouts(self.connection)
            if quiet:
                timeouts.set_timeout(max(self.patience, SHORTEST_TIMEOUT))
                with self.connection.cursor() as cursor:
                    cursor.execute(VACUUMED_TABLES)
                    for (table,) in cursor.fetchall():
                        cursor.execute(QUIET_LOCK % table)
            timeouts.started = time.monotonic()
            with self.connection.execute_wrapper(timeouts):
                yield


def _is_atomic(operation: Any) -> bool:
    return not isinstance(operation, NotInTransactionMixin)
