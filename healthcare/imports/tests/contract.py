"""The contract of /api/imports/: who may call it, and how it is described."""

from accounts.models import User
from healthcare.imports.models import Import
from healthcare.tests.cast import Cast
from healthcare.tests.declarations import LIST_RECORDS, Contract, Operation, Row
from patients.tests.factories import make_patient


def create_records(cast: Cast, owner: User) -> None:
    patient = make_patient(owner, id=cast.next_id())
    parent = Import.objects.create(id=cast.next_id(), created_by=owner, caller=owner.pk, kind="patients")
    parent.lines.create(created_by=owner, line=2, status="created", record_id=patient.pk, version=1)
    cast.add("import", owner, parent)


READ = {"GET": "read"}
ONE = "api/imports/<int:pk>/"
CONTRACT = Contract(
    create_records=create_records,
    rows=[
        Row("api/imports/", "PRIVATE", {"GET": 200}, roles=READ),
        Row(ONE, "PRIVATE", {"GET": 200}, records="import", roles=READ),
        Row(
            f"{ONE}undo/",
            "PRIVATE",
            {"POST": 200},
            records="import",
            roles={"POST": "manage"},
            by_tokens="everything",
        ),
    ],
    operations={
        "imports_list": LIST_RECORDS,
        "imports_retrieve": Operation(query={"limit", "cursor", "count"}),
        "imports_undo": Operation(),
    },
)
