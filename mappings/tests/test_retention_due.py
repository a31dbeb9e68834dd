"""`manage.py retention_due` lists what has passed its retention period, by ids, and removes nothing."""

import datetime
import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog
from audit.retention import months_before
from audit.tests.old_rows import move_to_month
from audit.tests.test_seals import seal, superuser
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.retention import years_before
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient
from patients.tests.merging import merge


def due() -> list[str]:
    printed = StringIO()
    call_command("retention_due", stdout=printed)
    return printed.getvalue().splitlines()


def years_ago(years: float) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(days=365.25 * years)


def age(patient: Patient, years: float) -> Patient:
    """As if all of it had happened so many years ago."""
    with superuser() as cursor:
        moment = years_ago(years)
        cursor.execute(
            "UPDATE patients_patient SET created_at = %s, updated_at = %s WHERE id = %s", [moment, moment, patient.pk]
        )
        cursor.execute(
            "UPDATE patients_patient SET deleted_at = %s WHERE id = %s AND deleted_at IS NOT NULL", [moment, patient.pk]
        )
    return patient


@pytest.fixture
def ended() -> Any:
    def end(mapping: Mapping, years: float) -> None:
        with superuser() as cursor:
            cursor.execute(
                "UPDATE mappings_mapping SET started_at = %s, ended_at = %s WHERE id = %s",
                [years_ago(years + 1), years_ago(years), mapping.pk],
            )

    return end


def test_patients_who_were_deleted_or_not_treated_for_years_are_listed(
    alice: User, as_alice: LoggedInClient, ended: Any
) -> None:
    doctor = make_doctor(alice)
    untreated, deleted, held, recent, treated, ended_lately, ended_long_ago, merged = (
        make_patient(alice, name=f"Zebulon {number}") for number in range(8)
    )
    make_mapping(treated, doctor)
    ended(make_mapping(ended_lately, doctor), 9.9)
    ended(make_mapping(ended_long_ago, doctor), 10.1)
    merge(as_alice, recent, merged)
    as_alice.delete(f"/api/patients/{deleted.pk}/")
    for patient in (untreated, deleted, held, treated, ended_lately, ended_long_ago, merged):
        age(patient, 12)
    age(recent, 9.9)
    call_command("legal_hold", str(held.pk), "--reason", "Case 7", stdout=StringIO())
    day = f"{years_ago(12):%Y-%m-%d}"
    before = Patient.objects.count(), PatientEvent.objects.count()
    printed = [line for line in due() if line.startswith("patient")]
    assert printed == [
        f"patient {untreated.pk} not treated since {day}",
        f"patient {deleted.pk} deleted {day}",
        f"patient {held.pk} not treated since {day} (legal hold)",
        f"patient {ended_long_ago.pk} not treated since {years_ago(10.1):%Y-%m-%d}",
    ]
    assert (Patient.objects.count(), PatientEvent.objects.count()) == before
    assert not any("Zebulon" in line for line in due())


def test_the_setting_decides(alice: User, settings: Any) -> None:
    age(make_patient(alice), 3)
    assert due() == []
    settings.RETENTION_PATIENTS_YEARS = 2
    assert len(due()) == 1


def test_months_that_can_be_archived_are_listed_with_their_rows(
    alice: User, as_alice: LoggedInClient, tmp_path: Path
) -> None:
    patient = make_patient(alice)
    as_alice.get("/api/patients/")
    with connection.cursor() as cursor:
        move_to_month(cursor, "2024-01")
    as_alice.get("/api/patients/")
    as_alice.patch(f"/api/patients/{patient.pk}/", {"name": "New"})
    with connection.cursor() as cursor:
        move_to_month(cursor, "2024-02")
    as_alice.get("/api/patients/")
    months = {line.split()[1]: int(line.split()[2]) for line in due() if re.match("month ", line)}
    january = 2 + AccessLog.objects.filter(at__lt="2024-02-01 00:00Z").count()
    assert months == {"2024-01": january, "2024-02": 3}
    call_command("legal_hold", str(patient.pk), "--reason", "Case 7", stdout=StringIO())
    assert [line for line in due() if line.startswith("month")] == [
        f"month 2024-01 {january} rows of history and access log (legal hold)",
        "month 2024-02 3 rows of history and access log (legal hold)",
    ]
    call_command("legal_hold", str(patient.pk), "--release", stdout=StringIO())
    seal()
    call_command("archive", str(tmp_path / "a"), "--before", "2024-02", stdout=StringIO())
    assert [line for line in due() if line.startswith("month")] == ["month 2024-02 3 rows of history and access log"]


def test_periods_end_on_days_that_exist() -> None:
    leap = datetime.datetime(2028, 2, 29, tzinfo=datetime.UTC)
    assert years_before(leap, 10) == datetime.datetime(2018, 2, 28, tzinfo=datetime.UTC)
    assert months_before(leap.date(), 14) == datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
    assert months_before(datetime.date(2028, 1, 31), 1) == datetime.datetime(2027, 12, 1, tzinfo=datetime.UTC)
