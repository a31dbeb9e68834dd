"""Patients (FHIR R4 Patient), visible only to the user who created them, and the records of merges and erasures."""

import datetime
from typing import Any, ClassVar, Self

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import ExtractYear
from django.db.models.lookups import LessThanOrEqual
from django.utils import timezone

from audit.history import OwnedEvent, track_history
from healthcare.coverage import covered_by_fast_path
from healthcare.model_fields import (
    LARGEST_FHIR,
    AddressField,
    EmailField,
    LineField,
    MultilineField,
    NameField,
    ObjectListField,
    OctetLength,
    PhoneField,
    one_visible_line,
)
from healthcare.ownership import OwnedModel, OwnedQuerySet, RecordOwner, derived
from healthcare.search.index import searchable
from patients import accesses  # noqa: F401  (declares the view)
from patients.birth import AGE_SQL, age_of
from patients.constraints import CONTACTS_WELL_FORMED, IDENTIFIERS_WELL_FORMED


class Gender(models.TextChoices):
    """FHIR R4 administrative gender, as one letter."""

    MALE = "M", "male"
    FEMALE = "F", "female"
    OTHER = "O", "other"
    UNKNOWN = "U", "unknown"


GENDER_CODES = {label: letter for letter, label in Gender.choices}


def gender_code(text: str) -> str:
    """The code of a gender that is written as its code or as FHIR's word, in any case. Other text comes back in upper
    case."""
    word = text.strip().lower()
    return GENDER_CODES.get(word, word.upper())


# A well-formed tag (BCP 47, RFC 5646 section 2.1), without the irregular ones of old. No language in the registry has
# more than three letters, so "english" is refused.
LANGUAGE_TAG = (
    r"\A([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WYZa-wyz](-[A-Za-z0-9]{2,8})+)*(-[Xx](-[A-Za-z0-9]{1,8})+)?"
    r"|[Xx](-[A-Za-z0-9]{1,8})+)\Z"
)


class PatientQuerySet(OwnedQuerySet):
    def unmerged(self) -> Self:
        """The patients that were not merged into another one."""
        return self.filter(merged_into=None)

    def merged(self) -> Self:
        return self.filter(merged_into__isnull=False)


