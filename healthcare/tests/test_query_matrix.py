"""The contract matrix of the query: every parameter of every list, with what is another user's as its value."""

from collections.abc import Callable
from typing import Any

import pytest

from accounts.authentication import AUTHENTICATE
from accounts.models import LoginSession, User
from accounts.views import SessionViewSet
from doctors.models import Doctor
from healthcare.api.schema_view import description
from healthcare.ownership import OwnedQuerySet
from healthcare.tests.contract_matrix import ACTIVE_CALLERS, MISSING_ID, Cast, table_hashes, without_request_id
from mappings.models import Mapping
from patients.models import Patient

# The lists' parameters that name somebody: the value that is another user's, and one that is nobody's.
Values = Callable[[Cast, str], tuple[str, str]]
BY_ID: dict[str, Values] = {
    "patient": lambda cast, other: (str(cast.ids["patient", other]), str(MISSING_ID)),
}
PATIENTS: dict[str, Values] = {
    "search": lambda cast, other: (f"Zebulon {other}", "Zebulon Nobody"),
    "identifier": lambda cast, other: (f"M-{other}", "M-nobody"),
}
LISTS: dict[str, dict[str, Values]] = {"/api/patients/": PATIENTS, "/api/mappings/": BY_ID}
# What narrows or shapes without naming anybody: whatever its value, only the caller's own rows are answered.
NAMELESS = {
    "/api/patients/": {
        "gender": "F", "birth_date_after": "1900-01-01", "birth_date_before": "2020-01-01", "age_min": "0",
        "age_max": "150", "created_after": "2000-01-01", "created_before": "2999-01-01", "updated_after": "2000-01-01",
        "updated_before": "2999-01-01", "fields": "id,name,created_by", "include": "doctors", "ordering": "name",
        "limit": "500", "count": "true", "deleted": "true", "search": "zebulon", "doctor": "{doctor}",
        "as_of": "", "cursor": "",
    },
    "/api/mappings/": {
        "doctor": "{doctor}", "role": "GP", "active": "false", "fields": "id,patient,created_by",
        "ordering": "started_at", "limit": "500", "count": "true", "patient": "", "as_of": "", "cursor": "",
    },
}  # fmt: skip


@pytest.fixture
def cast(make_user: Callable[..., User]) -> Cast:
    """Each user's patients tell whose they are, and a doctor of bob's treats one of each."""
    cast = Cast.build(make_user)
    doctor = Doctor.objects.get(pk=cast.ids["doctor", "bob"])
    for name, user in cast.users.items():
        named: dict[str, Any] = {
            "name": f"Zebulon {name}",
            "identifier": f"M-{name}",
            "gender": "F",
            "birth_year": 1990,
        }
        Patient.objects.filter(created_by=user).update(**named)
        patient = Patient.objects.get(pk=cast.ids["patient", name])
        Mapping.objects.create(created_by=user, patient=patient, doctor=doctor, role="GP")
    return cast


@pytest.fixture(params=["both walls", "the database's wall alone"])
def walls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param != "both walls":
        monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
        monkeypatch.setattr(SessionViewSet, "get_queryset", lambda view: LoginSession.objects.live())


def test_every_parameter_of_every_list_is_tried() -> None:
    for path, nameless in NAMELESS.items():
        described = {p["name"] for p in description()["paths"][path]["get"]["parameters"] if p["in"] == "query"}
        assert described == nameless.keys() | LISTS[path].keys(), path


@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("caller", ACTIVE_CALLERS)
def test_what_is_anothers_reads_like_what_is_not_there(cast: Cast, caller: str) -> None:
    before = table_hashes()
    for path, parameters in LISTS.items():
        for parameter, values in parameters.items():
            for other in {*ACTIVE_CALLERS.values()} - {ACTIVE_CALLERS[caller]}:
                theirs, nobodys = (
                    cast.clients[caller].get(path, {parameter: value, "count": "true"}) for value in values(cast, other)
                )
                assert without_request_id(theirs) == without_request_id(nobodys), (path, parameter)
                assert theirs.status_code == 400 or theirs.json() == [], (path, parameter)
    assert table_hashes() == before


@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("caller", ACTIVE_CALLERS)
def test_no_parameter_answers_a_row_of_anothers(cast: Cast, caller: str) -> None:
    user = cast.users[ACTIVE_CALLERS[caller]]
    for path, parameters in NAMELESS.items():
        for parameter, value in parameters.items():
            if not value:
                continue
            query = {parameter: value.format(doctor=cast.ids["doctor", "bob"])}
            answer = cast.clients[caller].get(path, query)
            assert answer.status_code == 200, (path, query, answer.content)
            rows = answer.json()
            assert {row["created_by"] for row in rows} <= {user.pk}, (path, query)
            assert rows or parameter in {"birth_date_after", "birth_date_before"}, (path, query)


@pytest.mark.parametrize("caller", ["anonymous", "inactive", "expired", "tampered", "revoked", "refresh token"])
def test_without_a_living_login_no_parameter_answers_anything(cast: Cast, caller: str) -> None:
    for path, parameters in NAMELESS.items():
        for parameter, value in parameters.items():
            assert cast.clients[caller].get(path, {parameter: value}).status_code == 401, (path, parameter)


def test_the_table_finds_a_leak(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """With both walls down ananother's patient answers: the tests above would fail."""
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    monkeypatch.setattr("accounts.authentication.AUTHENTICATE", AUTHENTICATE.replace("healthcare_api", "none"))
    answer = cast.clients["owner"].get("/api/patients/", {"gender": "F"})
    assert {row["created_by"] for row in answer.json()} == {user.pk for user in cast.users.values()}
