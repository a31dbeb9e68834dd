"""What this app declares for the tests of the whole project."""

from audit.models import AccessLog, Basis, Seal
from healthcare.tests.declarations import AdminModel, AdminPage, Contract


def make_access(user: object) -> AccessLog:
    AccessLog.objects.record(1, "patient.retrieve", [1], basis=Basis.OWNER, request_id="", outcome=200, pure_read=True)
    return AccessLog.objects.latest("id")


def make_seal(user: object) -> Seal:
    seal = {"columns": ["id"], "row_ids": [1], "last_id": 1, "codes": b"0" * 16, "code": "0" * 64}
    latest = make_access(user).at
    return Seal.objects.create(table="audit_accesslog", latest=latest, **seal)


CONTRACT = Contract(
    admin=[
        AdminModel("audit.AccessLog", create=make_access, read_only=True, roles={"Auditor": "view"}, actions={}),
        AdminModel(
            "audit.Seal",
            create=make_seal,
            read_only=True,
            roles={"Auditor": "view"},
            actions={},
            pages=[AdminPage("verify/", "view", posted=lambda owner, record: {})],
        ),
    ]
)
