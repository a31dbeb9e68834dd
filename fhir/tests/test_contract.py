"""What holds on every path of /fhir."""

import re
from typing import Any

import pytest
from django.urls import get_resolver

from accounts.authentication import SessionJWTAuthentication
from accounts.models import User
from conftest import LoggedInClient
from fhir.tests.contract import CONTRACT
from fhir.tests.test_interactions import FHIR, diagnostics, send
from healthcare.operations.routes import patterns_below
from healthcare.tests.contract_matrix import all_routes
from healthcare.tests.declarations import Row, all_rows

INTERACTIONS = [(row, method) for row in CONTRACT.rows for method in row.methods]


def test_every_path_works_with_and_without_a_slash() -> None:
    views = {
        route: pattern.callback for route, pattern in patterns_below(get_resolver(), "") if route.startswith("fhir")
    }
    bare = {route for route in views if not route.endswith("/")}
    assert {f"{route}/" for route in bare} == views.keys() - bare
    assert all(views[route] is views[f"{route}/"] for route in bare)
    assert bare == {row.route for row in CONTRACT.rows}


def test_every_path_but_the_statement_enters_the_database_as_its_caller() -> None:
    rows = {row.route: row for row in all_rows() if row.route.startswith("fhir")}
    for route, pattern in all_routes().items():
        if route.startswith("fhir"):
            view: Any = pattern.callback
            authenticates = SessionJWTAuthentication in view.cls.authentication_classes
            assert authenticates == (rows[route].access != "OPEN"), route


@pytest.mark.parametrize(("row", "method"), INTERACTIONS, ids=lambda value: getattr(value, "route", value))
def test_every_interaction_refuses_an_unknown_parameter(
    as_alice: LoggedInClient, alice: User, row: Row, method: str
) -> None:
    path = "/" + re.sub("<[^>]*>", "1", row.route).removeprefix("fhir").removeprefix("/")
    for name in ("gendre", "fields", "_nothing"):
        answer = send(as_alice, method, f"{path}?{name}=1", {})
        assert answer.status_code == 400, answer.content
        assert (f"http.{name}" in diagnostics(answer)[0][1], answer.headers["Content-Type"]) == (True, FHIR)
