"""Search of Patient and Practitioner: https://hl7.org/fhir/R4/search.html."""

from datetime import date
from functools import partial
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import User
from audit.models import AccessLog
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from fhir.tests.test_interactions import diagnostics, send
from healthcare.tests.concurrent_calls import call_concurrently, sorted_statuses
from healthcare.tests.contract_matrix import FORM
from healthcare.tests.live import LiveServer
from mappings.tests.factories import make_mapping
from patients.merges import merge
from patients.models import Patient
from patients.tests.factories import make_patient

BASE = "http://testserver/fhir"


def search(client: Any, query: Any = "", kind: str = "Patient", **headers: str) -> Any:
    text = query if isinstance(query, str) else urlencode(query, doseq=True)
    return send(client, "GET", f"/{kind}?{text}", **headers)


def search_by_post(client: Any, body: dict[str, Any], kind: str = "Patient", query: str = "") -> Any:
    answer = client.post(f"/fhir/{kind}/_search{query}", urlencode(body, doseq=True), content_type=FORM)
    answer.resource = answer.json()
    return answer


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.resource
    assert answer.resource["resourceType"] == "Bundle"
    assert all(entry["search"] == {"mode": "match"} for entry in answer.resource.get("entry", []))
    return [int(entry["resource"]["id"]) for entry in answer.resource.get("entry", [])]


def link_of(answer: Any, relation: str) -> str | None:
    links = {link["relation"]: link["url"] for link in answer.resource["link"]}
    return links[relation].removeprefix(BASE) if relation in links else None


@pytest.fixture
def asha(alice: User) -> Patient:
    return make_patient(
        alice, name="Asha Rao", birth_date=date(1992, 5, 3), phone="+91 98765 43210", email="asha@x.org", gender="F",
        identifier="MRN-1", identifiers=[{"system": "urn:a", "value": "1|2,3"}, {"system": "Aadhaar", "value": "77"}],
        address="12 Main Road, Bengaluru", deceased=True,
    )  # fmt: skip


