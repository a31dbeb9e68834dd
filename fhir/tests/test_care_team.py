"""CareTeam: the assignments of a patient (https://hl7.org/fhir/R4/careteam.html)."""

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.delegations.models import Delegation
from accounts.models import User
from accounts.personal_tokens.rules import create_token
from audit.models import AccessLog
from audit.tests.test_archive import archive, grow_old
from audit.tests.test_seals import seal
from conftest import LoggedInClient, logged_in
from doctors.models import Doctor
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import FHIR, diagnostics, send, without_request_id
from mappings.models import Mapping, MappingEvent
from mappings.tests.factories import make_mapping, make_past_mapping
from patients.merges import merge, unmerge
from patients.models import Patient
from patients.tests.factories import make_patient

START = datetime.datetime(2026, 3, 1, 9, tzinfo=datetime.UTC)
BASE = "http://testserver/fhir"


def instant(at: datetime.datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S.%fZ}"


def latest(patient: Patient) -> Any:
    return MappingEvent.objects.filter(patient=patient.pk).latest("pgh_id")


@pytest.fixture
def patient(alice: User) -> Patient:
    return make_patient(alice)


@pytest.fixture
def meera(alice: User) -> Doctor:
    return make_doctor(alice)


def test_a_care_team_lists_every_assignment_of_its_patient(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor
) -> None:
    ravi = make_doctor(alice, name="Dr. Ravi Iyer")
    past = make_past_mapping(patient, ravi, role="surgeon", reason="hip", started_at=START)
    now = make_mapping(patient, meera, reason="hip", started_at=START + datetime.timedelta(days=1), notes="private")
    make_mapping(make_patient(alice), meera)
    Doctor.objects.filter(pk=ravi.pk).end()
    past.refresh_from_db()
    event = latest(patient)
    read = send(as_alice, "GET", f"/CareTeam/{patient.pk}")
    assert (read.status_code, read.headers["Content-Type"]) == (200, FHIR)
    assert read.headers["ETag"] == f'W/"{event.pgh_id}"'
    assert read.resource == {
        "resourceType": "CareTeam",
        "id": str(patient.pk),
        "meta": {"versionId": str(event.pgh_id), "lastUpdated": instant(event.pgh_created_at)},
        "status": "active",
        "subject": {"reference": f"Patient/{patient.pk}"},
        "participant": [
            {
                "role": [{"text": "surgeon"}],
                "member": {"reference": f"Practitioner/{ravi.pk}", "display": "Dr. Ravi Iyer"},
                "period": {"start": instant(START), "end": instant(past.ended_at)},
            },
            {
                "member": {"reference": f"Practitioner/{meera.pk}", "display": "Dr. Meera Rao"},
                "period": {"start": instant(now.started_at)},
            },
        ],
        "reasonCode": [{"text": "hip"}],
    }
    assert list(read.resource) == ["resourceType", "id", "meta", "status", "subject", "participant", "reasonCode"]


def test_a_team_whose_assignments_have_all_ended_is_inactive(
    as_alice: LoggedInClient, patient: Patient, meera: Doctor
) -> None:
    make_past_mapping(patient, meera)
    assert send(as_alice, "GET", f"/CareTeam/{patient.pk}").resource["status"] == "inactive"


def test_a_patient_who_was_never_assigned_has_no_team(as_alice: LoggedInClient, patient: Patient) -> None:
    for path in ("", "/_history", "/_history/1"):
        answer = send(as_alice, "GET", f"/CareTeam/{patient.pk}{path}")
        assert (answer.status_code, diagnostics(answer)) == (404, [("not-found", [])])


def test_a_team_of_another_owner_reads_like_a_missing_one(as_bob: LoggedInClient, patient: Patient, meera: Doctor):
    make_mapping(patient, meera)
    version = latest(patient).pgh_id
    for path in ("", "/_history", f"/_history/{version}"):
        answers = [send(as_bob, "GET", f"/CareTeam/{key}{path}") for key in (patient.pk, 2**40)]
        assert [one.status_code for one in answers] == [404, 404]
        assert len({without_request_id(one) for one in answers}) == 1


