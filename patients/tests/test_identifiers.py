"""Identifiers: the clinic's own number, and pairs of a system and a value that others gave."""

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from conftest import LoggedInClient, logged_in
from healthcare.fastpath.tests.test_plans import copy, plan_of, rows_read
from healthcare.tests.admin_pages import AdminClient, allow, errors_of
from healthcare.tests.openapi import by_name
from healthcare.tests.openapi import resolved as resolve
from patients.models import Patient, PatientEvent, PatientMerge
from patients.tests.factories import make_patient
from patients.tests.merging import merge, read, unmerge

AADHAAR, PASSPORT = "https://uidai.gov.in", "passport"
REJECT = "/api/patients/?on_duplicate=reject"


def pair(system: str, value: str) -> dict[str, str]:
    return {"system": system, "value": value}


def found(client: LoggedInClient, identifier: str) -> list[int]:
    answer = client.get("/api/patients/", {"identifier": identifier})
    assert answer.status_code == 200, answer.content
    return [row["id"] for row in answer.json()]


@pytest.fixture(params=["on", "off"])
def each_path(request: pytest.FixtureRequest, settings: Any) -> None:
    settings.FAST_PATH = request.param


@pytest.mark.usefixtures("each_path")
def test_identifiers_are_stored_changed_and_answered(as_alice: LoggedInClient) -> None:
    pairs = [pair(AADHAAR, "2345 6789"), pair(PASSPORT, 'Z "1" \\ é|x'), pair(PASSPORT, "Z2")]
    created = as_alice.post("/api/patients/", {"name": "Ana", "identifier": "MRN 1", "identifiers": pairs})
    assert (created.status_code, created.json()["identifiers"]) == (201, pairs)
    assert b'"identifiers":[{"system":"https://uidai.gov.in","value":"2345 6789"},' in created.content
    path = f"/api/patients/{created.json()['id']}/"
    assert as_alice.get(path).json() == as_alice.get("/api/patients/").json()[0] == created.json()
    assert as_alice.get(path, headers={"If-None-Match": created["ETag"]}).status_code == 304
    assert as_alice.get(f"{path}?fields=identifiers").json() == {"identifiers": pairs}
    changed = as_alice.patch(path, {"identifiers": pairs[::-1]}, headers={"If-Match": created["ETag"]})
    assert (changed.status_code, changed.json()["identifiers"]) == (200, pairs[::-1])
    assert as_alice.patch(path, {"identifiers": []}, headers={"If-Match": created["ETag"]}).status_code == 412
    unchanged = as_alice.patch(
        path, {"identifiers": [{"value": one["value"], "system": one["system"]} for one in pairs[::-1]]}
    )
    assert unchanged.json() == changed.json()
    assert as_alice.put(path, changed.json()).json() == changed.json()
    assert as_alice.patch(path, {"name": "Anna"}).json()["identifiers"] == pairs[::-1]
    nothings: list[Any] = [None, []]
    for nothing in nothings:
        assert as_alice.patch(path, {"identifiers": nothing}).json()["identifiers"] == []
    assert as_alice.post("/api/patients/", {"name": "Ana", "identifiers": None}).json()["identifiers"] == []


