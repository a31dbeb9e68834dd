"""The contract of /api/doctors/: who may call it, how it is described, and its model in the admin."""

from dataclasses import replace

from accounts.models import User
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from healthcare.tests.cast import Cast
from healthcare.tests.declarations import (
    CHANGE_RECORD,
    CREATE_RECORD,
    DELETE_RECORD,
    IMPORT_PARAMETERS,
    LIST_RECORDS,
    READ_RECORD,
    AdminModel,
    AdminPage,
    BadValues,
    Contract,
    Operation,
    Row,
    end,
    export_of,
    restore_version_page,
)
from healthcare.tests.hostile_requests import BAD_NAMES, BAD_NUMBERS, BAD_PHONES, CANARY


def create_records(cast: Cast, owner: User) -> None:
    active, deleted = (make_doctor(owner, id=cast.next_id()) for _ in range(2))
    Doctor.objects.filter(pk=deleted.pk).end()
    cast.add("doctor", owner, active, deleted)


ONE = "api/doctors/<int:pk>/"
LIST_DOCTORS = replace(
    LIST_RECORDS,
    public=True,
    query={"as_of", "fields", "ordering", "deleted", "search", "specialization", "hospital", "license_number"},
)
CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row(
            "api/doctors/",
            "SHARED",
            {"GET": 200, "POST": 201},
            lambda cast, owner: {"name": "New"},
            by_tokens="everything",
        ),
        Row(
            "api/doctors/import/",
            "SHARED",
            {"POST": 200},
            lambda cast, owner: {"name": "New"},
            by_tokens="everything",
            content_type="application/x-ndjson",
        ),
        Row(
            ONE,
            "SHARED",
            {"GET": 200, "PUT": 200, "PATCH": 200, "DELETE": 204},
            lambda cast, owner: {"name": "Changed"},
            "doctor",
            by_tokens="everything",
        ),
        Row("api/doctors/export/", "SHARED", {"GET": 200}),
        Row(
            f"{ONE}restore/", "SHARED", {"POST": 200}, records="doctor", finds_deleted={"POST"}, by_tokens="everything"
        ),
        Row(f"{ONE}history/", "COMMON", {"GET": 200}, records="doctor"),
    ],
    operations={
        "doctors_list": LIST_DOCTORS,
        "doctors_export": export_of(LIST_DOCTORS),
        "doctors_import": Operation(query=IMPORT_PARAMETERS),
        "doctors_create": CREATE_RECORD,
        "doctors_retrieve": replace(READ_RECORD, public=True, query={"as_of", "fields"}),
        "doctors_update": CHANGE_RECORD,
        "doctors_partial_update": CHANGE_RECORD,
        "doctors_destroy": DELETE_RECORD,
        "doctors_restore": CHANGE_RECORD,
        "doctors_history_list": LIST_RECORDS,
    },
    admin=[
        AdminModel(
            "doctors.Doctor",
            create=make_doctor,
            roles={
                "Front desk": "view",
                "Clinical staff": "add change view",
                "Records": "add change view delete restore export",
                "Auditor": "view",
            },
            added=lambda owner: {"name": "Dr. New", "created_by": owner.pk},
            changed={"name": "Dr. Changed"},
            actions={"delete_selected": "delete", "restore": "restore", "export": "export"},
            prepare={"restore": end},
            pages=[AdminPage("owners/", "add"), restore_version_page(hospital="City Hospital")],
        )
    ],
    bad_values=[
        BadValues(
            "/api/doctors/",
            {"name": "X"},
            {
                "name": BAD_NAMES,
                "experience_years": [*BAD_NUMBERS, 101, 32768],
                "specialization": ["x" * 201, [CANARY]],
                "license_number": ["x" * 101, True],
                "phone": BAD_PHONES,
            },
        ),
    ],
)