@pytest.fixture
def bela(alice: User) -> Patient:
    return make_patient(alice, name="Béla O'Neil-Iyer", birth_year=1992, gender="U", alternate_phone="080 2222 3333")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", "ba"),
        ("name=ash", "a"), ("name=ASHA", "a"), ("name=sha", ""), ("name=iyer,rao", "ba"), ("name=bela&name=oneil", "b"),
        ("name=bela&name=rao", ""), ("name=rao asha", "a"), ("name=neil-iyer", ""), ("name=oneiliyer", "b"),
        ("name=-", ""), ("name:contains=sh", "a"), ("name:contains=iye", "b"), ("name:exact=Rao", "a"),
        ("name:exact=rao", ""), ("name:exact=Asha Rao", "a"), ("name:exact=Asha", "a"), ("family=rao", "a"),
        ("given=béla", "b"), ("name:missing=true", ""), ("name:missing=false", "ba"),
        ("birthdate=1992", "ba"), ("birthdate=eq1992-05", "a"), ("birthdate=1992-05-03", "a"),
        ("birthdate=ne1992-05-03", "b"), ("birthdate=gt1992-05-03", "b"), ("birthdate=lt1992-05-03", "b"),
        ("birthdate=ge1992-05-03", "ba"), ("birthdate=le1992-05-02", "b"), ("birthdate=gt1992", ""),
        ("birthdate=lt1992", ""), ("birthdate=ge1992-06&birthdate=le1993", "b"), ("birthdate:missing=false", "ba"),
        ("gender=female", "a"), ("gender=http://hl7.org/fhir/administrative-gender|female", "a"),
        ("gender=|female", ""),
        ("gender=urn:x|female", ""), ("gender=male,female", "a"), ("gender=unknown", ""), ("gender:missing=true", "b"),
        ("identifier=mrn-1", "a"), ("identifier=|MRN-1", "a"), ("identifier=urn:a|1\\|2\\,3", "a"),
        ("identifier=1\\|2\\,3", "a"), ("identifier=urn:b|1\\|2\\,3", ""), ("identifier=urn:a|", "a"),
        ("identifier=|77", "a"), ("identifier=Aadhaar|77", "a"), ("identifier:missing=true", "b"),
        ("phone=%2B919876543210", "a"), ("phone=9876543210", "a"), ("phone=43210", ""), ("phone=22223333", "b"),
        ("phone=x", ""), ("phone:missing=true", ""), ("email=Asha@X.org", "a"), ("email:missing=true", "b"),
        ("telecom=asha@x.org,08022223333", "ba"), ("telecom:missing=true", ""),
        ("address=main", "a"), ("address=beng", "a"), ("address=oad", ""), ("address:contains=oad", "a"),
        ("address:exact=12 Main Road\\, Bengaluru", "a"), ("address:missing=true", "b"),
        ("active=true", "ba"), ("active=false", ""), ("active:missing=true", ""),
        ("deceased=true", "a"), ("deceased=false", "b"), ("deceased:missing=true", "b"),
        ("general-practitioner=1", ""), ("general-practitioner:missing=true", "ba"),
        ("general-practitioner=http://other/fhir/Practitioner/1", ""),
        ("_lastUpdated=ge2020", "ba"), ("_lastUpdated=lt2020-01-31", ""), ("_lastUpdated=gt2020-01-01T00:00:00Z", "ba"),
        ("_lastUpdated=ne2020-01-01T00:00", "ba"), ("_id=0,x,007", ""), ("_sort=_id", "ab"), ("_sort=name", "ab"),
        ("_sort=-name", "ba"), ("_sort=-_lastUpdated", "ba"), ("_sort=name,_lastUpdated", "ab"),
        ("_sort=-_id,-name", "ba"), ("general-practitioner=Organization/1", ""),
        ("_totalMethod=count", "ba"), ("_summary=false", "ba"),
    ],
)  # fmt: skip
def test_a_parameter_selects(as_alice: LoggedInClient, asha: Patient, bela: Patient, query: str, found: str) -> None:
    assert ids(search(as_alice, query)) == [{"a": asha.pk, "b": bela.pk}[letter] for letter in found]


@pytest.mark.parametrize(
    ("query", "code", "name"),
    [
        ("nam=x", "not-supported", "nam"), ("name:text=x", "not-supported", "name:text"),
        ("gender:not=male", "not-supported", "gender:not"), ("_include=x", "not-supported", "_include"),
        ("general-practitioner.name=x", "not-supported", "general-practitioner.name"),
        ("name=", "value", "name"), ("name=a,,b", "value", "name"), ("name=a%00", "value", "name"),
        ("birthdate=sa1992", "value", "birthdate"), ("birthdate=ap1992", "value", "birthdate"),
        ("birthdate=1992-13", "value", "birthdate"), ("birthdate=1992-02-30", "value", "birthdate"),
        ("birthdate=92", "value", "birthdate"), ("birthdate=1992-05-03T10:00", "value", "birthdate"),
        ("_lastUpdated=eb2020", "value", "_lastUpdated"), ("_lastUpdated=9999", "value", "_lastUpdated"),
        ("_lastUpdated=2020-01-01T25:00", "value", "_lastUpdated"),
        ("gender=Male", "value", "gender"), ("active=yes", "value", "active"), ("active=|true", "value", "active"),
        ("identifier=|", "value", "identifier"), ("identifier=a|b|c", "value", "identifier"),
        ("general-practitioner=a b", "value", "general-practitioner"), ("name:missing=maybe", "value", "name:missing"),
        ("_sort=birthdate", "value", "_sort"), ("_sort=name,birthdate", "value", "_sort"), ("_sort=", "value", "_sort"),
        ("_sort=name,-name", "value", "_sort"), ("_sort=name,-_id", "value", "_sort"),
        ("general-practitioner=Foo/1", "value", "general-practitioner"),
        ("general-practitioner=http://other/fhir/Patient/1", "value", "general-practitioner"),
        ("_summary=all", "value", "_summary"), ("_total=x", "value", "_total"),
        ("_elements=a b", "value", "_elements"), ("_total=none&_total=none", "value", "_total"),
        ("_query=x", "value", "_query"), ("_count=x", "invalid", "_count"), ("_cursor=x", "invalid", "_cursor"),
    ],
)  # fmt: skip
def test_what_it_cannot_search_by_is_named(as_alice: LoggedInClient, query: str, code: str, name: str) -> None:
    answer = search(as_alice, query)
    assert (answer.status_code, diagnostics(answer)) == (400, [(code, [f"http.{name}"])])
    lenient = search(as_alice, query, prefer="handling=lenient")
    assert lenient.status_code == (200 if code == "not-supported" else 400)