def test_both_paths_answer_the_same_bytes(as_alice: LoggedInClient, alice: User, settings: Any) -> None:
    for pairs in ([], [pair("a", "b")], [pair("\u2028é\U0001f600", '"\\/\u00a0'), pair("x", "y")]):
        patient = make_patient(alice, identifiers=pairs, contacts=[{"name": "é", "relationship": "", "phone": "1"}])
        as_alice.patch(f"/api/patients/{patient.pk}/", {"identifiers": [pair("n", "1")]})
        for url in (f"/api/patients/{patient.pk}/", "/api/patients/", f"/api/patients/{patient.pk}/history/"):
            answers = []
            for mode in ("off", "on", "verify"):
                settings.FAST_PATH = mode
                answers.append((as_alice.get(url).content, as_alice.get(url).headers.get("ETag")))
            assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        ("MRN 1", [("/identifiers", "not_a_list")]),
        ({}, [("/identifiers", "not_a_list")]),
        ({"system": "a", "value": "b"}, [("/identifiers", "not_a_list")]),
        (1, [("/identifiers", "not_a_list")]),
        (["MRN 1"], [("/identifiers/0", "invalid")]),
        ([None], [("/identifiers/0", "null")]),
        ([[]], [("/identifiers/0", "invalid")]),
        ([[pair("a", "b")]], [("/identifiers/0", "invalid")]),
        ([{}], [("/identifiers/0/system", "required"), ("/identifiers/0/value", "required")]),
        ([pair("a", "b"), {"value": "x"}], [("/identifiers/1/system", "required")]),
        ([{"system": "x"}], [("/identifiers/0/value", "required")]),
        ([pair("", "x")], [("/identifiers/0/system", "blank")]),
        ([pair(" ", "x")], [("/identifiers/0/system", "blank")]),
        ([pair("x", "")], [("/identifiers/0/value", "blank")]),
        ([{"system": None, "value": "x"}], [("/identifiers/0/system", "null")]),
        ([{"system": "x", "value": 17}], [("/identifiers/0/value", "invalid")]),
        ([{"system": ["x"], "value": "x"}], [("/identifiers/0/system", "invalid")]),
        ([pair("a|b", "x")], [("/identifiers/0/system", "invalid")]),
        ([pair("x" * 201, "x")], [("/identifiers/0/system", "max_length")]),
        ([pair("x", "x" * 201)], [("/identifiers/0/value", "max_length")]),
        ([pair("x", "a\tb")], [("/identifiers/0/value", "invalid")]),
        ([pair("a\nb", "x")], [("/identifiers/0/system", "invalid")]),
        ([pair("\u200b", "x")], [("/identifiers/0/system", "blank")]),
        ([pair("a", "b") | {"use": "official"}], [("/identifiers/0/use", "unknown")]),
        ([pair("a", "b"), pair("a", "c"), pair("a", "b")], [("/identifiers/2", "unique")]),
        ([pair("a", "b"), pair(" a ", "b ")], [("/identifiers/1", "unique")]),
        ([pair("a", str(number)) for number in range(21)], [("/identifiers", "max_length")]),
    ],
)
def test_what_is_no_list_of_identifiers_is_refused(
    as_alice: LoggedInClient, alice: User, value: Any, errors: list[tuple[str, str]]
) -> None:
    path = f"/api/patients/{make_patient(alice).pk}/"
    for refused in (
        as_alice.post("/api/patients/", {"name": "Ana", "identifiers": value}),
        as_alice.patch(path, {"identifiers": value}),
    ):
        assert refused.status_code == 400, refused.content
        assert [(error["pointer"], error["code"]) for error in refused.json()["errors"]] == errors
    assert Patient.objects.get().identifiers == []


def test_the_longest_list_is_accepted(as_alice: LoggedInClient) -> None:
    pairs = [pair("s" * 200, f"{number:0200}") for number in range(20)]
    assert as_alice.post("/api/patients/", {"name": "Ana", "identifiers": pairs}).json()["identifiers"] == pairs
    different = [pair("a", "b"), pair("A", "b"), pair("a", "B"), pair("b", "a")]
    assert as_alice.post("/api/patients/", {"name": "Ana", "identifiers": different}).json()["identifiers"] == different