def test_a_team_is_gone_with_its_patient_and_comes_back_with_it(
    as_alice: LoggedInClient, patient: Patient, meera: Doctor
) -> None:
    make_mapping(patient, meera)
    at = f"/CareTeam/{patient.pk}"
    before = send(as_alice, "GET", at).resource
    Patient.objects.filter(pk=patient.pk).end()
    patient.refresh_from_db()
    assert diagnostics(answer := send(as_alice, "GET", at)) == [("deleted", [])]
    assert answer.status_code == 410
    entries = send(as_alice, "GET", f"{at}/_history").resource["entry"]
    assert entries == [
        {
            "fullUrl": f"{BASE}{at}",
            "request": {"method": "DELETE", "url": at[1:]},
            "response": {"status": "204", "lastModified": instant(patient.deleted_at)},
        },
        {
            "fullUrl": f"{BASE}{at}",
            "resource": before,
            "request": {"method": "POST", "url": "CareTeam"},
            "response": {
                "status": "201",
                "etag": f'W/"{before["meta"]["versionId"]}"',
                "lastModified": before["meta"]["lastUpdated"],
            },
        },
    ]
    assert send(as_alice, "GET", f"{at}/_history/{before['meta']['versionId']}").resource == before
    Patient.objects.filter(pk=patient.pk).restore()
    assert send(as_alice, "GET", at).resource == before


def test_every_change_of_an_assignment_is_a_version(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor
) -> None:
    at = f"/CareTeam/{patient.pk}"
    first = make_mapping(patient, meera)
    states = [send(as_alice, "GET", at)]
    make_mapping(patient, make_doctor(alice))
    states.append(send(as_alice, "GET", at))
    as_alice.patch(f"/api/mappings/{first.pk}/", {"role": "surgeon"})
    states.append(send(as_alice, "GET", at))
    as_alice.delete(f"/api/mappings/{first.pk}/")
    states.append(send(as_alice, "GET", at))
    resources = [one.resource for one in states]
    assert len({one.headers["ETag"] for one in states}) == 4
    for state in states:
        version = send(as_alice, "GET", f"{at}/_history/{state.resource['meta']['versionId']}")
        assert (version.resource, version.headers["ETag"]) == (state.resource, state.headers["ETag"])
        assert version.headers["Last-Modified"] == state.headers["Last-Modified"]
    history = send(as_alice, "GET", f"{at}/_history").resource
    assert [entry["resource"] for entry in history["entry"]] == resources[::-1]
    assert [entry["request"]["method"] for entry in history["entry"]] == ["PUT", "PUT", "PUT", "POST"]
    page = send(as_alice, "GET", f"{at}/_history?_count=3").resource
    following = next(link["url"] for link in page["link"] if link["relation"] == "next")
    rest = send(as_alice, "GET", following.removeprefix(BASE)).resource
    assert page["entry"] + rest["entry"] == history["entry"]
    assert send(as_alice, "GET", f"{at}/_history/999999999").status_code == 404


def test_a_read_of_a_known_version_is_answered_304(as_alice: LoggedInClient, patient: Patient, meera: Doctor) -> None:
    make_mapping(patient, meera)
    at = f"/CareTeam/{patient.pk}"
    tag = send(as_alice, "GET", at).headers["ETag"]
    answer = send(as_alice, "GET", at, if_none_match=tag)
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    assert send(as_alice, "GET", at, if_none_match='W/"0"').status_code == 200


def test_a_merge_moves_a_team_and_an_undone_one_gives_it_back(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor
) -> None:
    duplicate = make_patient(alice)
    make_mapping(duplicate, meera)
    at, other = f"/CareTeam/{duplicate.pk}", f"/CareTeam/{patient.pk}"
    before = send(as_alice, "GET", at).resource
    assert send(as_alice, "GET", other).status_code == 404
    merge(patient, duplicate)
    assert send(as_alice, "GET", at).status_code == 410
    moved = send(as_alice, "GET", other)
    assert moved.resource["participant"] == before["participant"]
    methods = [one["request"]["method"] for one in send(as_alice, "GET", f"{at}/_history").resource["entry"]]
    assert methods == ["DELETE", "POST"]
    duplicate.refresh_from_db()
    unmerge(patient, duplicate)
    after = send(as_alice, "GET", at).resource
    assert after == before | {"meta": after["meta"]}
    assert int(after["meta"]["versionId"]) > int(before["meta"]["versionId"])
    assert send(as_alice, "GET", other, if_none_match=moved.headers["ETag"]).status_code == 410
    history = send(as_alice, "GET", f"{at}/_history").resource["entry"]
    assert [one["request"]["method"] for one in history] == ["PUT", "DELETE", "POST"]
    assert [one.get("resource") for one in history] == [after, None, before]
    deletion = history[1]["response"]["etag"].strip('W/"')
    assert send(as_alice, "GET", f"{at}/_history/{deletion}").status_code == 410


