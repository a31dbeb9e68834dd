"""Every answer about a data set of 1,000 patients is valid R4, entry by entry, by two validators of others."""

import datetime
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.core.management import call_command

from accounts.delegations.models import Delegation
from accounts.models import User
from conftest import logged_in
from fhir.json import decode_own
from fhir.structure import check_structure
from fhir.tests.validator import errors_by_fhirkit, install_medplum
from patients.models import Patient

pytest.importorskip("fhirkit", reason="requirements-dev.txt has it")

# What fhirkit does not check: codes with a required binding, and the calendar.
CODES = {
    ("Patient", "gender"): {"male", "female", "other", "unknown"},
    ("CareTeam", "status"): {"proposed", "active", "suspended", "inactive", "entered-in-error"},
    ("AuditEvent", "action"): {"C", "R", "U", "D", "E"},
    ("AuditEvent", "outcome"): {"0", "4", "8", "12"},
}
TIMES = {"lastUpdated", "lastModified", "recorded", "start", "end", "occurredDateTime"}
DATES = {"birthDate", "deceasedDateTime"}
CHECKED_HERE = {"Patient", "Practitioner"}


@pytest.fixture(scope="module")
def errors_by_medplum(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Sequence[dict[str, Any]]], list[str]]:
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("Node.js 20 and npm are not installed")
    return install_medplum(tmp_path_factory.mktemp("npm") / "medplum")


@pytest.mark.slow
def test_every_entry_about_1000_patients_is_valid(db: None, errors_by_medplum: Any) -> None:
    call_command("demo", "--patients", "1000", verbosity=0)
    owners = User.objects.filter(pk__in=Patient.objects.values("created_by"))
    resources = [resource for owner in owners for resource in resources_of(owner)]
    assert [fault for resource in resources for fault in faults(resource)] == []
    assert errors_by_medplum(resources) == []
    seen = Counter(resource["resourceType"] for resource in resources)
    assert seen["Patient"] >= 1000
    assert seen.keys() == {"Patient", "Practitioner", "CareTeam", "AuditEvent", "Provenance"}


def resources_of(owner: User) -> Iterator[dict[str, Any]]:
    """Those of the searches of an owner's records, and all there is about every twentieth patient."""
    acting: dict[str, str] = {}
    user = owner
    if owner.is_clinic:
        user = Delegation.objects.filter(owner=owner, revoked_at=None, role="manage").latest("pk").delegate
        acting = {"HTTP_X_ACTING_FOR": owner.username}
    client = logged_in(user)

    def entries(path: str) -> Iterator[dict[str, Any]]:
        url = f"/fhir/{path}"
        while url:
            answer: Any = client.get(url, **acting)  # type: ignore[arg-type]
            assert answer.status_code == 200, answer.content
            text = answer.content.decode()
            assert errors_by_fhirkit(text) == []
            bundle = decode_own(text)
            yield from (entry["resource"] for entry in bundle.get("entry", ()) if "resource" in entry)
            following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
            url = following[0].removeprefix("http://testserver") if following else ""

    patients = []
    for patient in entries("Patient?_count=500"):
        patients.append(patient["id"])
        yield patient
    yield from entries("CareTeam?_count=500&_include=CareTeam:participant")
    for key in patients[::20]:
        yield from entries(f"Patient/{key}/$everything?_count=100")
        yield from entries(f"Patient/{key}/_history")


def faults(resource: dict[str, Any]) -> list[str]:
    kind = resource["resourceType"]
    found = errors_by_fhirkit(resource)
    if kind in CHECKED_HERE:
        found += [str(issue) for issue in check_structure(kind, resource)]
    found += [f"{kind}.{name}" for (type_name, name), codes in CODES.items()
              if type_name == kind and resource.get(name, min(codes)) not in codes]  # fmt: skip
    return found + [f"{name} {text}" for name, text in times_in(resource) if not is_time(name, text)]


def times_in(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in TIMES | DATES:
                yield name, inner
            yield from times_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from times_in(inner)


def is_time(name: str, text: str) -> bool:
    """Whether this is a day that exists, or a moment with its time zone; of a birth or a death the year suffices."""
    try:
        if name in DATES:
            parts = [int(part) for part in text[:10].split("-")]
            datetime.date(*parts, *[1] * (3 - len(parts)))
            return True
        return datetime.datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"gender": "F"}, "gender"),
        ({"birthDate": "2023-02-29"}, "birthDate"),
        ({"meta": {"lastUpdated": "2026-11-27T10:00:00"}}, "lastUpdated"),
        ({"name": "Asha"}, "name"),
    ],
)
def test_a_fault_is_found(changed: dict[str, Any], found: str) -> None:
    assert any(found in fault for fault in faults({"resourceType": "Patient", "id": "1", **changed}))


def test_medplum_finds_a_fault(errors_by_medplum: Any) -> None:
    wrong = {"resourceType": "Patient", "id": "1", "gender": "F", "nickname": "Asha"}
    assert errors_by_medplum([wrong]) == ['Patient/1: Invalid additional property "nickname" Patient.nickname']