@pytest.mark.usefixtures("each_path")
def test_the_list_is_narrowed_by_a_value_or_by_system_and_value(
    as_alice: LoggedInClient, alice: User, bob: User
) -> None:
    own = make_patient(alice, identifier="A-1").pk
    one = make_patient(alice, identifiers=[pair("https://a.org", "A-1"), pair("x", "7|8")]).pk
    two = make_patient(alice, identifiers=[pair("b", "A-1"), pair("x", "###")], identifier="c|9").pk
    make_patient(bob, identifier="A-1", identifiers=[pair("b", "A-1")])
    assert found(as_alice, "A-1") == [two, one, own]
    assert found(as_alice, "https://a.org|A-1") == [one]
    assert found(as_alice, "b|A-1") == [two]
    assert found(as_alice, "x|7|8") == [one]
    assert found(as_alice, "c|9") == [two]
    assert found(as_alice, "###") == found(as_alice, "x|###") == [two]
    for nothing in ("a-1", "A1", "A-1 x", "B|A-1", "c|A-1", "b|A", "b|", "|", "https", "x", "7", "b|A-1|"):
        assert found(as_alice, nothing) == [], nothing
    assert [row["id"] for row in as_alice.get("/api/patients/?identifier=A-1&limit=1").json()] == [two]
    assert found(as_alice, "s" * 200 + "|" + "v" * 200) == []
    refused = as_alice.get("/api/patients/", {"identifier": "x" * 402})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (400, "max_length")


def test_the_past_is_narrowed_by_identifiers_too(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, identifiers=[pair("b", "A-1")])
    path = f"/api/patients/{patient.pk}/"
    then = as_alice.get(f"{path}history/").json()[0]["at"]
    as_alice.patch(path, {"identifiers": []})
    assert found(as_alice, "b|A-1") == []
    for text, rows in (("b|A-1", 1), ("A-1", 1), ("c|A-1", 0)):
        assert len(as_alice.get("/api/patients/", {"identifier": text, "as_of": then}).json()) == rows


def test_deleted_patients_are_narrowed_by_identifiers_too(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, identifiers=[pair("b", "A-1")])
    as_alice.delete(f"/api/patients/{patient.pk}/")
    assert found(as_alice, "b|A-1") == []
    assert len(as_alice.get("/api/patients/?deleted=true&identifier=b%7CA-1").json()) == 1


@pytest.mark.parametrize("identifier", ["A-1", "b|B-2"])
def test_a_filter_by_identifier_reads_no_more_rows_of_an_owner_of_many(
    as_alice: LoggedInClient, alice: User, settings: Any, identifier: str
) -> None:
    patient = make_patient(alice, identifier="A-1", identifiers=[pair("b", "B-2")])
    other = make_patient(alice, identifiers=[pair("b", "other")])
    copy(other, "generate_series(1, 5000)")
    settings.FAST_PATH = "on"
    assert found(as_alice, identifier) == [patient.pk]
    plan = plan_of(as_alice, f"/api/patients/?{urlencode({'identifier': identifier})}")
    assert 0 < rows_read(plan) < 50, json.dumps(plan)