def test_a_delegate_and_a_token_that_may_read_read_a_team(
    as_alice: LoggedInClient, patient: Patient, meera: Doctor, make_user: Any
) -> None:
    make_mapping(patient, meera)
    asha = make_user("asha")
    Delegation.objects.create(owner=patient.created_by, delegate=asha, role="read")
    expected = send(as_alice, "GET", f"/CareTeam/{patient.pk}").resource
    assert send(logged_in(asha), "GET", f"/CareTeam/{patient.pk}", x_acting_for="alice").resource == expected
    assert send(logged_in(asha), "GET", f"/CareTeam/{patient.pk}").status_code == 404
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {create_token(patient.created_by, name='t', scope='read').text}")
    assert send(client, "GET", f"/CareTeam/{patient.pk}").resource == expected


def test_a_team_cannot_be_written(as_alice: LoggedInClient, patient: Patient, meera: Doctor) -> None:
    make_mapping(patient, meera)
    for method in ("PUT", "PATCH", "DELETE"):
        answer = send(as_alice, method, f"/CareTeam/{patient.pk}", {"resourceType": "CareTeam"})
        assert (answer.status_code, diagnostics(answer)) == (405, [("not-supported", [])])
        assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert Mapping.objects.get().ended_at is None


def test_reads_of_a_team_are_in_the_access_log(as_alice: LoggedInClient, patient: Patient, meera: Doctor) -> None:
    make_mapping(patient, meera)
    for path in ("", "/_history", f"/_history/{latest(patient).pgh_id}"):
        send(as_alice, "GET", f"/CareTeam/{patient.pk}{path}")
    send(as_alice, "GET", f"/CareTeam/{2**40}")
    rows = AccessLog.objects.order_by("pk").values_list("action", "patient_ids", "outcome")
    assert [*rows] == [
        ("mapping.doctors", [patient.pk], 200),
        ("mapping.history", [patient.pk], 200),
        ("mapping.history", [patient.pk], 200),
        ("mapping.doctors", [2**40], 404),
    ]


def found(answer: Any) -> list[tuple[str, str, str]]:
    assert answer.status_code == 200, answer.resource
    entries = answer.resource.get("entry", [])
    return [(one["search"]["mode"], one["resource"]["resourceType"], one["resource"]["id"]) for one in entries]


def test_a_search_finds_what_a_read_answers(
    as_alice: LoggedInClient, alice: User, bob: User, patient: Patient, meera: Doctor
) -> None:
    ravi, other, never = make_doctor(alice), make_patient(alice), make_patient(alice)
    make_mapping(patient, meera)
    make_past_mapping(patient, ravi)
    make_past_mapping(other, ravi)
    make_mapping(make_patient(bob), meera)
    teams = {one.pk: send(as_alice, "GET", f"/CareTeam/{one.pk}").resource for one in (patient, other)}
    both, first, second = [other.pk, patient.pk], [patient.pk], [other.pk]
    for query, keys in {
        "": both, f"_id={patient.pk}": first, f"patient={patient.pk}": first, f"subject=Patient/{other.pk}": second,
        f"patient=Patient/{other.pk},{BASE}/Patient/{patient.pk}": both, f"patient={never.pk}": [],
        f"participant=Practitioner/{ravi.pk}": both, f"participant={meera.pk}": first, "participant=Patient/1": [],
        "status=active": first, "status=inactive": second, "status=http://hl7.org/fhir/care-team-status|active": first,
        f"participant={ravi.pk}&status=active": first, "_lastUpdated=lt2020": [], "_lastUpdated=ge2020": both,
        f"_lastUpdated={teams[patient.pk]['meta']['lastUpdated']}": first, "_sort=_id": both[::-1],
    }.items():  # fmt: skip
        answer = send(as_alice, "GET", f"/CareTeam?{query}")
        assert answer.status_code == 200, answer.resource
        assert answer.resource["type"] == "searchset"
        assert answer.resource.get("entry", []) == [
            {"fullUrl": f"{BASE}/CareTeam/{key}", "resource": teams[key], "search": {"mode": "match"}} for key in keys
        ], query
    for query, name in {"status=gone": "status", "patient=?": "patient", "name=x": "name", "_sort=x": "_sort"}.items():
        answer = send(as_alice, "GET", f"/CareTeam?{query}")
        assert (answer.status_code, diagnostics(answer)[0][1]) == (400, [f"http.{name}"])


