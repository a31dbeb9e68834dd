"""Makes every call of this API by the client that openapi-python-client generates; `scripts/clients/run` starts it.

python quickstart.py BASE_URL OPENAPI_JSON
"""

import base64
import datetime
import gzip
import hmac
import io
import json
import re
import sys
import time
import uuid
import zipfile
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from healthcare_client import AuthenticatedClient, Client
from healthcare_client.api.auth import (
    auth_email,
    auth_email_verify,
    auth_email_verify_confirm,
    auth_file,
    auth_invitations_create,
    auth_leave,
    auth_login,
    auth_logout,
    auth_me,
    auth_me_update,
    auth_otp_begin,
    auth_otp_confirm,
    auth_otp_remove,
    auth_password,
    auth_password_reset,
    auth_password_reset_confirm,
    auth_refresh,
    auth_register,
    auth_sessions_destroy,
    auth_sessions_list,
    auth_tokens_create,
    auth_tokens_destroy,
    auth_tokens_list,
    auth_tokens_retrieve,
)
from healthcare_client.api.doctors import (
    doctors_create,
    doctors_destroy,
    doctors_export,
    doctors_history_list,
    doctors_import,
    doctors_list,
    doctors_partial_update,
    doctors_patients,
    doctors_restore,
    doctors_retrieve,
    doctors_update,
)
from healthcare_client.api.imports import imports_list, imports_retrieve, imports_undo
from healthcare_client.api.mappings import (
    assignments_retrieve,
    mappings_create,
    mappings_destroy,
    mappings_doctors,
    mappings_export,
    mappings_history_list,
    mappings_import,
    mappings_list,
    mappings_partial_update,
)
from healthcare_client.api.patients import (
    patients_access_log,
    patients_audience,
    patients_create,
    patients_destroy,
    patients_doctors,
    patients_duplicates,
    patients_export,
    patients_file,
    patients_history_list,
    patients_import,
    patients_list,
    patients_merge,
    patients_partial_update,
    patients_restore,
    patients_retrieve,
    patients_search,
    patients_transfer,
    patients_unmerge,
    patients_update,
)
from healthcare_client.models import (
    AssignmentRequest,
    DoctorRequest,
    DoctorsExportFormat,
    DoctorsImportMode,
    EmailChangeRequest,
    FactorBeginRequest,
    FactorConfirmRequest,
    FactorRemoveRequest,
    Gender,
    ImportAnswer,
    InvitationRequest,
    LeavingRequest,
    LinkRequest,
    LinkRequestRequest,
    LoginRequest,
    MappingsImportMode,
    MergeRequest,
    NewPersonalTokenRequest,
    OfferRequest,
    PasswordChangeRequest,
    PasswordResetRequest,
    PatchedAssignmentChangeRequest,
    PatchedDoctorRequest,
    PatchedPatientRequest,
    PatchedUserRequest,
    PatientRequest,
    PatientsCreateOnDuplicate,
    PatientsImportContentEncoding,
    PatientsImportMode,
    PatientsListFieldsItem,
    PatientsListIncludeItem,
    PatientsSearchRequest,
    Problem,
    RefreshRequest,
    RegistrationRequest,
    ScopeEnum,
    SessionEndRequest,
)
from healthcare_client.types import File, Response

T = TypeVar("T")
CALLED_TAGS = {"auth", "patients", "doctors", "mappings", "imports"}  # every operation with one of these is called


def answer(response: Response[T | Problem], status: int = 200) -> T:
    """What the server answered, which has to have this status and not to be an error."""
    parsed = response.parsed
    if response.status_code != status or parsed is None or isinstance(parsed, Problem):
        raise AssertionError(f"{response.status_code} instead of {status}: {response.content!r}")
    return parsed


def done(response: Response[Any]) -> None:
    check(response.status_code == 204, response.content)


def refused(response: Response[Any], status: int, pointer: str = "") -> Problem:
    """The problem that the server answered, which has to have this status, and an error of this field."""
    problem = response.parsed
    if response.status_code != status or not isinstance(problem, Problem):
        raise AssertionError(f"{response.status_code} instead of {status}: {response.content!r}")
    check(problem.status == status and problem.request_id == response.headers["X-Request-Id"], problem)
    check(not pointer or pointer in [error.pointer for error in problem.errors or ()], problem)
    return problem


