"""The templates of the routes are those of the OpenAPI description, and finite."""

import pytest
from django.test import RequestFactory
from django.urls import resolve

from healthcare.api.schema_view import description
from healthcare.operations.routes import all_routes, find_route


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/doctors/", "/api/doctors/"),
        ("/api/doctors/17/", "/api/doctors/{id}/"),
        ("/api/patients/17/access-log/", "/api/patients/{id}/access-log/"),
        ("/api/doctors/17", "other"),
        ("/fhir/Patient/17", "/fhir/Patient/{id}"),
        ("/fhir/Patient/17/", "/fhir/Patient/{id}"),
        ("/api/nothing/", "other"),
        ("/", "/"),
        ("/healthz", "/healthz"),
        ("/admin/", "/admin/"),
        ("/admin/patients/", "/admin/{app_label}/"),
        ("/admin/patients/patient/17/change/", "/admin/patients/patient/{object_id}/change/"),
        ("/admin/nothing/", "other"),
        ("/static/healthcare/icon.svg", "other"),
    ],
)
def test_a_path_has_the_route_of_its_pattern(path: str, route: str):
    request = RequestFactory().get(path)
    assert find_route(request) == route  # refused before the view is looked up
    if route != "other":
        request = RequestFactory().get(path)
        request.resolver_match = resolve(path)
        assert find_route(request) == route
    assert route in all_routes()


def test_every_path_of_the_openapi_description_is_a_route():
    assert set(description()["paths"]) <= set(all_routes())


def test_the_routes_are_few_and_hold_no_pattern():
    routes = all_routes()
    assert len(routes) < 240
    assert not [route for route in routes if set(route) & set("<>^$*()?\\")]