class Patient(OwnedModel):
    patient_id_field = "id"  # marks this as the model of the patients: see `audit.patient_data`
    import_kind = "patients"  # see `healthcare.imports`

    name = NameField()
    gender = models.CharField(max_length=1, choices=Gender.choices, default=Gender.UNKNOWN)
    birth_date = models.DateField(null=True, blank=True)
    birth_year = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1850), MaxValueValidator(9999)]
    )
    deceased = models.BooleanField(null=True, blank=True, help_text="null: unknown.")
    deceased_on = models.DateField(null=True, blank=True)
    identifier = LineField(max_length=100, blank=True, help_text="The clinic's own number for this patient.")
    identifiers = ObjectListField(members=["system", "value"])
    phone = PhoneField(blank=True)
    alternate_phone = PhoneField(blank=True)
    email = EmailField(blank=True)
    address = AddressField(max_length=500, blank=True)
    language = LineField(
        max_length=50,
        blank=True,
        validators=[RegexValidator(LANGUAGE_TAG, "Enter a language tag (BCP 47), such as hi or pt-BR.")],
        help_text="The language to speak with the patient, as a tag (BCP 47).",
    )
    contacts = ObjectListField(members=["name", "relationship", "phone"])
    medical_history = MultilineField(blank=True)
    # What FHIR clients sent and no other column holds, as JSON: see `fhir.elements`. Exports have it.
    fhir = models.TextField("kept FHIR elements", blank=True, default="", db_default="", editable=False)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    # The record that this duplicate was merged into (FHIR R4 Patient.link, replaced-by): see `merges`.
    merged_into = models.ForeignKey(
        "self", models.PROTECT, null=True, blank=True, editable=False, related_name="duplicates", db_index=False
    )

    objects: ClassVar[models.Manager] = PatientQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        permissions = [
            ("restore_patient", "Can restore patient"),
            ("merge_patient", "Can merge patient"),
            ("export_patient", "Can export patient"),
            ("hand_over_patient", "Can hand patient over to another owner"),
        ]
        indexes = [
            models.Index(fields=["created_by", "-id"], condition=Q(deleted_at=None), name="patient_list"),
            models.Index(
                fields=["created_by", "-id"],
                condition=Q(deleted_at__isnull=False, merged_into=None),
                name="patient_list_deleted",
            ),
            models.Index(fields=["created_by", "name", "id"], condition=Q(deleted_at=None), name="patient_by_name"),
            models.Index(
                fields=["created_by", "created_at", "id"], condition=Q(deleted_at=None), name="patient_by_start"
            ),
            models.Index(
                fields=["created_by", "updated_at", "id"], condition=Q(deleted_at=None), name="patient_by_change"
            ),
            # Likely duplicates of many patients at once.
            models.Index(
                fields=["created_by", "birth_year", "birth_date"],
                condition=Q(deleted_at=None),
                name="patient_by_birth",
            ),
            # The lists of the admin, which show the records of all owners: by gender, by time or both, and the few that
            # are deleted or merged.
            models.Index(fields=["gender", "created_at", "id"], name="patient_by_gender"),
            # `version` is always above 0. The API does not say so, which keeps its lists of one owner off this index.
            models.Index(
                fields=["-id"],
                condition=Q(deleted_at__isnull=False, merged_into=None, version__gt=0),
                name="patient_deleted",
            ),
            models.Index(fields=["-id"], condition=Q(merged_into__isnull=False), name="patient_merged"),
            models.Index(
                fields=["created_by", "-id"], condition=Q(merged_into__isnull=False), name="patient_list_merged"
            ),
            models.Index(fields=["merged_into"], condition=Q(merged_into__isnull=False), name="patient_merged_into"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="patient_name_given"),
            models.CheckConstraint(condition=Q(gender__in=Gender.values), name="patient_gender_known"),
            models.CheckConstraint(
                condition=Q(birth_date=None) | Q(birth_year=ExtractYear("birth_date")),
                name="patient_birth_agrees",
                violation_error_message="The birth year is not the year of the birth date.",
            ),
            models.CheckConstraint(
                condition=Q(deceased=True, deceased__isnull=False) | Q(deceased_on=None),
                name="patient_death_agrees",
                violation_error_code="contradiction",
                violation_error_message="This contradicts the date of death.",
            ),
            models.CheckConstraint(
                condition=Q(deceased_on=None)
                | (
                    (Q(birth_year=None) | Q(birth_year__lte=ExtractYear("deceased_on")))
                    & (Q(birth_date=None) | Q(birth_date__lte=F("deceased_on")))
                ),
                name="patient_dies_after_birth",
                violation_error_code="contradiction",
                violation_error_message="The date of death lies before the birth.",
            ),
            models.CheckConstraint(condition=IDENTIFIERS_WELL_FORMED, name="patient_identifiers_well_formed"),
            models.CheckConstraint(condition=CONTACTS_WELL_FORMED, name="patient_contacts_well_formed"),
            models.CheckConstraint(
                condition=LessThanOrEqual(OctetLength("fhir"), LARGEST_FHIR), name="patient_fhir_size"
            ),
            models.CheckConstraint(
                condition=Q(merged_into=None) | Q(deleted_at__isnull=False), name="patient_merged_is_hidden"
            ),
            models.CheckConstraint(condition=~Q(merged_into=F("id")), name="patient_merged_into_another"),
        ]

    def __str__(self) -> str:
        return self.name

    @covered_by_fast_path  # PatientSerializer gives the year of a date as well
    def complete(self) -> None:
        if self.birth_date:
            self.birth_year = self.birth_date.year

    @derived(AGE_SQL)
    def age(self) -> int | None:
        """Whole years today: see `birth.age_of`."""
        return age_of(self, timezone.localdate())


class PatientMergeQuerySet(OwnedQuerySet):
    ended_column = "unmerged_at"


class PatientMerge(OwnedModel):
    """A merge of a duplicate into another record, with what is needed to undo it."""

    patient_id_field = "survivor_id"

    survivor = models.ForeignKey(Patient, models.PROTECT, related_name="+")
    duplicate = models.ForeignKey(Patient, models.PROTECT, related_name="+", db_index=False)
    # All three are emptied when the merge is undone.
    filled = models.JSONField(help_text="What the survivor got from the duplicate, by field.")
    replaced = models.JSONField(
        default=dict, db_default=models.Value({}, models.JSONField()), help_text="What the survivor had there before."
    )
    moved = models.JSONField(help_text="The rows that were the duplicate's, by table and id, and what changed on each.")
    # The survivor's versions that may hold the duplicate's data, which an erasure removes: from the first one on, and
    # before the last one.
    first_version = models.PositiveIntegerField(null=True)
    last_version = models.PositiveIntegerField(null=True)
    unmerged_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager] = PatientMergeQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["duplicate"], condition=Q(unmerged_at=None), name="merge_once"),
        ]
        indexes = [models.Index(fields=["duplicate"], name="merge_of_duplicate")]

    def __str__(self) -> str:
        return f"{self.duplicate_id} into {self.survivor_id}"


