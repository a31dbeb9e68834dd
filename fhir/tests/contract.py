"""The contract of /fhir: who may call it. The paths with a slash at their end have the same views."""

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from accounts.models import User
from audit.models import AccessLog, Basis
from fhir.models import BulkExport
from healthcare.tests.cast import Cast
from healthcare.tests.contract_matrix import FORM
from healthcare.tests.declarations import SAFE_METHODS, Contract, Row
from mappings.models import MappingEvent
from patients.models import PatientEvent

FHIR: dict[str, Any] = {"content_type": "application/fhir+json", "errors": "application/fhir+json"}
PRIVATE: dict[str, Any] = {**FHIR, "by_tokens": "everything"}
READ = {"GET": "read"}
DELETED = {"GET": 410, "PUT": 410, "DELETE": 204}


def patient(cast: Cast, owner: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": str(cast.ids["patient", owner]), "name": [{"text": "Changed"}]}


def described_patient(cast: Cast, owner: str) -> dict[str, Any]:
    return {"resourceType": "Patient", "name": [{"text": "Changed"}]}


def practitioner(cast: Cast, owner: str) -> dict[str, Any]:
    return {"resourceType": "Practitioner", "id": str(cast.ids["doctor", owner]), "name": [{"text": "Dr. Changed"}]}


def empty_batch(cast: Cast, owner: str) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": "batch"}


def rows_of(name: str, access: str, kind: str, body: Any, **options: Any) -> list[Row]:
    """The rows of a resource type whose records can be written."""
    acts = access == "PRIVATE"

    def row(path: str, methods: dict[str, int], roles: dict[str, str], **more: Any) -> Row:
        return Row(
            f"fhir/{name}{path}", access, methods, body, kind if path else "",
            roles=roles if acts else {}, **{**PRIVATE, **options, **more},
        )  # fmt: skip

    one, history = "/<positive:pk>", "/<positive:pk>/_history"
    return [
        row("", {"GET": 200, "POST": 201}, {"GET": "read", "POST": "write"}),
        Row(
            f"fhir/{name}/_search",
            access,
            {"POST": 200},
            lambda cast, owner: {"_count": "1"},
            roles={"POST": "read"} if acts else {},
            reads={*SAFE_METHODS, "POST"},
            **{**PRIVATE, "content_type": FORM},
        ),
        row(
            one,
            {"GET": 200, "PUT": 200, "DELETE": 204},
            {"GET": "read", "PUT": "write", "DELETE": "manage"},
            deleted=DELETED,
        ),
        *(
            Row(
                f"fhir/{name}{path}",
                access if acts else "COMMON",
                {"GET": 200},
                body,
                kind,
                roles=READ if acts else {},
                deleted=deleted,
                **FHIR,
            )  # fmt: skip
            for path, deleted in ((history, {"GET": 200}), (f"{history}/<version:version>", {"GET": 200}))
        ),
    ]


def create_records(cast: Cast, owner: User) -> None:
    """An access to the owner's patient, and the ids that /fhir gives to it and to versions of other records."""
    patient, mapping = cast.ids["patient", owner.username], cast.ids["mapping", owner.username]
    AccessLog.objects.record(
        owner.pk, "patient.list", [patient], basis=Basis.OWNER, request_id="", outcome=200, pure_read=True
    )
    cast.ids["access", owner.username] = f"{AccessLog.objects.latest('id').pk}-{patient}"
    cast.ids["change", owner.username] = f"patient-{PatientEvent.objects.filter(id=patient).latest('pgh_id').pk}"
    export = BulkExport.objects.create(id=cast.next_id(), caller=owner, created_by=owner, created_at=timezone.now())
    cast.add("bulk export", owner, export)
    cast.ids["team version", owner.username] = MappingEvent.objects.filter(id=mapping).latest("pgh_id").pk


def read_only_row(path: str, kind: str, **options: Any) -> Row:
    return Row(f"fhir/{path}", "PRIVATE", {"GET": 200}, records=kind, roles=READ, **{**FHIR, **options})


def search_row(name: str, parameters: Callable[[Cast, str], dict[str, str]]) -> Row:
    """The search by POST of a type that can only be read. It changes nothing, so a token may do it."""
    return Row(
        f"fhir/{name}/_search",
        "PRIVATE",
        {"POST": 200},
        parameters,
        roles={"POST": "read"},
        reads={*SAFE_METHODS, "POST"},
        **{**PRIVATE, "content_type": FORM},
    )


CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row("fhir", "PRIVATE", {"POST": 200}, empty_batch, roles={"POST": "read"}, **PRIVATE),
        Row("fhir/metadata", "OPEN", {"GET": 200}, **FHIR),
        *rows_of("Patient", "PRIVATE", "patient", patient),
        *rows_of("Practitioner", "SHARED", "doctor", practitioner),
        read_only_row("CareTeam", ""),
        # Of the whole log and history there is no search.
        Row("fhir/AuditEvent", "PRIVATE", {"GET": 400}, roles=READ, **FHIR),
        Row("fhir/Provenance", "PRIVATE", {"GET": 400}, roles=READ, **FHIR),
        search_row("CareTeam", lambda cast, owner: {"_count": "1"}),
        search_row("AuditEvent", lambda cast, owner: {"entity": f"Patient/{cast.ids['patient', owner]}"}),
        search_row("Provenance", lambda cast, owner: {"target": f"Patient/{cast.ids['patient', owner]}"}),
        read_only_row("CareTeam/<positive:pk>", "patient"),
        read_only_row("CareTeam/<positive:pk>/_history", "patient"),
        read_only_row(
            "CareTeam/<positive:pk>/_history/<version:version>",
            "patient",
            version=lambda cast, owner: cast.ids["team version", owner],
        ),
        read_only_row("AuditEvent/<id:pk>", "access"),
        read_only_row("Provenance/<id:pk>", "change"),
        Row(
            "fhir/Patient/$match",
            "PRIVATE",
            {"POST": 200},
            described_patient,
            roles={"POST": "read"},
            reads={*SAFE_METHODS, "POST"},
            **PRIVATE,
        ),
        read_only_row("Patient/<positive:pk>/$everything", "patient", deleted={"GET": 410}),
        Row("fhir/$export", "PRIVATE", {"GET": 400}, roles=READ, **FHIR),  # without `Prefer: respond-async`
        Row(
            "fhir/$export/<positive:pk>",
            "PRIVATE",
            {"GET": 200, "DELETE": 202},
            records="bulk export",
            roles={"GET": "read", "DELETE": "read"},
            of_caller=True,
            **PRIVATE,
        ),
        *(
            read_only_row(f"$export/<positive:pk>/{name}", "bulk export", of_caller=True)
            for name in ("Patient", "Practitioner", "CareTeam")
        ),
    ],
)