def check(holds: object, shown: object) -> None:
    if not holds:
        raise AssertionError(shown)


def lines_of(*records: dict[str, Any]) -> bytes:
    """A file of these records as NDJSON."""
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def file(content: bytes) -> File:
    return File(payload=io.BytesIO(content))


def one_time_code(secret: str) -> str:
    """The code that an authenticator app shows now for a secret in base32 (RFC 6238)."""
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, int(time.time() // 30).to_bytes(8, "big"), "sha1")
    start = digest[-1] & 15
    return f"{(int.from_bytes(digest[start : start + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


class QuickStart:
    def __init__(self, url: str) -> None:
        self.url, self.calls = url, set[tuple[str, str]]()
        self.name = f"asha-{uuid.uuid4().hex[:12]}"
        self.imports: list[ImportAnswer] = []  # that were written, the latest last
        self.public = Client(base_url=url, httpx_args=self.recording)

    @property
    def recording(self) -> dict[str, Any]:
        return {"event_hooks": {"request": [lambda sent: self.calls.add((sent.method.lower(), sent.url.path))]}}

    def client_with(self, token: str) -> AuthenticatedClient:
        return AuthenticatedClient(base_url=self.url, token=token, httpx_args=self.recording)

    def run(self) -> None:
        self.begin_account()
        self.keep_patients()
        self.find_patients()
        self.merge_patients()
        self.repeat_and_compare()
        self.keep_doctors()
        self.assign_a_doctor()
        self.look_back()
        self.delete_and_restore()
        self.export_patients()
        self.import_patients()
        self.import_doctors_and_mappings()
        self.undo_imports()
        self.read_file_of_patient()
        self.look_after_account()
        self.end_account()

    def begin_account(self) -> None:
        email = f"{self.name}@example.org"
        new = RegistrationRequest(name="Asha Nair", email=email, username=self.name, password="StrongPass123")  # noqa: S106
        user = answer(auth_register.sync_detailed(client=self.public, body=new), 201)
        check((user.name, user.email, user.username) == ("Asha Nair", email, self.name), user)
        refused(auth_register.sync_detailed(client=self.public, body=new), 400, "/email")
        wrong = LoginRequest(username=self.name, password="not the password")  # noqa: S106
        refused(auth_login.sync_detailed(client=self.public, body=wrong), 401)
        refused(auth_me.sync_detailed(client=self.client_with("not a token")), 401)
        by_email = LoginRequest(email=email, password="StrongPass123")  # noqa: S106
        self.other = self.client_with(answer(auth_login.sync_detailed(client=self.public, body=by_email)).access)
        by_name = LoginRequest(username=self.name, password="StrongPass123")  # noqa: S106
        tokens = answer(auth_login.sync_detailed(client=self.public, body=by_name))
        tokens = answer(auth_refresh.sync_detailed(client=self.public, body=RefreshRequest(refresh=tokens.refresh)))
        self.client = self.client_with(tokens.access)
        changed = auth_me_update.sync_detailed(client=self.client, body=PatchedUserRequest(name="Asha R. Nair"))
        check(answer(changed).name == "Asha R. Nair", changed.content)
        check(answer(auth_me.sync_detailed(client=self.client)).id == user.id, user)

    def keep_patients(self) -> None:
        john = PatientRequest(name="John Smith", age=34, gender=Gender.M, address="Bengaluru")
        response = patients_create.sync_detailed(client=self.client, body=john)
        patient = answer(response, 201)
        check(
            (patient.name, patient.age, patient.gender, patient.address) == ("John Smith", 34, "M", "Bengaluru"),
            patient,
        )
        check(response.headers["Location"] == f"/api/patients/{patient.id}/", response.headers)
        self.patient = patient.id
        page = patients_list.sync_detailed(client=self.client, limit=10, count=True)
        check([row.id for row in answer(page)] == [patient.id], page.content)
        check(page.headers["X-Total-Count"] == "1", page.headers)
        born = datetime.date(1992, 3, 14)
        everything = PatientRequest(name="John Smith", birth_date=born, gender=Gender.M, phone=None, email=None)
        changed = answer(patients_update.sync_detailed(patient.id, client=self.client, body=everything))
        check((changed.birth_date, changed.phone, changed.email) == (born, "", ""), changed)
        phone = PatchedPatientRequest(phone="+91 80 5550 0100")
        changed = answer(patients_partial_update.sync_detailed(patient.id, client=self.client, body=phone))
        check(changed.phone == "+91 80 5550 0100", changed)
        bad = PatientRequest(name="", age=-1)
        problem = refused(patients_create.sync_detailed(client=self.client, body=bad), 400, "/age")
        check(problem.error_count == 2, problem)
        # The types have no unknown fields; a client that is not generated may send them.
        unknown = {"name": "John Smith", "date_of_birth": "1992-03-14"}
        untyped = self.client.get_httpx_client().post("/api/patients/", json=unknown)
        check((untyped.status_code, untyped.json()["errors"][0]["pointer"]) == (400, "/date_of_birth"), untyped.text)
        refused(patients_retrieve.sync_detailed(2**53, client=self.client), 404)

    def find_patients(self) -> None:
        found = answer(patients_list.sync_detailed(client=self.client, search="jon smyth"))
        check([row.id for row in found] == [self.patient], found)
        # All fields: the model of a record requires what the description requires, which holds without `fields`.
        listed = patients_list.sync_detailed(
            client=self.client,
            age_min=30,
            fields=[*PatientsListFieldsItem],
            include=[PatientsListIncludeItem.DOCTORS],
        )
        check([row.doctors for row in answer(listed)] == [[]], listed.content)
        by_body = PatientsSearchRequest(search="jon smyth", count=True)
        hits = patients_search.sync_detailed(client=self.client, body=by_body)
        check([row.id for row in answer(hits)] == [self.patient], hits.content)
        check(hits.headers["X-Total-Count"] == "1", hits.headers)
        check(answer(patients_duplicates.sync_detailed(self.patient, client=self.client)) == [], "duplicates")
        same = PatientRequest(name="Smith, John", birth_date=datetime.date(1992, 3, 14))
        reject = PatientsCreateOnDuplicate.REJECT
        refused(patients_create.sync_detailed(client=self.client, body=same, on_duplicate=reject), 409)

    def merge_patients(self) -> None:
        new = PatientRequest(name="J. Smith", identifier="MRN 17")
        duplicate = answer(patients_create.sync_detailed(client=self.client, body=new), 201).id
        body = MergeRequest(duplicate=duplicate)
        merged = answer(patients_merge.sync_detailed(self.patient, client=self.client, body=body))
        check((merged.id, merged.identifier) == (self.patient, "MRN 17"), merged)
        gone = patients_retrieve.sync_detailed(duplicate, client=self.client)
        refused(gone, 410)
        check(f"/api/patients/{self.patient}/" in gone.headers["Link"], gone.headers)
        answer(patients_unmerge.sync_detailed(self.patient, client=self.client, body=body))
        done(patients_destroy.sync_detailed(duplicate, client=self.client))

    def repeat_and_compare(self) -> None:
        mary, key = PatientRequest(name="Mary Smith"), uuid.uuid4().hex
        first = patients_create.sync_detailed(client=self.client, body=mary, idempotency_key=key)
        again = patients_create.sync_detailed(client=self.client, body=mary, idempotency_key=key)
        check(answer(first, 201) == answer(again, 201), again.content)
        check(again.headers["Idempotency-Replayed"] == "true", again.headers)
        another = PatientRequest(name="Another")
        refused(patients_create.sync_detailed(client=self.client, body=another, idempotency_key=key), 422)
        tag = patients_retrieve.sync_detailed(self.patient, client=self.client).headers["ETag"]
        moved = PatchedPatientRequest(address="Hubballi")
        changed = patients_partial_update.sync_detailed(self.patient, client=self.client, body=moved, if_match=tag)
        self.changed_at = answer(changed).updated_at
        new_tag = changed.headers["ETag"]
        unchanged = patients_retrieve.sync_detailed(self.patient, client=self.client, if_none_match=new_tag)
        check(unchanged.status_code == HTTPStatus.NOT_MODIFIED, unchanged.content)
        refused(patients_partial_update.sync_detailed(self.patient, client=self.client, body=moved, if_match=tag), 412)

    def keep_doctors(self) -> None:
        new = DoctorRequest(name="Dr. Meera Rao", specialization="Cardiology", experience_years=12)
        self.doctor = answer(doctors_create.sync_detailed(client=self.client, body=new), 201).id
        page = answer(doctors_list.sync_detailed(client=self.public, limit=10))
        check(page[0].id == self.doctor, page)
        check(answer(doctors_retrieve.sync_detailed(self.doctor, client=self.public)).experience_years == 12, page)
        moved = DoctorRequest(name="Dr. Meera Rao", specialization="Cardiology", hospital="City Hospital")
        check(answer(doctors_update.sync_detailed(self.doctor, client=self.client, body=moved)).hospital, moved)
        older = PatchedDoctorRequest(experience_years=13)
        answer(doctors_partial_update.sync_detailed(self.doctor, client=self.client, body=older))

    def assign_a_doctor(self) -> None:
        new = AssignmentRequest(patient=self.patient, doctor=self.doctor)
        response = mappings_create.sync_detailed(client=self.client, body=new)
        assignment = answer(response, 201)
        check(response.headers["Location"] == f"/api/assignments/{assignment.id}/", response.headers)
        self.assignment = assignment.id
        refused(mappings_create.sync_detailed(client=self.client, body=new), 400)
        check(answer(mappings_list.sync_detailed(client=self.client)) == [assignment], assignment)
        check(answer(assignments_retrieve.sync_detailed(assignment.id, client=self.client)) == assignment, assignment)
        for doctors_of in (mappings_doctors, patients_doctors):
            treating = answer(doctors_of.sync_detailed(self.patient, client=self.client))
            check([(row.id, row.mapping) for row in treating] == [(self.doctor, assignment.id)], treating)
        treated = answer(doctors_patients.sync_detailed(self.doctor, client=self.client))
        check([(row.id, row.mapping) for row in treated] == [(self.patient, assignment.id)], treated)
        primary = PatchedAssignmentChangeRequest(role="cardiologist", is_primary=True)
        changed = mappings_partial_update.sync_detailed(assignment.id, client=self.client, body=primary)
        check(answer(changed).is_primary, changed.content)
        refused(doctors_destroy.sync_detailed(self.doctor, client=self.client), 409)

    def look_back(self) -> None:
        events = answer(patients_history_list.sync_detailed(self.patient, client=self.client))
        check(events[0].changes.to_dict() == {"address": ["Bengaluru", "Hubballi"]}, events[0])
        check(
            answer(doctors_history_list.sync_detailed(self.doctor, client=self.client))[-1].action == "create", events
        )
        answer(mappings_history_list.sync_detailed(self.assignment, client=self.client))
        check(answer(patients_access_log.sync_detailed(self.patient, client=self.client)), "access log")
        members = answer(patients_audience.sync_detailed(self.patient, client=self.client))
        check([member.username for member in members] == [self.name], members)
        to_nobody = OfferRequest(to=f"nobody-{self.name}")
        refused(patients_transfer.sync_detailed(self.patient, client=self.client, body=to_nobody), 400, "/to")
        past = answer(patients_list.sync_detailed(client=self.client, as_of=self.changed_at))
        check("Hubballi" in [row.address for row in past], past)

    def delete_and_restore(self) -> None:
        done(mappings_destroy.sync_detailed(self.assignment, client=self.client))
        check(len(answer(mappings_list.sync_detailed(client=self.client, active=False))) == 1, "past assignments")
        done(doctors_destroy.sync_detailed(self.doctor, client=self.client))
        answer(doctors_restore.sync_detailed(self.doctor, client=self.client))
        done(patients_destroy.sync_detailed(self.patient, client=self.client))
        refused(patients_retrieve.sync_detailed(self.patient, client=self.client), 404)
        deleted = answer(patients_list.sync_detailed(client=self.client, deleted=True))
        check(self.patient in [row.id for row in deleted], deleted)
        answer(patients_restore.sync_detailed(self.patient, client=self.client))

    def export_patients(self) -> None:
        exported = answer(patients_export.sync_detailed(client=self.client, search="jon smyth")).payload.read()
        check(exported.startswith(b"id,name,") and exported.count(b"\r\n") == 2, exported)

    def import_patients(self) -> None:
        patients = lines_of({"Full Name": "Ravi Kumar", "identifier": "MRN 18"})
        checked = patients_import.sync_detailed(client=self.client, body=file(patients), map_=["Full Name:name"])
        check(answer(checked).import_ is None and answer(checked).summary.created == 1, checked.content)
        bad = patients_import.sync_detailed(
            client=self.client, body=file(lines_of({"name": "Ravi Kumar", "age": -1})), mode=PatientsImportMode.APPLY
        )
        results = refused(bad, 422).results
        check(results and results[0].errors[0].pointer == "/age", bad.content)
        imported = answer(
            patients_import.sync_detailed(
                client=self.client,
                body=file(gzip.compress(patients)),
                content_encoding=PatientsImportContentEncoding.GZIP,
                map_=["Full Name:name"],
                mode=PatientsImportMode.APPLY,
            )
        )
        # The generated client sends each file as NDJSON, the last type of the description; this one is CSV.
        again = self.client.get_httpx_client().post(
            "/api/patients/import/",
            content=b"name,identifier\nRavi Kumar,MRN 18\n",
            headers={"Content-Type": "text/csv"},
        )
        check(again.json()["summary"]["skipped"] == 1, again.text)
        john = lines_of({"name": "John Smith", "birth_date": "1992-03-14"})
        likely = answer(patients_import.sync_detailed(client=self.client, body=file(john))).results[0].likely
        check([one.id for one in likely] == [self.patient], likely)
        self.imports.append(imported)

    def import_doctors_and_mappings(self) -> None:
        license_number = f"KMC {self.name}"
        doctors = lines_of({"name": "Dr. Vikram Shah", "license_number": license_number})
        imported = answer(
            doctors_import.sync_detailed(client=self.client, body=file(doctors), mode=DoctorsImportMode.APPLY)
        )
        written = doctors_export.sync_detailed(client=self.public, format_=DoctorsExportFormat.NDJSON)
        doctor = json.loads(answer(written).payload.readline())
        check((doctor["id"], doctor["license_number"]) == (imported.results[0].id, license_number), doctor)
        self.imports.append(imported)
        mappings = lines_of({"patient_identifier": "MRN 18", "doctor_license": license_number})
        imported = answer(
            mappings_import.sync_detailed(client=self.client, body=file(mappings), mode=MappingsImportMode.APPLY)
        )
        check(imported.summary.created == 1, imported)
        self.imports.append(imported)
        check(answer(mappings_export.sync_detailed(client=self.client)).payload.read().count(b"\r\n") == 2, imported)

    def undo_imports(self) -> None:
        """Undo the latest first: that of assignments before those of their doctors and patients."""
        latest_first = self.imports[::-1]
        listed = [one.id for one in answer(imports_list.sync_detailed(client=self.client))]
        check(listed == [imported.import_ for imported in latest_first], listed)
        read = answer(imports_retrieve.sync_detailed(listed[-1], client=self.client))
        check(read.results == latest_first[-1].results, read)
        for number, imported in zip(listed, latest_first, strict=True):
            undone = answer(imports_undo.sync_detailed(number, client=self.client))
            check(undone.deleted == [result.id for result in imported.results], undone)
        refused(imports_undo.sync_detailed(listed[0], client=self.client), 409)

    def read_file_of_patient(self) -> None:
        password = LeavingRequest(current_password="StrongPass123")  # noqa: S106
        archive = answer(patients_file.sync_detailed(self.patient, client=self.client, body=password))
        check("manifest.json" in zipfile.ZipFile(archive.payload).namelist(), self.patient)

    def look_after_account(self) -> None:
        password, client = "StrongPass123", self.client  # noqa: S105
        reports = NewPersonalTokenRequest(name="reports", scope=ScopeEnum.READ, current_password=password)
        token = answer(auth_tokens_create.sync_detailed(client=client, body=reports), 201)
        check(answer(auth_tokens_retrieve.sync_detailed(token.id, client=client)).name == "reports", token.id)
        answer(patients_list.sync_detailed(client=self.client_with(token.token)))
        done(auth_tokens_destroy.sync_detailed(token.id, client=client))
        check(answer(auth_tokens_list.sync_detailed(client=client)) == [], token.id)
        begin = auth_otp_begin.sync_detailed(client=client, body=FactorBeginRequest(current_password=password))
        confirmation = FactorConfirmRequest(otp=one_time_code(answer(begin, 201).secret))
        codes = answer(auth_otp_confirm.sync_detailed(client=client, body=confirmation)).recovery_codes
        removal = FactorRemoveRequest(current_password=password, otp=codes[0])
        done(auth_otp_remove.sync_detailed(client=client, body=removal))
        check(answer(auth_file.sync_detailed(client=client)).account.username == self.name, self.name)
        refused(auth_invitations_create.sync_detailed(client=client, body=InvitationRequest()), 403)
        refused(auth_leave.sync_detailed(client=client, body=LeavingRequest(current_password=password)), 409)
        # This server sends no e-mails.
        email = f"{self.name}-2@example.org"
        change = EmailChangeRequest(email=email, current_password=password)
        refused(auth_email.sync_detailed(client=client, body=change), 404)
        link, ask = LinkRequest(uid="MQ", token="x"), LinkRequestRequest(email=email)  # noqa: S106
        refused(auth_email_verify.sync_detailed(client=self.public, body=ask), 404)
        refused(auth_email_verify_confirm.sync_detailed(client=self.public, body=link), 404)
        refused(auth_password_reset.sync_detailed(client=self.public, body=ask), 404)
        reset = PasswordResetRequest(uid="MQ", token="x", new_password="EvenStronger456")  # noqa: S106
        refused(auth_password_reset_confirm.sync_detailed(client=self.public, body=reset), 404)

    def end_account(self) -> None:
        sessions = answer(auth_sessions_list.sync_detailed(client=self.client))
        other = next(session.id for session in sessions if not session.current)
        refused(auth_sessions_destroy.sync_detailed(other, client=self.client), 400, "/current_password")
        proof = SessionEndRequest(current_password="StrongPass123")  # noqa: S106
        done(auth_sessions_destroy.sync_detailed(other, client=self.client, body=proof))
        refused(auth_me.sync_detailed(client=self.other), 401)
        new = PasswordChangeRequest(current_password="StrongPass123", new_password="EvenStronger456")  # noqa: S106
        done(auth_password.sync_detailed(client=self.client, body=new))
        refused(auth_password.sync_detailed(client=self.client, body=new), 400, "/current_password")
        done(auth_logout.sync_detailed(client=self.client))
        refused(auth_logout.sync_detailed(client=self.client), 401)


def operations_left_out(paths: dict[str, dict[str, Any]], calls: set[tuple[str, str]]) -> list[str]:
    """The operations of the description that no call has reached."""
    return [
        operation["operationId"]
        for path, item in paths.items()
        for method, operation in item.items()
        if CALLED_TAGS & {*operation["tags"]}
        and not any(method == sent and re.fullmatch(path.replace("{id}", "[0-9]+"), target) for sent, target in calls)
    ]


def main() -> None:
    url, description = sys.argv[1:]
    quick_start = QuickStart(url)
    quick_start.run()
    left_out = operations_left_out(json.loads(Path(description).read_text("utf-8"))["paths"], quick_start.calls)
    check(not left_out, f"not called: {', '.join(left_out)}")
    print(f"The Python client made all calls: {len(quick_start.calls)} different ones.")


if __name__ == "__main__":
    main()
