"""The query parameters of every list of owned records: none of them answers another user's record, or tells of it.

The apps declare the lists and a value for every parameter: see `healthcare.tests.declarations.ListParameters`.
"""

from collections.abc import Callable

import pytest
from pytest_django import Settings

from accounts.authentication import AUTHENTICATE
from accounts.models import LoginSession, User
from accounts.views import SessionViewSet
from healthcare.ownership import OwnedQuerySet
from healthcare.tests.cast import Cast
from healthcare.tests.contract_matrix import table_hashes, without_request_id
from healthcare.tests.declarations import (
    ACTIVE_CALLERS,
    REJECTED_CALLERS,
    ListParameters,
    all_lists,
    all_operations,
    all_rows,
    contracts,
)
from healthcare.tests.openapi import operations, parameters

PAGING = {"limit", "cursor", "count"}
UNTRIED = {"as_of", "cursor"}  # no value is known before the list was read


@pytest.fixture
def cast(make_user: Callable[..., User]) -> Cast:
    """Each user's records say whose they are."""
    cast = Cast.build(make_user)
    for contract in contracts().values():
        if contract.prepare_lists:
            contract.prepare_lists(cast)
    return cast


@pytest.fixture(params=["scopes and row-level security", "row-level security alone"])
def protection(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    if request.param == "row-level security alone":
        settings.FAST_PATH = "off"  # it compiles scopes once; `healthcare/fastpath/tests` remove its scopes
        monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
        monkeypatch.setattr(SessionViewSet, "get_queryset", lambda view: LoginSession.objects.live())


def query_values(cast: Cast, lists: ListParameters) -> list[tuple[str, str]]:
    """The parameters that name nobody, each with its value."""
    return [(name, value if isinstance(value, str) else value(cast)) for name, value in lists.narrowing.items()]


def test_every_parameter_of_every_list_of_owned_records_is_tried() -> None:
    private = {f"/{row.route}" for row in all_rows() if row.access == "PRIVATE" and "<" not in row.route}
    described = {
        path: parameters(operation, "query")
        for method, path, operation in operations()
        if method == "GET" and path in private and all_operations()[operation["operationId"]].paged
    }
    tried = {path: lists.naming.keys() | lists.narrowing.keys() for path, lists in all_lists().items()}
    assert tried == {path: names - UNTRIED for path, names in described.items() if names - PAGING}


@pytest.mark.usefixtures("protection")
@pytest.mark.parametrize("caller", ACTIVE_CALLERS)
def test_a_value_that_names_anothers_record_answers_like_one_that_names_nothing(cast: Cast, caller: str) -> None:
    before = table_hashes()
    for path, lists in all_lists().items():
        for parameter, values in lists.naming.items():
            for other in {*ACTIVE_CALLERS.values()} - {ACTIVE_CALLERS[caller]}:
                anothers, nobodys = (
                    cast.clients[caller].get(path, {parameter: value, "count": "true"}) for value in values(cast, other)
                )
                assert without_request_id(anothers) == without_request_id(nobodys), (path, parameter)
                assert anothers.status_code == 400 or anothers.json() == [], (path, parameter)
    assert table_hashes() == before


@pytest.mark.usefixtures("protection")
@pytest.mark.parametrize("caller", ACTIVE_CALLERS)
def test_no_parameter_answers_a_record_of_anothers(cast: Cast, caller: str) -> None:
    user = cast.users[ACTIVE_CALLERS[caller]]
    for path, lists in all_lists().items():
        for parameter, value in query_values(cast, lists):
            answer = cast.clients[caller].get(path, {parameter: value})
            assert answer.status_code == 200, (path, parameter, answer.content)
            assert {lists.owner(record) for record in answer.json()} == {user.pk}, (path, parameter)


@pytest.mark.parametrize("caller", ["anonymous", *REJECTED_CALLERS])
def test_without_a_valid_login_no_parameter_answers_anything(cast: Cast, caller: str) -> None:
    for path, lists in all_lists().items():
        for parameter, value in query_values(cast, lists):
            assert cast.clients[caller].get(path, {parameter: value}).status_code == 401, (path, parameter)


def test_without_scopes_and_row_level_security_the_leak_is_found(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    """The tests above would fail."""
    settings.FAST_PATH = "off"
    monkeypatch.setattr(OwnedQuerySet, "owned_by", lambda queryset, user: queryset)
    monkeypatch.setattr("accounts.authentication.AUTHENTICATE", AUTHENTICATE.replace("healthcare_api", "none"))
    answer = cast.clients["owner"].get("/api/patients/", {"gender": "F"})
    assert {record["created_by"] for record in answer.json()} == {user.pk for user in cast.users.values()}
