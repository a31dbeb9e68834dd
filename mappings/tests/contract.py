"""The contract of /api/mappings/: who may call it, how it is described, and its model in the admin."""

from dataclasses import replace
from typing import Any

from accounts.models import User
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.cast import MISSING_ID, Cast
from healthcare.tests.declarations import (
    CHANGE_RECORD,
    CREATE_RECORD,
    DELETE_RECORD,
    IMPORT_PARAMETERS,
    LIST_RECORDS,
    READ_RECORD,
    AdminModel,
    BadValues,
    Contract,
    ListParameters,
    Operation,
    Row,
    end,
    export_of,
    restore_version_page,
)
from healthcare.tests.hostile_requests import BAD_IDS, CANARY
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.models import Patient
from patients.tests.factories import make_patient


def create_records(cast: Cast, owner: User) -> None:
    """An active and an ended assignment of the owner's patient, each to a doctor of its own."""
    patient = Patient.objects.get(pk=cast.ids["patient", owner.username])
    active = make_mapping(patient, make_doctor(owner, id=cast.next_id()), id=cast.next_id())
    ended = make_past_mapping(patient, make_doctor(owner, id=cast.next_id()), id=cast.next_id())
    cast.add("mapping", owner, active, ended)


def prepare_lists(cast: Cast) -> None:
    """A doctor of bob's treats a patient of each user."""
    doctor = Doctor.objects.get(pk=cast.ids["doctor", "bob"])
    for name in cast.users:
        make_mapping(Patient.objects.get(pk=cast.ids["patient", name]), doctor, role="GP")


def new_assignment(cast: Cast, owner: str) -> dict[str, Any]:
    return {"patient": cast.ids["patient", owner], "doctor": cast.ids["doctor", owner]}


READ = {"GET": "read"}
LIST_MAPPINGS = replace(LIST_RECORDS, query={"as_of", "fields", "ordering", "active", "patient", "doctor", "role"})
CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row(
            "api/mappings/",
            "PRIVATE",
            {"GET": 200, "POST": 201},
            new_assignment,
            roles={"GET": "read", "POST": "write"},
            by_tokens="everything",
        ),
        Row(
            "api/mappings/<int:pk>/",
            "PRIVATE",
            {"GET": 200, "PATCH": 200, "DELETE": 204},
            lambda cast, owner: {"role": "Changed"},
            {"GET": "patient", "PATCH": "mapping", "DELETE": "mapping"},
            finds_deleted={"PATCH"},
            roles={"GET": "read", "PATCH": "write", "DELETE": "write"},
            by_tokens="everything",
        ),
        Row("api/mappings/export/", "PRIVATE", {"GET": 200}, roles=READ),
        Row(
            "api/mappings/import/",
            "PRIVATE",
            {"POST": 200},
            new_assignment,
            roles={"POST": "manage"},
            by_tokens="everything",
            content_type="application/x-ndjson",
        ),
        Row("api/assignments/<int:pk>/", "PRIVATE", {"GET": 200}, records="mapping", finds_deleted={"GET"}, roles=READ),
        Row(
            "api/mappings/<int:pk>/history/",
            "PRIVATE",
            {"GET": 200},
            records="mapping",
            finds_deleted={"GET"},
            roles=READ,
        ),
        Row("api/patients/<int:pk>/doctors/", "PRIVATE", {"GET": 200}, records="patient", roles=READ),
        Row("api/doctors/<int:pk>/patients/", "COMMON", {"GET": 200}, records="doctor", roles=READ),
    ],
    operations={
        "mappings_list": LIST_MAPPINGS,
        "mappings_export": export_of(LIST_MAPPINGS),
        "mappings_create": CREATE_RECORD,
        "assignments_retrieve": replace(READ_RECORD, query={"as_of", "fields"}),
        "mappings_partial_update": CHANGE_RECORD,
        "mappings_destroy": DELETE_RECORD,
        "mappings_history_list": LIST_RECORDS,
        "mappings_import": Operation(query=IMPORT_PARAMETERS),
        "mappings_doctors": replace(LIST_RECORDS, query={"as_of", "active"}),
        "patients_doctors": replace(LIST_RECORDS, query={"as_of", "active"}),
        "doctors_patients": replace(LIST_RECORDS, query={"as_of", "active"}),
    },
    prepare_lists=prepare_lists,
    lists={
        "/api/mappings/": ListParameters(
            naming={"patient": lambda cast, other: (str(cast.ids["patient", other]), str(MISSING_ID))},
            narrowing={
                "doctor": lambda cast: str(cast.ids["doctor", "bob"]),
                "role": "GP",
                "active": "false",
                "fields": "id,patient,created_by",
                "ordering": "started_at",
                "limit": "500",
                "count": "true",
            },
        )
    },
    admin=[
        AdminModel(
            "mappings.Mapping",
            create=lambda user: make_mapping(make_patient(user), make_doctor(user)),
            roles={
                "Front desk": "add change view end",
                "Clinical staff": "add change view end",
                "Records": "add change view end delete restore export",
                "Auditor": "view",
            },
            added=lambda owner: {"patient": make_patient(owner).pk, "doctor": make_doctor(owner).pk},
            changed={"role": "Changed"},
            actions={"end": "end", "delete_selected": "delete", "restore": "restore", "export": "export"},
            prepare={"restore": end},
            pages=[restore_version_page(role="GP")],
        ),
    ],
    bad_values=[
        BadValues(
            "/api/mappings/",
            {"patient": "@patient", "doctor": "@doctor"},
            {
                "patient": BAD_IDS,
                "doctor": BAD_IDS,
                "is_primary": [CANARY, None, 2],
                "role": ["x" * 101],
                "reason": ["x" * 501],
                "notes": [[CANARY], {"a": CANARY}, True, 7, f"{CANARY}\x07", "x" * 20_001],
                "started_at": [
                    CANARY, None, "", True, 0, 1e300, [], {}, "1990-02-30T00:00:00Z", "9999-12-31T23:59:59-14:00",
                ],
            },
        ),
    ],
)  # fmt: skip