def test_the_self_link_says_what_was_used(as_alice: LoggedInClient, asha: Patient) -> None:
    answer = search(as_alice, "name=asha&nam=x&_count=9999&_format=json", prefer="handling=lenient")
    assert link_of(answer, "self") == "/Patient?name=asha&_count=500"
    assert answer.headers["Preference-Applied"] == "handling=lenient"
    assert answer.resource["entry"][0]["fullUrl"] == f"{BASE}/Patient/{asha.pk}"


@pytest.mark.parametrize(
    "sort", ["", "&_sort=name", "&_sort=-_lastUpdated", "&_sort=_id", "&_sort=-name,-_lastUpdated"]
)
@pytest.mark.parametrize("by_post", [False, True], ids=["GET", "POST"])
def test_the_pages_make_up_the_whole(as_alice: LoggedInClient, alice: User, sort: str, by_post: bool) -> None:
    made = [make_patient(alice, name=f"Same {number % 3}").pk for number in range(7)]
    whole = ids(search(as_alice, f"name=same{sort}"))
    body = {"name": "same", "_count": "3"} | ({"_sort": sort.removeprefix("&_sort=")} if sort else {})
    answer = search_by_post(as_alice, body) if by_post else search(as_alice, body)
    found = ids(answer)
    while following := link_of(answer, "next"):
        assert not by_post or "same" not in following.lower()
        answer = send(as_alice, "GET", following)
        found += ids(answer)
    assert (found, sorted(found)) == (whole, made)


def test_a_search_by_post_reads_body_and_url(as_alice: LoggedInClient, asha: Patient, bela: Patient) -> None:
    assert ids(search_by_post(as_alice, {"gender": "female"}, query="?name=asha")) == [asha.pk]
    assert ids(search_by_post(as_alice, {"gender": "female"}, query="?name=bela")) == []
    answer = search_by_post(as_alice, {"_pretty": "true", "_format": "json"})
    assert answer.content.startswith(b"{\n")
    assert search_by_post(as_alice, {"_format": "xml"}).status_code == 406
    assert send(as_alice, "POST", "/Patient/_search", {}).status_code == 415


def test_another_owners_records_are_never_found(as_bob: LoggedInClient, bob: User, asha: Patient, alice: User) -> None:
    doctor = make_doctor(alice)
    make_mapping(asha, doctor, is_primary=True)
    for query in (
        "", "name=asha", "name:contains=a", "identifier=MRN-1", "identifier=urn:a|", "phone=9876543210", "active=false",
        "email=asha@x.org", "address=main", "birthdate=1992", f"general-practitioner={doctor.pk}", f"_id={asha.pk}",
        "active=true,false", "active:missing=false",
    ):  # fmt: skip
        answer = search(as_bob, f"{query}&_total=accurate")
        assert (ids(answer), answer.resource["total"]) == ([], 0), query


