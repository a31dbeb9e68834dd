"""docs/scaling.md has every table, and every statement of a request is bound to one owner, but for those it names."""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.db import connection

from accounts.models import User
from doctors.tests.factories import make_doctor
from healthcare.tests.cast import Cast
from healthcare.tests.contract_matrix import METHODS, send_cell, targets_of
from healthcare.tests.declarations import all_rows
from healthcare.tests.one_owner import DistributedTable, OneOwnerCheck, call_and_roll_back, statements_checked
from mappings.models import Mapping
from mappings.tests.factories import make_mapping
from patients.models import Patient, PatientEvent
from patients.tests.factories import make_patient

PAGE = (project_settings.BASE_DIR / "docs" / "scaling.md").read_text(encoding="utf-8")
# Tables that have no owner yet: the condition of a row that is another owner's.
WITHOUT_OWNER = {
    "audit_accesslog": "NOT EXISTS (SELECT FROM patients_patient p WHERE p.id = ANY (patient_ids))",
    "imports_stagedrow": "file_id NOT IN (SELECT id FROM imports_stagedfile)",
}


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page, without the back quotes around a whole cell."""
    section = re.search(rf"^## {heading}$(.*?)^## ", PAGE, re.MULTILINE | re.DOTALL)
    assert section
    lines = re.findall(r"^\| (.*) \|$", section[1], re.MULTILINE)
    return [[re.sub(r"^`([^`]*)`$", r"\1", cell.strip()) for cell in line.split(" | ")] for line in lines[1:]]


def distributed_tables() -> list[DistributedTable]:
    """Those without an owner come last, since they are found by the others' rows."""
    found = []
    for name, placement, column, *_ in rows_of("Tables"):
        if placement == "distributed":
            found.append(DistributedTable(name, column, WITHOUT_OWNER.get(name) or f"{column} <> %(owner)s"))
    return sorted(found, key=lambda table: table.name in WITHOUT_OWNER)


def test_every_table_of_the_database_has_a_row(db: None) -> None:
    placements = {name: placement for name, placement, *_ in rows_of("Tables")}
    assert sorted(placements) == connection.introspection.table_names()
    assert set(placements.values()) == {"distributed", "reference", "local"}
    assert {table.name for table in distributed_tables()} > set(WITHOUT_OWNER)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("path", ["on", "off"])
def test_every_statement_of_a_request_is_bound_to_one_owner(
    make_user: Callable[..., User], settings: Any, path: str
) -> None:
    settings.FAST_PATH, settings.DB_PREPARED_STATEMENTS = path, False
    settings.EMAIL_CONFIGURED = True  # which adds routes
    cast = Cast.build(make_user)
    with statements_checked(OneOwnerCheck(cast.users["alice"].pk, distributed_tables())) as check:
        for row, method in itertools.product(all_rows(), METHODS):
            if "owner" in row.callers() and method in row.methods:
                for target in targets_of(row, method, "owner")[:2]:  # her own and bob's
                    check.request = f"{method} /{row.route}"
                    call_and_roll_back(lambda: send_cell(cast, row, method, "owner", target))  # noqa: B023
    several = {request for request, _ in rows_of("Requests that touch several shards")}
    assert {"GET /api/patients/", "POST /api/mappings/", "GET /fhir/Patient/<positive:pk>"} <= check.checked.keys()
    of_fast_path = ["recorded AS MATERIALIZED" in sql for sql in check.checked["GET /api/patients/<int:pk>/"]]
    assert any(of_fast_path) == (path == "on")
    assert check.unbound.keys() == several
    unnamed = {
        request: re.findall(r"\w+", tables) for request, tables in rows_of("Statements that do not name the owner")
    }
    new = {request: tables - {*unnamed.get(request, [])} for request, tables in check.unnamed.items()}
    assert {request: tables for request, tables in new.items() if tables} == {}


@contextmanager
def checked_owners(alice: User, bob: User) -> Iterator[OneOwnerCheck]:
    """One patient of alice and one of bob with the same name, each with an assignment."""
    for owner in (alice, bob):
        make_mapping(make_patient(owner, name="Ana Silva"), make_doctor(owner))
    with statements_checked(OneOwnerCheck(alice.pk, distributed_tables())) as check:
        check.request = "a statement"
        yield check


@pytest.mark.parametrize(
    "statement",
    [
        lambda alice, bob: Patient.objects.count(),
        lambda alice, bob: list(Patient.objects.filter(created_by=bob)),
        lambda alice, bob: list(Patient.objects.filter(pk=Patient.objects.values_list("pk").get(created_by=bob)[0])),
        lambda alice, bob: Patient.objects.filter(name="Ana Silva").update(address="Elsewhere"),
        lambda alice, bob: Mapping.objects.filter(patient__created_by=bob).delete(),
        lambda alice, bob: list(
            Patient.objects.raw(
                "SELECT own.* FROM patients_patient own JOIN patients_patient other USING (name) "
                "WHERE own.created_by_id = %s",
                [alice.pk],
            )
        ),
        lambda alice, bob: list(PatientEvent.objects.values_list("pgh_id")),
    ],
    ids=["count", "of another owner", "by id", "update", "delete", "join", "history"],
)
def test_a_statement_across_owners_is_found(alice: User, bob: User, statement: Callable[[User, User], Any]) -> None:
    with checked_owners(alice, bob) as check:
        statement(alice, bob)
    assert check.unbound.keys() == {"a statement"}


def test_a_statement_on_one_owner_is_not_found(alice: User, bob: User) -> None:
    with checked_owners(alice, bob) as check:
        own = Patient.objects.filter(created_by=alice).values_list("pk", flat=True)[0]
        Patient.objects.filter(created_by=alice).update(address="Elsewhere")
        make_patient(alice)
        assert (len(check.checked["a statement"]), check.unbound, check.unnamed) == (3, {}, {})
        Patient.objects.filter(pk=own).update(address="Elsewhere")
    assert (check.unbound, check.unnamed) == ({}, {"a statement": {"patients_patient"}})
