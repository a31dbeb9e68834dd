"""The doctors with most patients on the admin's home page, of few assignments and of many."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.admin.counts import Count
from healthcare.admin.home import INDEX_SCANS_ONLY
from healthcare.tests.planner import rewrite_and_analyze
from mappings.admin_home import SAMPLED_DOCTORS, busiest_doctors, fetch_all
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.tests.factories import make_patient

pytestmark = pytest.mark.django_db


def assign(owner: User, doctor: Doctor, active: int, ended: int = 0) -> None:
    """So many assignments, without triggers: each is of a patient that does not exist."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "INSERT INTO mappings_mapping (patient_id, doctor_id, role, is_primary, reason, notes, started_at, "
            "ended_at, created_by_id, created_at, updated_at, version) "
            "SELECT 7 * n + %s, %s, '', false, '', '', now(), CASE WHEN n > %s THEN now() END, %s, now(), now(), 1 "
            "FROM generate_series(1, %s) AS n",
            [doctor.pk, doctor.pk, active, owner.pk, active + ended],
        )


@pytest.fixture
def doctors(alice: User) -> list[Doctor]:
    return [make_doctor(alice, name=f"Dr. {number}") for number in range(12)]


def test_of_few_assignments_the_numbers_are_exact(alice: User, doctors: list[Doctor]):
    assert busiest_doctors() == {}
    for number, doctor in enumerate(doctors[:7]):
        for _ in range(number):
            make_mapping(make_patient(alice), doctor)
            make_past_mapping(make_patient(alice), doctor)
    assert list(busiest_doctors().items()) == [(doctors[number].pk, Count(number)) for number in (6, 5, 4, 3, 2)]


def test_of_equal_doctors_the_one_who_was_added_first_comes_first(alice: User, doctors: list[Doctor]):
    for doctor in doctors[::-1]:
        make_mapping(make_patient(alice), doctor)
    assert list(busiest_doctors()) == [doctor.pk for doctor in doctors[:5]]


@pytest.fixture
def many(alice: User, doctors: list[Doctor]) -> None:
    for doctor, active, ended in zip(doctors, (8_000, 3_000, 900, 700, 0), (2_000, 0, 0, 300, 9_000), strict=False):
        assign(alice, doctor, active, ended)


def test_of_many_assignments_the_busiest_are_found_and_the_numbers_are_about_right(many: None, doctors: list[Doctor]):
    rewrite_and_analyze("mappings_mapping")
    counts = busiest_doctors()
    assert list(counts) == [doctor.pk for doctor in doctors[:4]]
    first, second, third, fourth = counts.values()
    assert (third, fourth) == (Count(900), Count(700))
    for found, exact in ((first, 8_000), (second, 3_000)):
        assert found.precision == "about"
        assert abs(found.number - exact) <= exact / 10


def test_a_sample_does_not_keep_step_with_the_data(alice: User, doctors: list[Doctor]):
    """The doctors take turns, as often as there are parts of the sample."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(
            "INSERT INTO mappings_mapping (patient_id, doctor_id, role, is_primary, reason, notes, started_at, "
            "created_by_id, created_at, updated_at, version) "
            "SELECT n, %s + n %% 40, '', false, '', '', now(), %s, now(), now(), 1 FROM generate_series(1, 20000) AS n",
            [doctors[0].pk, alice.pk],
        )
    rewrite_and_analyze("mappings_mapping")
    assert {count.number for count in busiest_doctors().values()} == {500}
    shares = [share for _, share in fetch_all(SAMPLED_DOCTORS, 0.5)]  # the numbers above are counted
    assert max(shares) < 1.1 / 40


def test_the_statements_read_a_bounded_part_of_an_index(many: None, doctors: list[Doctor]):
    rewrite_and_analyze("mappings_mapping")
    with CaptureQueriesContext(connection) as queries:
        busiest_doctors()
    with connection.cursor() as cursor:
        cursor.execute(INDEX_SCANS_ONLY, ["60s"])
        for query in queries.captured_queries:
            sql = query["sql"]
            if sql.startswith("EXPLAIN") or "pg_stats" in sql:
                continue
            cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + sql)
            [[[plan]]] = cursor.fetchall()
            scans = scans_of(plan["Plan"])
            assert scans
            for scan in scans:
                assert scan["Index Name"] in {"mapping_once", "mapping_of_doctor"}
                assert scan["Actual Rows"] <= 10_001


def scans_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    found = [plan] if plan.get("Relation Name") == "mappings_mapping" else []
    return found + [scan for inner in plan.get("Plans", []) for scan in scans_of(inner)]