def test_deleted_records_are_not_found_and_merged_ones_as_inactive(
    as_alice: LoggedInClient, alice: User, asha: Patient, bela: Patient
) -> None:
    gone = make_patient(alice, name="Gone")
    gone.row().end()
    merge(asha, bela)
    assert ids(search(as_alice)) == [asha.pk]
    assert ids(search(as_alice, "active=false")) == [bela.pk]
    assert ids(search(as_alice, "active=true,false")) == [bela.pk, asha.pk]
    assert ids(search(as_alice, "active=false&name=bela")) == [bela.pk]
    # The survivor is searched by what it holds itself.
    assert ids(search(as_alice, "name=bela")) == []
    assert ids(search(as_alice, "name=asha")) == [asha.pk]


def test_what_fhir_sent_beside_the_columns_is_searched(as_alice: LoggedInClient) -> None:
    sent = {"resourceType": "Patient", "name": [{"text": "Chi"}], "birthDate": "1990-07", "gender": "unknown"}
    key = int(send(as_alice, "POST", "/Patient", {**sent, "active": False}).resource["id"])
    for query, found in (
        ("birthdate=1990-07", True), ("birthdate=1990-08", False), ("birthdate=gt1990-08", False),
        ("birthdate=lt1990-07-15", True), ("gender=unknown", True), ("gender:missing=true", False),
        ("active=false", True), ("active=true", False), ("", True),
    ):  # fmt: skip
        assert ids(search(as_alice, query)) == [key] * found, query


def test_patients_are_found_by_their_primary_doctor(as_alice: LoggedInClient, alice: User, asha: Patient) -> None:
    doctor, other = make_doctor(alice), make_doctor(alice)
    make_mapping(asha, doctor, is_primary=True)
    make_mapping(asha, other)
    for reference in (f"{doctor.pk}", f"Practitioner/{doctor.pk}", f"{BASE}/Practitioner/{doctor.pk}"):
        assert ids(search(as_alice, {"general-practitioner": reference})) == [asha.pk]
    assert ids(search(as_alice, f"general-practitioner={other.pk}")) == []
    assert ids(search(as_alice, "general-practitioner:missing=false")) == [asha.pk]


def test_anybody_searches_practitioners(anonymous: APIClient, as_alice: LoggedInClient, alice: User) -> None:
    doctor = make_doctor(alice, name="Dr. Meera Rao", license_number="KA-7", phone="080 1234567", email="m@x.org")
    gone = make_doctor(alice)
    gone.row().end()
    identifiers = [{"system": "urn:npi", "value": "99"}]
    sent = {"resourceType": "Practitioner", "name": [{"text": "Dr. Chi"}], "identifier": identifiers}
    chi = int(send(as_alice, "POST", "/Practitioner", sent).resource["id"])
    for query, found in (
        ("", [chi, doctor.pk]), ("name=meera", [doctor.pk]), ("family=rao", [doctor.pk]),
        ("identifier=ka-7", [doctor.pk]),
        ("identifier=urn:npi|99", [chi]), ("identifier=urn:other|99", []), ("phone=801234567", [doctor.pk]),
        ("email=m@x.org", [doctor.pk]), ("telecom:missing=true", [chi]), ("active=true", [chi, doctor.pk]),
        (f"_id={chi}", [chi]), ("_sort=name", [chi, doctor.pk]),
    ):  # fmt: skip
        assert ids(search(anonymous, query, "Practitioner")) == found, query
    assert ids(search_by_post(anonymous, {"name": "meera"}, "Practitioner")) == [doctor.pk]


def test_a_total_is_counted_when_asked_for(as_alice: LoggedInClient, asha: Patient, bela: Patient) -> None:
    assert "total" not in search(as_alice).resource
    assert search(as_alice, "_total=accurate&_count=1").resource["total"] == 2
    for query in ("_summary=count", "_count=0", "_count=0&_totalMethod=count"):
        answer = search(as_alice, f"name=asha&{query}")
        assert (answer.resource["total"], ids(answer)) == (1, [])