def test_search_finds_every_identifier(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    patient = make_patient(alice, name="Ana", identifier="MRN 1", identifiers=[pair("a", "AB-12 34"), pair("b", "#")])
    make_patient(bob, identifiers=[pair("a", "AB1234")])

    def hits(text: str) -> list[int]:
        return [row["id"] for row in as_alice.get("/api/patients/", {"search": text}).json()]

    for text in ("AB-12 34", "ab1234", "mrn1", "Ana"):
        assert hits(text) == [patient.pk], text
    assert hits("uidai") == hits("b") == []
    as_alice.patch(f"/api/patients/{patient.pk}/", {"identifiers": [pair("a", "CD 99")]})
    assert (hits("ab1234"), hits("cd99")) == ([], [patient.pk])
    call_command("erase_patient", str(patient.pk), "--reason", "asked", "--yes")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM patients_patientterm WHERE owner = %s", [alice.pk])
        assert cursor.fetchone() == (0,)
    assert not PatientEvent.objects.filter(identifiers__contains=[pair("a", "CD 99")]).exists()


@pytest.mark.parametrize(
    ("one", "other", "agrees_on"),
    [
        ({"identifiers": [pair("a", "1234")]}, {"identifiers": [pair("a", "12 34")]}, ["identifiers"]),
        ({"identifiers": [pair("a", "1234")]}, {"identifiers": [pair("b", "1234")]}, None),
        ({"identifiers": [pair("a", "1234")]}, {"identifier": "1234"}, None),
        ({"identifiers": [pair("old", "1234")]}, {"identifier": "1234"}, ["identifier"]),
        ({"identifiers": [pair("old", "1234")]}, {"identifiers": [pair("old", "1234")]}, ["identifier"]),
        ({"identifier": "A-1"}, {"identifier": "a1"}, ["identifier"]),
        (
            {"identifier": "A-1", "identifiers": [pair("a", "1"), pair("b", "2")]},
            {"identifier": "A-1", "identifiers": [pair("b", "2")]},
            ["identifier", "identifiers"],
        ),
        ({"identifiers": [pair("a", "###")]}, {"identifiers": [pair("a", "###")]}, None),
    ],
)
def test_a_number_of_the_same_system_makes_a_likely_duplicate(
    as_alice: LoggedInClient,
    alice: User,
    one: dict[str, Any],
    other: dict[str, Any],
    agrees_on: list[str] | None,
) -> None:
    first, second = (
        make_patient(alice, name="Ana", **one),
        make_patient(alice, name="Quite Another", gender="F", **other),
    )
    for patient, duplicate in ((first, second), (second, first)):
        rows = as_alice.get(f"/api/patients/{patient.pk}/duplicates/").json()
        expected = [(duplicate.pk, agrees_on)] if agrees_on else []
        assert [(row["id"], row["agrees_on"]) for row in rows] == expected
    as_alice.delete(f"/api/patients/{first.pk}/")
    status = 409 if agrees_on else 201
    assert as_alice.post(REJECT, {"name": "Somebody", **one}).status_code == status


def test_many_patients_with_the_value_in_another_system_hide_no_duplicate(
    as_alice: LoggedInClient, alice: User
) -> None:
    wanted = make_patient(alice, name="Ana", identifiers=[pair("a", "1")])
    for number in range(25):
        make_patient(alice, name=f"N{number}", identifiers=[pair("b", "1")])
    refused = as_alice.post(REJECT, {"name": "Somebody", "identifiers": [pair("a", "1")]})
    assert [row["id"] for row in refused.json()["duplicates"]] == [wanted.pk]


def test_deleted_patients_and_bobs_share_no_number(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    gone = make_patient(alice, identifiers=[pair("a", "1")])
    make_patient(bob, identifiers=[pair("a", "1")])
    as_alice.delete(f"/api/patients/{gone.pk}/")
    assert as_alice.post(REJECT, {"name": "Somebody", "identifiers": [pair("a", "1")]}).status_code == 201


def test_the_query_count_of_duplicates_does_not_grow_with_the_identifiers(
    as_alice: LoggedInClient, alice: User
) -> None:
    counts = []
    for many, name in (
        (1, "Ana Costa"),
        (20, "Zebulon Quist"),
    ):  # else the second one is likely the first one's duplicate
        patient = make_patient(alice, name=name, identifiers=[pair("a", f"{many} {number}") for number in range(many)])
        with CaptureQueriesContext(connection) as queries:
            as_alice.get(f"/api/patients/{patient.pk}/duplicates/")
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_merge_adds_the_duplicates_identifiers_and_its_own_number_as_old(
    as_alice: LoggedInClient, alice: User
) -> None:
    survivor = make_patient(alice, name="Ana", identifier="NEW", identifiers=[pair("a", "1"), pair("b", "2")])
    duplicate = make_patient(alice, name="Anna", identifier="CARD", identifiers=[pair("b", "2"), pair("c", "3")])
    before = read(as_alice, survivor), read(as_alice, duplicate)
    merged = merge(as_alice, survivor, duplicate).json()
    assert merged["identifier"] == "NEW"
    assert merged["identifiers"] == [pair("a", "1"), pair("b", "2"), pair("c", "3"), pair("old", "CARD")]
    for text in ("CARD", "old|CARD", "c|3", "NEW"):
        assert found(as_alice, text) == [survivor.pk]
    for body in ({"identifier": "CARD"}, {"identifiers": [pair("c", "3")]}, {"identifiers": [pair("old", "card")]}):
        assert as_alice.post(REJECT, {"name": "Somebody", **body}).status_code == 409, body
    assert as_alice.post(REJECT, {"name": "Somebody", "identifiers": [pair("d", "CARD")]}).status_code == 201
    assert unmerge(as_alice, survivor, duplicate).json()["identifiers"] == before[0]["identifiers"]
    assert read(as_alice, duplicate)["identifiers"] == before[1]["identifiers"]
    assert found(as_alice, "c|3") == [duplicate.pk]
    assert found(as_alice, "old|CARD") == []


def test_a_survivor_without_an_own_number_takes_the_duplicates(as_alice: LoggedInClient, alice: User) -> None:
    survivor, duplicate = make_patient(alice), make_patient(alice, identifier="CARD")
    merged = merge(as_alice, survivor, duplicate).json()
    assert (merged["identifier"], merged["identifiers"]) == ("CARD", [])
    third = make_patient(alice, identifier="CARD")
    assert merge(as_alice, survivor, third).json()["identifiers"] == []
    fourth = make_patient(alice, identifier="card")
    assert merge(as_alice, survivor, fourth).json()["identifiers"] == [pair("old", "card")]


def test_unmerging_keeps_what_was_changed_since(as_alice: LoggedInClient, alice: User) -> None:
    survivor = make_patient(alice, identifier="NEW")
    duplicate = make_patient(alice, identifier="CARD", identifiers=[pair("c", "3"), pair("d", "4")])
    merge(as_alice, survivor, duplicate)
    since = [pair("z", "9"), pair("c", "3"), pair("old", "CARD")]
    as_alice.patch(f"/api/patients/{survivor.pk}/", {"identifiers": since})
    assert unmerge(as_alice, survivor, duplicate).json()["identifiers"] == [pair("z", "9")]


def test_a_number_of_two_duplicates_stays_until_both_are_unmerged(as_alice: LoggedInClient, alice: User) -> None:
    survivor = make_patient(alice, identifier="NEW")
    shared = [pair("c", "3")]
    first = make_patient(alice, identifier="CARD", identifiers=[*shared, pair("x", "1")])
    second = make_patient(alice, identifier="CARD", identifiers=shared)
    merge(as_alice, survivor, first)
    merge(as_alice, survivor, second)
    remaining = [*shared, pair("old", "CARD")]
    assert unmerge(as_alice, survivor, first).json()["identifiers"] == remaining
    assert unmerge(as_alice, survivor, second).json()["identifiers"] == []
    assert [one.filled for one in PatientMerge.objects.all()] == [{}, {}]


def test_a_merge_may_exceed_the_limit_and_the_record_can_still_be_sent_back(
    as_alice: LoggedInClient, alice: User
) -> None:
    survivor = make_patient(alice, identifier="NEW", identifiers=[pair("a", str(n)) for n in range(20)])
    duplicate = make_patient(alice, identifier="CARD", identifiers=[pair("b", str(n)) for n in range(20)])
    merged = merge(as_alice, survivor, duplicate).json()
    assert len(merged["identifiers"]) == 41
    path = f"/api/patients/{survivor.pk}/"
    assert as_alice.put(path, merged).json() == merged
    fewer = as_alice.patch(path, {"identifiers": merged["identifiers"][:40]})
    assert (fewer.status_code, len(fewer.json()["identifiers"])) == (200, 40)
    assert as_alice.patch(path, {"identifiers": merged["identifiers"]}).status_code == 400


def test_the_history_records_identifiers(as_alice: LoggedInClient, settings: Any) -> None:
    created = as_alice.post("/api/patients/", {"name": "Ana", "identifiers": [pair("a", "1")]}).json()
    path = f"/api/patients/{created['id']}/"
    as_alice.patch(path, {"identifiers": [pair("a", "2")]})
    for mode in ("off", "on"):
        settings.FAST_PATH = mode
        changed, first = as_alice.get(f"{path}history/").json()
        assert changed["changes"] == {"identifiers": [[pair("a", "1")], [pair("a", "2")]]}
        assert first["changes"]["identifiers"] == [None, [pair("a", "1")]]
        assert "contacts" not in first["changes"]
    assert as_alice.get(path, {"as_of": first["at"]}).json()["identifiers"] == [pair("a", "1")]


def test_a_repeated_key_answers_the_same_identifiers(as_alice: LoggedInClient) -> None:
    body = {"name": "Ana", "identifiers": [pair("a", "1")], "contacts": [{"name": "Ben"}]}
    answers = [as_alice.post("/api/patients/", body, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert answers[0].content == answers[1].content
    assert answers[1]["Idempotency-Replayed"] == "true"


def test_bob_finds_and_changes_none_of_alices_identifiers(alice: User, bob: User) -> None:
    patient, as_bob = make_patient(alice, identifiers=[pair("a", "1")]), logged_in(bob)
    assert found(as_bob, "a|1") == []
    assert as_bob.patch(f"/api/patients/{patient.pk}/", {"identifiers": []}).status_code == 404


@pytest.mark.parametrize(
    "value",
    ["{}", "null", '"x"', "[1]", "[null]", "[[]]", '[{"system": "a"}]', '[{"system": "a", "value": 1}]',
     '[{"system": "a", "value": ""}]', '[{"system": "a|b", "value": "1"}]',
     '[{"system": "a", "value": "1", "use": "x"}]',
     '[[{"system": "a", "value": "1"}]]'],
)  # fmt: skip
def test_the_database_refuses_a_malformed_list_of_every_writer(alice: User, value: str) -> None:
    patient = make_patient(alice)
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("UPDATE patients_patient SET identifiers = %s WHERE id = %s", [value, patient.pk])


def rows(*pairs: tuple[str, str]) -> dict[str, str]:
    """The rows of the admin's table, as a browser sends them."""
    sent = {"identifiers-TOTAL_FORMS": str(len(pairs))}
    for number, (system, value) in enumerate(pairs):
        sent |= {f"identifiers-{number}-system": system, f"identifiers-{number}-value": value}
    return sent


def test_staff_edit_identifiers_as_rows_in_the_admin(staff: User, alice: User) -> None:
    client, patient = AdminClient(staff), make_patient(alice)
    path = f"/admin/patients/patient/{patient.pk}/change/"
    assert {f"identifiers-{number}-value" for number in (0, 1)} <= client.form(path).keys()  # empty rows
    assert client.submit(path, None, **rows(("a", " AB-1 "), ("", " "), ("b", "2"))).status_code == 302
    patient.refresh_from_db()
    assert (patient.identifiers, patient.version) == ([pair("a", "AB-1"), pair("b", "2")], 2)
    assert client.submit(path, name="Ana").status_code == 302
    patient.refresh_from_db()
    assert (patient.identifiers, patient.version) == ([pair("a", "AB-1"), pair("b", "2")], 3)
    assert "AB-1" in client.page("/admin/patients/patient/?q=AB-1")
    assert client.submit(path, None, **{"identifiers-0-DELETE": "on"}).status_code == 302
    patient.refresh_from_db()
    assert patient.identifiers == [pair("b", "2")]
    assert client.submit(path, None, **rows()).status_code == 302
    patient.refresh_from_db()
    assert patient.identifiers == []


@pytest.mark.parametrize(
    ("sent", "cell", "message"),
    [
        ([("a", "")], "0-value", "This field may not be blank."),
        ([("", ""), ("", "1")], "1-system", "This field may not be blank."),
        ([("a|b", "1")], "0-system", "Remove the bar; it separates system and value in `?identifier=`."),
        ([("a", "1"), ("a", "1")], "1-value", "Remove this identifier; it repeats an earlier one."),
        ([("a", "x" * 201)], "0-value", "Ensure this field has no more than 200 characters."),
        ([("a", "1\n2")], "0-value", "Enter one line of visible text."),
    ],
)
def test_an_error_of_an_identifier_stands_beside_its_cell(
    staff: User, alice: User, sent: list[tuple[str, str]], cell: str, message: str
) -> None:
    answer = AdminClient(staff).submit(f"/admin/patients/patient/{make_patient(alice).pk}/change/", None, **rows(*sent))
    row, member = cell.split("-")
    label = {"system": "Given by", "value": "Number"}[member]
    assert errors_of(answer) == {"identifiers": [f"Row {int(row) + 1}, {label}: {message}"]}
    page = answer.content.decode()
    assert f'id="id_identifiers-{cell}_error"><li>{message}</li></ul>' in page
    assert page.count('aria-invalid="true" aria-describedby="id_identifiers-') == 1


def test_more_identifiers_than_the_api_accepts_are_refused_unless_they_are_stored(staff: User, alice: User) -> None:
    client, patient = AdminClient(staff), make_patient(alice, identifiers=[pair("a", str(n)) for n in range(21)])
    path = f"/admin/patients/patient/{patient.pk}/change/"
    assert client.submit(path, name="Ana").status_code == 302
    more = rows(*[("a", str(number)) for number in range(22)])
    assert errors_of(client.submit(path, None, **more)) == {"identifiers": ["Send at most 20 of them."]}


def test_staff_who_may_only_view_see_identifiers_as_lines(make_user: Any, alice: User) -> None:
    patient = make_patient(alice, identifiers=[pair("passport", "<b>1"), pair("uid", "7")])
    viewer = AdminClient(allow(make_user("viewer", is_staff=True), "view_patient"))
    page = viewer.page(f"/admin/patients/patient/{patient.pk}/change/")
    assert "passport, &lt;b&gt;1<br>uid, 7" in page
    assert 'name="identifiers' not in page


@pytest.mark.parametrize("total", ["", "x", "-1", "9" * 40, "\u0663", "1000000"])
def test_a_broken_number_of_rows_is_no_error(staff: User, alice: User, total: str) -> None:
    path = f"/admin/patients/patient/{make_patient(alice).pk}/change/"
    assert AdminClient(staff).submit(path, None, **{"identifiers-TOTAL_FORMS": total}).status_code == 302


def test_the_description_names_the_members_of_an_identifier() -> None:
    operation = by_name()["patients_create"]
    body = resolve(operation["requestBody"]["content"]["application/json"]["schema"])["properties"]["identifiers"]
    assert (body["type"], body["maxItems"]) == (["array", "null"], 20)
    sent = resolve(body["items"])
    assert sent["required"] == ["system", "value"]
    assert {name: one["maxLength"] for name, one in sent["properties"].items()} == {"system": 200, "value": 200}
    answer = resolve(operation["responses"]["201"]["content"]["application/json"]["schema"])
    assert "identifiers" in answer["required"]
    assert "maxItems" not in answer["properties"]["identifiers"]
    assert resolve(answer["properties"]["identifiers"]["items"])["required"] == ["system", "value"]


def test_lenient_handling_ignores_an_unknown_member(as_alice: LoggedInClient) -> None:
    body = {"name": "Ana", "identifiers": [pair("a", "b") | {"use": "official", "values": "c"}]}
    refused = as_alice.post("/api/patients/", body).json()["errors"]
    assert [(error["pointer"], error["code"]) for error in refused] == [
        ("/identifiers/0/use", "unknown"), ("/identifiers/0/values", "unknown"),
    ]  # fmt: skip
    assert "did you mean `value`?" in refused[1]["detail"]
    accepted = as_alice.post("/api/patients/", body, headers={"Prefer": "handling=lenient"})
    assert (accepted.status_code, accepted.json()["identifiers"]) == (201, [pair("a", "b")])


def test_the_search_by_post_takes_an_identifier_too(as_alice: LoggedInClient, alice: User) -> None:
    patient = make_patient(alice, identifiers=[pair("b", "A-1")])
    answer = as_alice.post("/api/patients/search/", {"identifier": "b|A-1"})
    assert [row["id"] for row in answer.json()] == [patient.pk]
