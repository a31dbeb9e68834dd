"""Search of Patient and Practitioner: https://hl7.org/fhir/R4/search.html."""

from datetime import date
from typing import Any
from urllib.parse import urlencode

from accounts.models import User
from conftest import LoggedInClient
from fhir.tests.test_interactions import send
from patients.tests.factories import make_patient


def search(client: Any, query: Any = "", kind: str = "Patient", **headers: str) -> Any:
    text = query if isinstance(query, str) else urlencode(query, doseq=True)
    return send(client, "GET", f"/{kind}?{text}", **headers)


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.resource
    return [int(entry["resource"]["id"]) for entry in answer.resource.get("entry", [])]


def test_first(as_alice: LoggedInClient, alice: User, bob: User) -> None:
    asha = make_patient(
        alice,
        name="Asha Rao",
        birth_date=date(1992, 5, 3),
        phone="+91 98765 43210",
        email="asha@x.org",
        identifier="MRN-1",
        identifiers=[{"system": "urn:a", "value": "12"}],
        address="12 Main Road, Bengaluru",
    )
    bela = make_patient(alice, name="Béla Nair-Iyer", birth_year=1992, gender="U")
    make_patient(bob, name="Asha Rao")
    for query, found in {
        "": [bela, asha], "name=ash": [asha], "name=iyer,rao": [bela, asha], "name=bela&name=nair": [bela],
        "name:contains=sh": [asha], "name:exact=Rao": [asha], "name:exact=rao": [], "family=nairiy": [bela],
        "birthdate=1992": [bela, asha], "birthdate=ge1992-06": [bela], "birthdate=1992-05-03": [asha],
        "identifier=urn:a|12": [asha], "identifier=mrn-1": [asha], "identifier=|12": [], "identifier=urn:a|": [asha],
        "phone=9876543210": [asha], "telecom=asha@X.org": [asha], "email=asha@x.org": [asha],
        "phone:missing=true": [bela],
        "address=main": [asha], "address=ain": [], "address:contains=ain": [asha], "gender=male": [asha],
        "gender:missing=true": [bela],
        "active=true": [bela, asha], "active=false": [], "deceased=false": [bela, asha],
        "general-practitioner=1": [], "_lastUpdated=ge2020": [bela, asha], f"_id={asha.pk},x": [asha],
    }.items():  # fmt: skip
        assert ids(search(as_alice, query)) == [one.pk for one in found], query
