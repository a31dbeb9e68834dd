"""The filters of /api/patients/ narrow the caller's own list."""

import datetime
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from conftest import LoggedInClient
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


def names(client: LoggedInClient, query: str) -> list[str]:
    answer = client.get(f"/api/patients/?{query}")
    assert answer.status_code == 200, answer.content
    return sorted(row["name"] for row in answer.json())


@pytest.fixture
def people(alice: User, bob: User) -> None:
    make_patient(bob, name="Bob's", gender="F", birth_date=datetime.date(1990, 5, 1), identifier="A-1")
    make_patient(alice, name="Dated", gender="F", birth_date=datetime.date(1990, 5, 1), identifier="A-1")
    make_patient(alice, name="Year", gender="M", birth_year=1980)
    make_patient(alice, name="Unknown", gender="U")


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("gender=F", ["Dated"]),
        ("gender=male", ["Year"]),
        ("gender=u", ["Unknown"]),
        ("birth_date_after=1990-05-01", ["Dated"]),
        ("birth_date_after=1990-05-02", []),
        ("birth_date_before=1990-05-01", ["Dated", "Year"]),
        ("birth_date_before=1990-04-30", ["Year"]),
        ("birth_date_after=1980-12-31", ["Dated", "Year"]),
        ("birth_date_after=1981-01-01", ["Dated"]),
        ("birth_date_before=1980-01-01", ["Year"]),
        ("birth_date_before=1979-12-31", []),
        ("birth_date_after=1980-06-01&birth_date_before=1980-06-30", ["Year"]),
        ("birth_date_after=1990-01-01&birth_date_before=1991-01-01", ["Dated"]),
        ("identifier=A-1", ["Dated"]),
        ("identifier=a-1", []),
        ("created_after=2020-01-01T00:00:00Z", ["Dated", "Unknown", "Year"]),
        ("created_before=2020-01-01T00:00:00Z", []),
        ("updated_after=2020-01-01T00:00:00+05:30", ["Dated", "Unknown", "Year"]),
        ("updated_before=2020-01-01", []),
        ("age_min=0", ["Dated", "Year"]),
        ("gender=F&identifier=A-1&age_min=20", ["Dated"]),
        ("gender=M&identifier=A-1", []),
        ("deleted=true&gender=F", []),
    ],
)
def test_a_filter_narrows_the_callers_own_list(as_alice: LoggedInClient, query: str, found: list[str]) -> None:
    assert names(as_alice, query) == found


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("value", ["1_0", "٣", "３", "3.0", "+3", " 3", "1e1", "0x3", "3 0", "9" * 5000])
@pytest.mark.parametrize("name", ["age_min", "age_max", "doctor"])
def test_a_number_to_filter_by_is_written_in_digits_of_ascii(as_alice: LoggedInClient, name: str, value: str) -> None:
    for answer in (
        as_alice.get("/api/patients/", {name: value}),
        as_alice.post("/api/patients/search/", {name: value}),
    ):
        assert answer.status_code == 400
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{name}"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize("value", ["\u200b", "\u2800\u3164", "\u200e \u200f"])
def test_a_value_of_which_nothing_can_be_seen_does_not_return_the_whole_list(
    as_alice: LoggedInClient, value: str
) -> None:
    for path, name in (
        ("/api/patients/", "identifier"),
        ("/api/doctors/", "specialization"),
        ("/api/mappings/", "role"),
    ):
        answer = as_alice.get(path, {name: value})
        assert answer.status_code == 400
        assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(f"/{name}", "blank")]