def test_a_search_after_an_undone_merge_has_the_versions_of_a_read(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor
) -> None:
    duplicate = make_patient(alice)
    make_mapping(duplicate, meera)
    make_mapping(patient, make_doctor(alice))
    merge(patient, duplicate)
    duplicate.refresh_from_db()
    unmerge(patient, duplicate)
    teams = [send(as_alice, "GET", f"/CareTeam/{one.pk}").resource for one in (duplicate, patient)]
    searched = send(as_alice, "GET", "/CareTeam").resource
    assert [one["resource"] for one in searched["entry"]] == teams


def test_after_an_archiving_the_oldest_version_is_the_state_that_it_left(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor, tmp_path: Path
) -> None:
    """Two doctors are assigned and one of them ends in January; the other one is changed now."""
    ended, present = make_mapping(patient, meera), make_mapping(patient, make_doctor(alice))
    assert as_alice.delete(f"/api/mappings/{ended.pk}/").status_code == 204
    at = f"/CareTeam/{patient.pk}"
    before = send(as_alice, "GET", f"{at}/_history").resource["entry"]
    other = make_patient(alice)
    make_mapping(other, meera)
    grow_old("2026-01")
    seal()
    assert as_alice.patch(f"/api/mappings/{present.pk}/", {"role": "surgeon"}).status_code == 200
    archive(tmp_path / "a")

    read = send(as_alice, "GET", at)
    entries = send(as_alice, "GET", f"{at}/_history").resource["entry"]
    left, newest = before[0]["resource"]["meta"]["versionId"], read.resource["meta"]["versionId"]
    assert [one["resource"]["meta"]["versionId"] for one in entries] == [newest, left]
    assert entries[0]["resource"] == read.resource
    assert entries[1]["resource"]["participant"] == before[0]["resource"]["participant"]
    for version, status in ((newest, 200), (left, 200), *((one["response"]["etag"][3:-1], 404) for one in before[1:])):
        answer = send(as_alice, "GET", f"{at}/_history/{version}")
        assert answer.status_code == status
    assert send(as_alice, "GET", f"{at}/_history/{left}").resource == entries[1]["resource"]
    found = {one["resource"]["id"]: one["resource"] for one in send(as_alice, "GET", "/CareTeam").resource["entry"]}
    assert found == {
        str(patient.pk): read.resource,
        str(other.pk): send(as_alice, "GET", f"/CareTeam/{other.pk}").resource,
    }
    assert [as_alice.delete(f"/api/patients/{patient.pk}/").status_code, send(as_alice, "GET", at).status_code] == [
        204,
        410,
    ]
    gone = send(as_alice, "GET", f"{at}/_history").resource["entry"]
    assert [one["request"]["method"] for one in gone] == ["DELETE", "PUT", "PUT"]


def test_a_search_includes_patients_and_doctors_once(
    as_alice: LoggedInClient, alice: User, patient: Patient, meera: Doctor
) -> None:
    gone, other = make_doctor(alice), make_patient(alice)
    for one in (patient, other):
        make_mapping(one, meera, is_primary=True)
    make_past_mapping(other, gone)
    Doctor.objects.filter(pk=gone.pk).end()
    query = "_include=CareTeam:participant&_include=CareTeam:subject"
    answer = send(as_alice, "GET", f"/CareTeam?{query}")
    assert found(answer) == [
        ("match", "CareTeam", str(other.pk)),
        ("match", "CareTeam", str(patient.pk)),
        ("include", "Patient", str(other.pk)),
        ("include", "Patient", str(patient.pk)),
        ("include", "Practitioner", str(meera.pk)),
    ]
    for entry in answer.resource["entry"]:
        at = entry["fullUrl"].removeprefix(BASE)
        assert send(as_alice, "GET", at).resource == entry["resource"]
    assert found(send(as_alice, "GET", f"/CareTeam?_id={patient.pk}&_include=CareTeam:participant"))[1:] == [
        ("include", "Practitioner", str(meera.pk))
    ]
    assert send(as_alice, "GET", "/CareTeam?_include=CareTeam:encounter").status_code == 400
    form: Any = as_alice.generic(
        "POST", "/fhir/CareTeam/_search", query, content_type="application/x-www-form-urlencoded"
    )
    assert json.loads(form.content)["entry"] == answer.resource["entry"]


def test_the_statements_of_a_page_do_not_grow_with_its_teams(
    as_alice: LoggedInClient, alice: User, meera: Doctor
) -> None:
    path = "/CareTeam?_include=CareTeam:participant&_include=CareTeam:subject"
    counts = []
    for _ in range(2):
        for _ in range(3):
            make_mapping(make_patient(alice), meera)
        with CaptureQueriesContext(connection) as captured:
            assert send(as_alice, "GET", path).status_code == 200
        counts.append(len(captured))
    assert counts[0] == counts[1]
