"""The access log, the seals over access log and history, what was removed from both, and legal holds."""

from collections.abc import Iterable
from typing import Any, Self

import pgtrigger
from django.contrib.auth import get_user_model
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from audit.actor_names import ActorName
from audit.history import track_history
from healthcare.database_objects import DatabaseObject, declare
from healthcare.model_fields import LARGEST_ID, LineField, one_visible_line
from healthcare.operations.request_ids import LONGEST_REQUEST_ID
from healthcare.ownership import RecordOwner
from healthcare.triggers import DatabaseTrigger

APPEND_ONLY = pgtrigger.Protect(name="append_only", operation=pgtrigger.Update | pgtrigger.Delete)


# The history of users belongs to this app, which tracked users before accounts imported it. No password is recorded.
NOT_RECORDED = ["password", "last_login", "is_clinic", "verified_email", "pending_email"]
UserEvent: Any = track_history(get_user_model(), exclude=NOT_RECORDED, app_label="audit")


class Basis(models.TextChoices):
    """On what basis the actor may read the data."""

    OWNER = "owner"
    DELEGATE = "delegate"
    STAFF = "staff"

    @classmethod
    def of(cls, owner: RecordOwner) -> "Basis":
        """The basis of an API request that works on the records of this owner."""
        return cls.DELEGATE if owner.role else cls.OWNER


class AccessLogManager(models.Manager["AccessLog"]):
    # No RETURNING: who may add a row may not read it. No `at`: its default is the clock, and nobody else may set it.
    INSERT = """
        INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)
        SELECT %s, %s, %s::bigint[], %s, %s, %s FROM (SELECT {}) AS settings"""
    # For the statement that also reads the rows (`healthcare.fastpath`). Parameters: actor and action, those of `ids`,
    # basis and request id, those of `outcome` and of `condition`.
    INSERT_IN_STATEMENT = """
        INSERT INTO audit_accesslog (actor, action, patient_ids, basis, request_id, outcome)
        SELECT %s, %s, {ids}, %s, %s, {outcome} WHERE {condition}"""
    DURABLE, SOON = INSERT.format("1"), INSERT.format("set_config('synchronous_commit', 'off', true)")

    def record(
        self,
        actor: int,
        action: str,
        patient_ids: Iterable[int],
        *,
        basis: Basis,
        request_id: str,
        outcome: int,
        pure_read: bool,
    ) -> None:
        """Add one row, in one statement. `outcome` is the HTTP status.

        With `pure_read` the commit is asynchronous: after a crash of the database server (not of the app) the rows of
        at most the last three times wal_writer_delay (0.6 s) can be missing.
        """
        known = sorted({key for key in patient_ids if 0 < key <= LARGEST_ID})
        with connection.cursor() as cursor:
            cursor.execute(
                self.SOON if pure_read else self.DURABLE, [actor, action, known, basis.value, request_id, outcome]
            )


class AccessLog(models.Model):
    """One request that read patients' data or was refused it. It holds ids instead of foreign keys, because it outlives
    users and patients."""

    at = models.DateTimeField(db_default=models.Func(function="clock_timestamp"))
    actor = models.BigIntegerField()
    action = models.CharField(max_length=100)
    patient_ids = ArrayField(models.BigIntegerField())
    basis = models.CharField(max_length=10, choices=Basis.choices)
    request_id = models.CharField(max_length=LONGEST_REQUEST_ID)
    outcome = models.PositiveSmallIntegerField()

    objects = AccessLogManager()

    class Meta:
        verbose_name_plural = "access log"
        default_permissions = ["view"]
        # GIN searches its pending list too. Every read adds a row, so the list is kept short (KiB).
        indexes = [GinIndex(fields=["patient_ids"], name="access_to_patient", gin_pending_list_limit=512)]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"


class PatientAccessQuerySet(models.QuerySet["PatientAccess"]):
    def with_actor_names(self) -> Self:
        """With the name of each actor as `actor_name`; None for a user who does not exist any more."""
        return self.annotate(actor_name=ActorName("actor"))


class PatientAccess(models.Model):
    """An access to one patient of the owner of the request, without the other patients of the same request.

    A database view: see the migration. Its cost grows with the accesses to this patient, not with the log or the depth
    of the page.
    """

    patient_id_field = "patient_id"  # see `patient_data`

    patient_id = models.BigIntegerField()
    at = models.DateTimeField()
    actor = models.BigIntegerField()
    action = models.CharField(max_length=100)
    basis = models.CharField(max_length=10, choices=Basis.choices)
    request_id = models.CharField(max_length=LONGEST_REQUEST_ID)
    outcome = models.PositiveSmallIntegerField()

    objects = PatientAccessQuerySet.as_manager()

    class Meta:
        managed = False

    def __str__(self) -> str:
        return f"{self.action} by {self.actor}"


class Forgotten(models.Model):
    """A row that an erasure removed, or from which it removed a patient's id: see `erasure`."""

    table = models.CharField(max_length=63)
    row = models.BigIntegerField()
    at = models.DateTimeField(db_default=models.Func(function="clock_timestamp"))

    class Meta:
        verbose_name_plural = "forgotten"
        constraints = [models.UniqueConstraint(fields=["table", "row"], name="forgotten_once")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.table} {self.row}"


