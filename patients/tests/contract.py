"""The contract of /api/patients/: who may call it, how it is described, and its models in the admin."""

import datetime
from dataclasses import replace
from typing import Any

from accounts.models import User
from accounts.tests.contract import make_heir
from conftest import PASSWORD
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
    ListParameters,
    Operation,
    Row,
    end,
    export_of,
    restore_version_page,
)
from healthcare.tests.hostile_requests import (
    BAD_CHOICES,
    BAD_DATES,
    BAD_EMAILS,
    BAD_NAMES,
    BAD_NUMBERS,
    BAD_PHONES,
    CANARY,
    LONG_AND_ODD_TEXTS,
)
from patients.legal_hold import set_hold
from patients.merges import merge
from patients.models import ErasureReceipt, Patient, PatientTransfer
from patients.tests.factories import make_patient


def create_records(cast: Cast, owner: User) -> None:
    """An active and a deleted patient, one to merge into the first, and one that was merged into it."""
    active, deleted, duplicate, merged = (make_patient(owner, id=cast.next_id()) for _ in range(4))
    Patient.objects.filter(pk=deleted.pk).end()
    merge(active, merged)
    cast.add("patient", owner, active, deleted)
    cast.add("duplicate", owner, duplicate)
    cast.add("merged", owner, merged)
    create_transfers(cast, owner)


def create_transfers(cast: Cast, owner: User) -> None:
    """One that the owner has offered to gita, who is on the other side of every transfer, and one of hers."""
    gita = User.objects.filter(username="gita").first() or User.objects.create_user("gita", "gita@example.org", None)
    for kind, giver, taker in (("given", owner, gita), ("received", gita, owner)):
        offered = make_patient(giver, id=cast.next_id())
        transfer = PatientTransfer(id=cast.next_id(), patient=offered, from_owner=giver, to_owner=taker)
        transfer.save()
        cast.add(kind, owner, transfer)


def prepare_lists(cast: Cast) -> None:
    """Names and identifiers that say whose patient it is."""
    for name, user in cast.users.items():
        Patient.objects.filter(created_by=user).update(
            name=f"Zebulon {name}",
            identifier=f"M-{name}",
            gender="F",
            birth_date=datetime.date(1990, 6, 3),
            birth_year=1990,
        )


def duplicate(cast: Cast, owner: str) -> dict[str, Any]:
    return {"duplicate": cast.ids["duplicate", owner]}


def with_another(record: Patient) -> list[int]:
    """The ids of this patient and of one to merge with."""
    return [record.pk, make_patient(record.created_by).pk]


def merged(cast: Cast, owner: str) -> dict[str, Any]:
    return {"duplicate": cast.ids["merged", owner]}