def test_the_age_filters_agree_with_the_age_field(as_alice: LoggedInClient, alice: User) -> None:
    today = timezone.localdate()
    for days in range(-3, 4):
        born = (today + datetime.timedelta(days=days)).replace(year=today.year - 30)
        make_patient(alice, name=f"day {days}", birth_date=born)
    make_patient(alice, name="year", birth_year=today.year - 30)
    make_patient(alice, name="leap", birth_date=datetime.date(2000, 2, 29))
    make_patient(alice, name="unknown")
    ages = {row["name"]: row["age"] for row in as_alice.get("/api/patients/").json()}
    for age in range(24, 35):
        assert names(as_alice, f"age_min={age}") == sorted(n for n, a in ages.items() if a is not None and a >= age)
        assert names(as_alice, f"age_max={age}") == sorted(n for n, a in ages.items() if a is not None and a <= age)


def test_the_doctor_filter_finds_patients_with_an_active_assignment(as_alice: LoggedInClient, alice: User) -> None:
    doctor, other = make_doctor(alice), make_doctor(alice)
    past = make_mapping(make_patient(alice, name="past"), doctor)
    Mapping.objects.filter(pk=past.pk).end()
    make_mapping(make_patient(alice, name="now"), doctor)
    make_mapping(make_patient(alice, name="other"), other)
    assert names(as_alice, f"doctor={doctor.pk}") == ["now"]


@pytest.mark.parametrize(
    ("query", "pointer", "code"),
    [
        ("gender=X", "/gender", "invalid_choice"),
        ("gender=", "/gender", "blank"),
        ("gender=%00", "/gender", "invalid_choice"),
        ("birth_date_after=05/01/1990", "/birth_date_after", "invalid"),
        ("birth_date_before=1990-02-30", "/birth_date_before", "invalid"),
        ("birth_date_before=", "/birth_date_before", "blank"),
        ("age_min=-1", "/age_min", "min_value"),
        ("age_max=151", "/age_max", "max_value"),
        ("age_max=1e9", "/age_max", "invalid"),
        ("age_max=99999999999999999999", "/age_max", "max_value"),
        ("created_after=yesterday", "/created_after", "invalid"),
        ("created_after=0001-01-01T00:00:00%2B14:00", "/created_after", "invalid"),
        ("updated_before=9999-12-31T23:59:59-14:00", "/updated_before", "invalid"),
        ("identifier=%00", "/identifier", "invalid"),
        ("identifier=" + "x" * 402, "/identifier", "max_length"),
        ("doctor=0", "/doctor", "does_not_exist"),
        ("doctor=x", "/doctor", "does_not_exist"),
        ("doctor=%D9%A5", "/doctor", "does_not_exist"),
        (f"doctor={2**70}", "/doctor", "does_not_exist"),
    ],
)
def test_an_invalid_filter_value_is_refused_and_not_echoed(
    as_alice: LoggedInClient, alice: User, query: str, pointer: str, code: str
) -> None:
    make_patient(alice)
    answer = as_alice.get(f"/api/patients/?{query}")
    assert answer.status_code == 400, answer.content
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)
    value = query.partition("=")[2]
    assert len(value) < 3 or value not in error["detail"]


def test_a_deleted_doctor_in_a_filter_reads_like_a_missing_one(as_alice: LoggedInClient, alice: User) -> None:
    gone = make_doctor(alice)
    Doctor.objects.filter(pk=gone.pk).end()

    def body(doctor: int) -> dict[str, Any]:
        answer = as_alice.get(f"/api/patients/?doctor={doctor}")
        assert answer.status_code == 400
        return {**answer.json(), "request_id": ""}

    assert body(gone.pk) == body(2**40)


def test_filters_apply_to_a_list_as_of_a_time(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, gender="F")
    then = timezone.now().isoformat()
    Patient.objects.filter(pk=patient.pk).update(gender="M")
    for gender, found in (("F", 1), ("M", 0)):
        answer = as_alice.get("/api/patients/", {"as_of": then, "gender": gender})
        assert len(answer.json()) == found
    for parameter in ("ordering=name", "include=doctors", f"doctor={patient.pk}"):
        answer = as_alice.get(f"/api/patients/?as_of={then.replace('+', '%2B')}&{parameter}")
        assert answer.status_code == 400
        assert answer.json()["errors"][0]["pointer"] == f"/{parameter.partition('=')[0]}"