class Seal(models.Model):
    """The codes of the rows that were added to one table since its last seal, up to `last_id`: see `seals`."""

    at = models.DateTimeField(default=timezone.now)
    table = models.CharField(max_length=63)
    columns = ArrayField(models.CharField(max_length=63))
    row_ids = ArrayField(models.BigIntegerField())
    last_id = models.BigIntegerField()
    latest = models.DateTimeField()
    codes = models.BinaryField()
    code = models.CharField(max_length=64)

    class Meta:
        default_permissions = ["view"]
        indexes = [models.Index(fields=["table", "-id"], name="seal_of_table")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.pk}:{self.code}"


class ReleaseOnly(DatabaseTrigger):
    """A hold changes once, when it is released."""

    name = "release_only"
    when = pgtrigger.Before
    operation = pgtrigger.Update
    func = """
    IF OLD.released_at IS NOT NULL OR NEW.released_at IS NULL
        OR (NEW.id, NEW.patient_id, NEW.record_ids, NEW.reason, NEW.set_at, NEW.set_account, NEW.set_username)
        IS DISTINCT FROM (OLD.id, OLD.patient_id, OLD.record_ids, OLD.reason, OLD.set_at, OLD.set_account,
            OLD.set_username)
    THEN
        RAISE EXCEPTION 'A legal hold can only be released, and once.';
    END IF;
    RETURN NEW;
"""


class LegalHoldQuerySet(models.QuerySet["LegalHold"]):
    def active(self) -> Self:
        return self.filter(released_at=None)

    def held_records(self) -> dict[int, int]:
        """The ids of all records that these holds are about, each with the id of the patient whom the hold names."""
        holds = self.values_list("patient_id", "record_ids")
        return {record: patient for patient, records in holds for record in [patient, *records]}


class LegalHold(models.Model):
    """An order to remove nothing about a patient: see `legal_hold`. It holds ids instead of foreign keys, because it
    outlives the patient, and because a merge would move what refers to a patient."""

    patient_id = models.BigIntegerField("patient", help_text="The patient's id.")
    # The patient and the records that were merged into it. A trigger of the patients fills it.
    record_ids = ArrayField(models.BigIntegerField(), default=list, editable=False)
    reason = LineField(
        max_length=500,
        validators=[one_visible_line],
        help_text="One line that stays permanently, such as the number of the case. No name, and nothing about health.",
    )
    set_at = models.DateTimeField(db_default=models.Func(function="clock_timestamp"), editable=False)
    set_account = models.CharField(
        max_length=100, blank=True, help_text="The operating system's account, of a command."
    )
    set_username = models.CharField(max_length=254, blank=True, help_text="The member of staff.")
    released_at = models.DateTimeField(null=True, editable=False)
    released_account = models.CharField(max_length=100, blank=True)
    released_username = models.CharField(max_length=254, blank=True)
    release_reason = LineField(max_length=500, blank=True, validators=[one_visible_line])

    objects = LegalHoldQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["patient_id"],
                condition=Q(released_at=None),
                name="hold_once",
                violation_error_message="This patient is already under a legal hold.",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="hold_reason_given"),
        ]
        indexes = [GinIndex(fields=["record_ids"], condition=Q(released_at=None), name="hold_of_record")]
        triggers = [ReleaseOnly(), pgtrigger.Protect(name="append_only", operation=pgtrigger.Delete)]

    def __str__(self) -> str:
        return f"legal hold {self.pk}"


LegalHoldEvent: Any = track_history(LegalHold)


class ArchiveQuerySet(models.QuerySet["Archive"]):
    def file_names(self) -> str:
        """The names of all files, comma-separated, in the order in which they were written."""
        files = self.values("digest", "file").annotate(first=models.Min("id")).order_by("first")
        return ", ".join(row["file"] for row in files)


class Archive(models.Model):
    """The rows of one table that one file holds and that are removed from the table: see `archive`.

    They are those in `earlier`, and those with an id above `after_id` and up to `last_id` without those in `kept`.
    """

    at = models.DateTimeField(default=timezone.now)
    before = models.DateTimeField(help_text="The file holds rows of the time before.")
    file = models.CharField(max_length=255, help_text="The name that the file had.")
    digest = models.CharField(max_length=64, help_text="The SHA-256 of the file.")
    table = models.CharField(max_length=63)
    after_id = models.BigIntegerField()
    last_id = models.BigIntegerField()
    row_count = models.BigIntegerField()
    kept = models.BinaryField()  # see `archived_rows.pack`
    earlier = models.BinaryField()
    code = models.CharField(max_length=64)

    objects = ArchiveQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["table", "last_id", "digest"], name="archive_once")]
        triggers = [APPEND_ONLY]

    def __str__(self) -> str:
        return f"{self.file} {self.table}"


# SECURITY DEFINER: callers of the API may not read the records of archives.
HISTORY_KEPT_SINCE = declare(
    DatabaseObject(
        "audit",
        "history_kept_since",
        """
CREATE OR REPLACE FUNCTION history_kept_since() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$ SELECT max(before) FROM audit_archive $$;
REVOKE ALL ON FUNCTION history_kept_since() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION history_kept_since() TO healthcare_api;
""",
        "DROP FUNCTION history_kept_since();",
    )
)


class VerificationMark(models.Model):
    """Up to which seal `verify_audit` has verified the chain: see `verification`. One row."""

    seal_id = models.BigIntegerField()
    seal_code = models.CharField(max_length=64)
    positions = models.JSONField(
        help_text="Of each table the id up to which its rows are verified, and their last time."
    )
    code = models.CharField(max_length=64)

    def __str__(self) -> str:
        return f"{self.seal_id}:{self.seal_code}"