def test_parts_of_resources_are_marked(as_alice: LoggedInClient, asha: Patient) -> None:
    for query, members in (
        ("_elements=name,deceased", {"name", "deceasedBoolean"}),
        (
            "_summary=true",
            {"identifier", "active", "name", "telecom", "gender", "birthDate", "deceasedBoolean", "address"},
        ),
        ("_summary=text", set()),
    ):  # fmt: skip
        (entry,) = search(as_alice, query).resource["entry"]
        assert entry["resource"].keys() == members | {"resourceType", "id", "meta"}
        assert [tag["code"] for tag in entry["resource"]["meta"]["tag"]] == ["SUBSETTED"]


def test_a_search_is_recorded_as_the_list_of_the_api(as_alice: LoggedInClient, asha: Patient, bela: Patient) -> None:
    search(as_alice, "name=asha")
    search_by_post(as_alice, {"name": "bela"})
    rows = AccessLog.objects.order_by("pk").values_list("action", "patient_ids", "outcome")
    assert [*rows] == [("patient.list", [asha.pk], 200), ("patient.list", [bela.pk], 200)]


def test_the_statements_do_not_grow_with_the_page(as_alice: LoggedInClient, alice: User) -> None:
    counts = []
    doctor = make_doctor(alice)
    for _ in range(2):
        for _ in range(3):
            make_mapping(make_patient(alice, name="Same"), doctor, is_primary=True)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(ids(search(as_alice, "name=same&phone:missing=true&_total=accurate"))) in {3, 6}
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 8


def test_a_record_is_created_unless_one_fulfils_the_condition(as_alice: LoggedInClient, as_bob: LoggedInClient) -> None:
    body = {"resourceType": "Patient", "name": [{"text": "Chi"}], "identifier": [{"system": "urn:a", "value": "5"}]}
    first = send(as_alice, "POST", "/Patient", body, if_none_exist="identifier=urn:a|5")
    again = send(as_alice, "POST", "/Patient", body, if_none_exist="identifier=urn:a|5")
    assert (first.status_code, again.status_code, again.resource) == (201, 200, first.resource)
    assert [first.headers[name] for name in ("Location", "ETag")] == [again.headers[n] for n in ("Location", "ETag")]
    access = AccessLog.objects.latest("pk")
    assert (access.action, [*access.patient_ids]) == ("patient.retrieve", [int(first.resource["id"])])
    minimal = send(as_alice, "POST", "/Patient", body, if_none_exist="identifier=urn:a|5", prefer="return=minimal")
    assert (minimal.status_code, minimal.content) == (200, b"")
    assert send(as_bob, "POST", "/Patient", body, if_none_exist="identifier=urn:a|5").status_code == 201
    send(as_alice, "POST", "/Patient", body)
    several = send(as_alice, "POST", "/Patient", body, if_none_exist="identifier=urn:a|5")
    assert (several.status_code, diagnostics(several)) == (412, [("conflict", [])])
    assert Patient.objects.count() == 3


@pytest.mark.parametrize("condition", ["", "x", "nam=x", "_count=1", "birthdate=x", "name="])
def test_a_condition_that_selects_by_nothing_is_refused(as_alice: LoggedInClient, condition: str) -> None:
    body = {"resourceType": "Patient", "name": [{"text": "Chi"}]}
    answer = send(as_alice, "POST", "/Patient", body, if_none_exist=condition)
    assert (answer.status_code, diagnostics(answer)[0][1]) == (400, ["http.If-None-Exist"])
    assert send(as_alice, "POST", "/Patient?identifier=urn:a|5", body).status_code == 400
    assert Patient.objects.count() == 0


def test_of_conditional_creates_at_once_one_creates(live: LiveServer) -> None:
    token = str(live.register()[1]["access"])
    for number in range(3):
        identifier = [{"system": "urn:a", "value": str(number)}]
        body = {"resourceType": "Patient", "name": [{"text": "Chi"}], "identifier": identifier}
        call = partial(live.call, "POST", "/fhir/Patient", body, token, If_None_Exist=f"identifier=urn:a|{number}")
        answers = call_concurrently(*[call] * 4)
        assert sorted_statuses(answers) == [200] * 3 + [201], [answer.body for answer in answers]
        assert len({answer.json["id"] for answer in answers}) == 1
    assert len(live.call("GET", "/api/patients/", token=token).json) == 3