ONE = "api/patients/<int:pk>/"
READ = {"GET": "read"}
MANAGED: Any = {"roles": {"POST": "manage"}, "by_tokens": "everything"}
LIST_PATIENTS = replace(
    LIST_RECORDS,
    query={
        "as_of", "fields", "ordering", "deleted", "search", "include", "doctor", "gender", "identifier",
        "age_min", "age_max", "birth_date_after", "birth_date_before", "created_after", "created_before",
        "updated_after", "updated_before",
    },
)  # fmt: skip
CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row(
            "api/patients/",
            "PRIVATE",
            {"GET": 200, "POST": 201},
            lambda cast, owner: {"name": "New", "age": 34},
            roles={"GET": "read", "POST": "write"},
            by_tokens="everything",
        ),
        Row(
            ONE,
            "PRIVATE",
            {"GET": 200, "PUT": 200, "PATCH": 200, "DELETE": 204},
            lambda cast, owner: {"name": "Changed"},
            "patient",
            roles={"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "manage"},
            by_tokens="everything",
        ),
        Row(
            "api/patients/import/",
            "PRIVATE",
            {"POST": 200},
            lambda cast, owner: {"name": "New", "age": 34},
            content_type="application/x-ndjson",
            **MANAGED,
        ),
        Row("api/patients/search/", "PRIVATE", {"POST": 200}, roles={"POST": "read"}, by_tokens="everything"),
        Row("api/patients/export/", "PRIVATE", {"GET": 200}, roles=READ),
        Row(
            f"{ONE}restore/",
            "PRIVATE",
            {"POST": 200},
            records="patient",
            finds_deleted={"POST"},
            roles={"POST": "manage"},
            by_tokens="everything",
        ),
        Row(f"{ONE}merge/", "PRIVATE", {"POST": 200}, duplicate, "patient", **MANAGED),
        Row(f"{ONE}unmerge/", "PRIVATE", {"POST": 200}, merged, "patient", **MANAGED),
        Row(f"{ONE}audience/", "PRIVATE", {"GET": 200}, records="patient", roles=READ),
        Row(f"{ONE}duplicates/", "PRIVATE", {"GET": 200}, records="patient", roles=READ),
        Row(f"{ONE}history/", "PRIVATE", {"GET": 200}, records="patient", roles=READ),
        Row(f"{ONE}access-log/", "PRIVATE", {"GET": 200}, records="patient", roles=READ),
        Row(
            f"{ONE}transfer/",
            "PRIVATE",
            {"POST": 202},
            lambda cast, owner: {"to": "gita"},
            "patient",
            roles={"POST": "manage"},
            by_tokens="everything",
        ),
        Row(
            f"{ONE}file/",
            "PRIVATE",
            {"POST": 200},
            lambda cast, owner: {"current_password": PASSWORD},
            "patient",
            finds_deleted={"POST"},
            roles={"POST": "manage"},
        ),
        Row("api/transfers/", "PRIVATE", {"GET": 200}, roles=READ),
        Row("api/transfers/<int:pk>/accept/", "PRIVATE", {"POST": 200}, records="received", **MANAGED),
        Row("api/transfers/<int:pk>/decline/", "PRIVATE", {"POST": 200}, records="received", **MANAGED),
        Row("api/transfers/<int:pk>/withdraw/", "PRIVATE", {"POST": 200}, records="given", **MANAGED),
    ],
    operations={
        "patients_list": LIST_PATIENTS,
        "patients_export": export_of(LIST_PATIENTS),
        "patients_import": Operation(query=IMPORT_PARAMETERS),
        "patients_search": replace(LIST_RECORDS, idempotency_key=False),
        "patients_create": replace(CREATE_RECORD, query={"on_duplicate"}),
        "patients_retrieve": replace(READ_RECORD, query={"as_of", "fields", "include"}),
        "patients_update": CHANGE_RECORD,
        "patients_partial_update": CHANGE_RECORD,
        "patients_destroy": DELETE_RECORD,
        "patients_restore": CHANGE_RECORD,
        "patients_merge": CHANGE_RECORD,
        "patients_unmerge": CHANGE_RECORD,
        "patients_audience": Operation(),
        "patients_duplicates": Operation(),
        "patients_history_list": LIST_RECORDS,
        "patients_access_log": LIST_RECORDS,
        "patients_transfer": Operation(preconditions={"If-Match"}),
        "patients_file": Operation(idempotency_key=False, answers={"application/zip"}),
        "transfers_list": LIST_RECORDS,
        "transfers_accept": Operation(),
        "transfers_decline": Operation(),
        "transfers_withdraw": Operation(),
    },
    prepare_lists=prepare_lists,
    lists={
        "/api/patients/": ListParameters(
            naming={
                "search": lambda cast, other: (f"Zebulon {other}", "Zebulon Nobody"),
                "identifier": lambda cast, other: (f"M-{other}", "M-nobody"),
            },
            narrowing={
                "search": "zebulon", "gender": "F", "birth_date_after": "1900-01-01", "birth_date_before": "2020-01-01",
                "age_min": "0", "age_max": "150", "created_after": "2000-01-01", "created_before": "2999-01-01",
                "updated_after": "2000-01-01", "updated_before": "2999-01-01", "fields": "id,name,created_by",
                "include": "doctors", "ordering": "name", "limit": "500", "count": "true", "deleted": "true",
                "doctor": lambda cast: str(cast.ids["doctor", "bob"]),
            },
        )
    },
    admin=[
        AdminModel(
            "patients.Patient",
            create=make_patient,
            roles={
                "Front desk": "add change view",
                "Clinical staff": "add change view",
                "Records": "add change view delete restore merge export hand_over",
                "Auditor": "view",
            },
            added=lambda owner: {"name": "New", "created_by": owner.pk},
            changed={"name": "Changed"},
            actions={
                "delete_selected": "delete", "restore": "restore", "export": "export", "merge": "merge",
                "unmerge": "merge", "hand_over": "hand_over",
            },
            prepare={"restore": end, "unmerge": lambda record: merge(make_patient(record.created_by), record)},
            selected={"merge": with_another},
            sent={"hand_over": lambda owner: {"to": make_heir().username, "reason": "leaves"}},
            pages=[
                AdminPage("owners/", "add"),
                AdminPage("{pk}/duplicates/", "merge"),
                restore_version_page(phone="080 5550 0100"),
            ],
        ),
        AdminModel(
            "audit.LegalHold",
            create=lambda user: set_hold(make_patient(user).pk, reason="case 2026-7"),
            read_only=True,
            action="release",
            roles={"Records": "add change view", "Auditor": "view"},
            allows="view add",
            added=lambda owner: {"patient_id": make_patient(owner).pk, "reason": "case 2026-8"},
            actions={"release": "change"},
        ),
        AdminModel(
            "patients.ErasureReceipt",
            create=lambda user: ErasureReceipt.objects.create(record_id=1, account="root", reason="asked", counts={}),
            read_only=True,
            roles={"Records": "view", "Auditor": "view"},
            actions={},
        ),
    ],
    bad_values=[
        BadValues(
            "/api/patients/",
            {"name": "X"},
            {
                "name": BAD_NAMES,
                "age": [*BAD_NUMBERS, 151],
                "birth_year": [*BAD_NUMBERS, 0, 1500, 9999],
                "birth_date": BAD_DATES,
                "gender": [value for value in BAD_CHOICES if value != ""],
                "deceased": [CANARY, 2, [CANARY], {}],
                "deceased_on": BAD_DATES,
                "identifiers": [CANARY, "", [CANARY], {"system": CANARY}, [[]], [{"system": CANARY}], 7, True],
                "contacts": [CANARY, "", [CANARY], {"name": CANARY}, [[]], [{"phone": "1"}], [{"name": ""}], 7, True],
                "language": [CANARY, [CANARY], {}, 7, True, "en_US", "a" * 51],
                "medical_history": [[CANARY], {"a": CANARY}, True, 7, f"{CANARY}\x07", "x" * 20_001],
                "phone": BAD_PHONES,
                "alternate_phone": BAD_PHONES,
                "email": BAD_EMAILS,
                "address": [*LONG_AND_ODD_TEXTS[:4], "x" * 501],
                "identifier": [*LONG_AND_ODD_TEXTS[:4], "x" * 101],
            },
        ),
    ],
)  # fmt: skip