class TransferState(models.TextChoices):
    PENDING = "pending"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    LAPSED = "lapsed"


class PatientTransferQuerySet(models.QuerySet["PatientTransfer"]):
    def of_either_side(self, owner: RecordOwner) -> Self:
        """Those that the owner has offered or been offered; none for an anonymous one."""
        return self.filter(Q(from_owner=owner.pk) | Q(to_owner=owner.pk)) if owner.pk else self.none()

    def pending(self) -> Self:
        """Those that are not settled, with those that have expired and whose lapse nobody has recorded yet."""
        return self.filter(state=TransferState.PENDING)

    def expired(self) -> Self:
        return self.pending().filter(expires_at__lte=timezone.now())


class PatientTransfer(models.Model):
    """An owner's offer of a patient to another owner, and its state. See `transfers`."""

    LIFETIME = datetime.timedelta(days=7)

    # Without a constraint in the database, so that a merge, which moves what such a key refers to, leaves it.
    patient = models.ForeignKey(
        Patient, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False, editable=False
    )
    from_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False, editable=False
    )
    to_owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False, editable=False
    )
    state = models.CharField(max_length=10, choices=TransferState.choices, default=TransferState.PENDING)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    expires_at = models.DateTimeField(editable=False)
    settled_at = models.DateTimeField(null=True, editable=False)

    objects = PatientTransferQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["from_owner", "-id"], name="transfer_given"),
            models.Index(fields=["to_owner", "-id"], name="transfer_received"),
            models.Index(fields=["patient"], name="transfer_of_patient"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["patient"], condition=Q(state="pending"), name="transfer_pending_once"),
        ]

    def __str__(self) -> str:
        return f"transfer {self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.expires_at = self.expires_at or self.created_at + self.LIFETIME
        super().save(*args, **kwargs)

    @property
    def current_state(self) -> str:
        """The state; a pending transfer lapses by itself, whether that has been recorded or not."""
        lapsed = self.state == TransferState.PENDING and self.expires_at <= timezone.now()
        return TransferState.LAPSED.value if lapsed else self.state


class ErasureReceipt(models.Model):
    """An erasure: when, by whom and why, without any of the erased data."""

    class Kind(models.TextChoices):
        PATIENT = "patient"
        DOCTOR = "doctor"
        USER = "user"

    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.PATIENT, help_text="What was erased.")
    record_id = models.BigIntegerField(help_text="The id that it had; ids are never given again.")
    erased_at = models.DateTimeField(auto_now_add=True)
    account = models.CharField(max_length=100, help_text="The operating system's account that ran the command.")
    username = models.CharField(max_length=254, blank=True, help_text="The member of staff who asked for it.")
    reason = LineField(max_length=500, validators=[one_visible_line])
    counts = models.JSONField(help_text="How many rows were erased, by table.")

    class Meta:
        ordering = ["-id"]
        constraints = [models.CheckConstraint(condition=~Q(reason=""), name="erasure_reason_given")]

    def __str__(self) -> str:
        return f"{self.kind} {self.record_id}, {self.erased_at:%Y-%m-%d}"


class PastPatient(OwnedEvent):
    """The base of PatientEvent: a patient as of a time in the past, with the age at that time."""

    as_of: datetime.datetime
    birth_date: datetime.date | None
    birth_year: int | None
    deceased: bool | None
    deceased_on: datetime.date | None

    class Meta:
        abstract = True

    @property
    def age(self) -> int | None:
        """Whole years on the day of `as_of`."""
        return age_of(self, timezone.localdate(self.as_of))


PATIENT_SEARCH = searchable(
    Patient,
    owner="created_by",
    successor="merged_into",
    name="name",
    identifier="identifier",
    identifiers="identifiers",
    phone="phone",
    alternate_phone="alternate_phone",
    email="email",
)
PatientEvent: Any = track_history(Patient, PastPatient)