def test_the_statement_lists_the_parameters(anonymous: APIClient) -> None:
    resources = send(anonymous, "GET", "/metadata").resource["rest"][0]["resource"]
    found = {one["type"]: {param["name"]: param["type"] for param in one.get("searchParam", [])} for one in resources}
    assert found["Patient"] == {
        "_id": "token", "_lastUpdated": "date", "active": "token", "address": "string", "birthdate": "date",
        "deceased": "token", "email": "token", "family": "string", "gender": "token",
        "general-practitioner": "reference", "given": "string", "identifier": "token", "name": "string",
        "phone": "token", "telecom": "token",
    }  # fmt: skip
    assert found["Practitioner"].keys() == {
        "_id", "_lastUpdated", "active", "email", "family", "given", "identifier", "name", "phone", "telecom",
    }  # fmt: skip


# Costly searches


TOO_COSTLY = {
    "values": ["_id=" + ",".join("1" * 201), "Search for at most 200 values at once."],
    "characters": ["identifier=" + "1" * 10_001, "Search for at most 10000 characters at once."],
    "words": [
        "name=" + "a+" * 501,
        "Search for at most 1000 characters of names and addresses at once.",
    ],
    "repeated parameters": ["email=a@x.org&" * 21, "Search for at most 20 parameters that select at once."],
}


@pytest.mark.parametrize(("query", "detail"), TOO_COSTLY.values(), ids=TOO_COSTLY.keys())
def test_a_search_that_a_statement_cannot_hold_is_refused(
    anonymous: APIClient, as_alice: LoggedInClient, query: str, detail: str
) -> None:
    sent = query.rstrip("&")
    for answer in (
        search(anonymous, sent, "Practitioner"),
        search(as_alice, sent),
        anonymous.post("/fhir/Practitioner/_search", sent, content_type=FORM),
        send(as_alice, "POST", "/Patient", {"resourceType": "Patient", "name": [{"text": "Ana"}]}, if_none_exist=sent),
    ):
        assert answer.status_code == 400
        [issue] = answer.json()["issue"]
        assert (issue["code"], issue["diagnostics"]) == ("too-costly", detail)


@pytest.mark.parametrize("path", ["on", "off"])
@pytest.mark.parametrize(
    "query",
    ["name=" + "+".join(f"a{number}" for number in range(200)),
     "&".join(f"name=a{number}+b+c+d" for number in range(20)),
     "&".join(f"identifier={number}&telecom=555123{number}" for number in range(10))],
    ids=["words", "names", "tokens"],
)  # fmt: skip
def test_few_joins_are_planned_however_many_words_a_search_has(
    as_alice: LoggedInClient, settings: Any, path: str, query: str
) -> None:
    """Each lookup in the terms is a join, and PostgreSQL takes seconds to plan fifty."""
    settings.FAST_PATH = path
    with CaptureQueriesContext(connection) as queries:
        assert ids(search(as_alice, query)) == []
    assert 0 < max(one["sql"].count("IN (SELECT") for one in queries.captured_queries) <= 24


def test_the_words_beyond_the_first_count_too(as_alice: LoggedInClient, alice: User) -> None:
    name = "Maria Teresa Fernandes Gonsalves de Souza"
    found = make_patient(alice, name=name)
    make_patient(alice, name="Maria Teresa Fernandes Gonsalves da Silva")
    assert ids(search(as_alice, {"name": name.lower()})) == [found.pk]
    query = [("name", word) for word in ("maria", "teresa", "fernandes", "gonsalves", "de", "souza")]
    assert ids(search(as_alice, query)) == [found.pk]
    assert ids(search(as_alice, [*query, ("name", "silva")])) == []
