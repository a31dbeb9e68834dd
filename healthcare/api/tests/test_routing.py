"""One path whose methods several viewsets answer."""

import pytest

from accounts.models import User
from conftest import LoggedInClient
from doctors.tests.factories import make_doctor
from healthcare.api.routing import as_view_by_method
from mappings.tests.factories import make_mapping
from mappings.views import MappingDoctorsViewSet, MappingViewSet
from patients.tests.factories import make_patient

ALLOWED = "GET, HEAD, OPTIONS, PATCH, DELETE"


@pytest.mark.parametrize(
    ("method", "key", "status"),
    [("GET", 11, 200), ("HEAD", 11, 200), ("GET", 13, 404), ("PATCH", 13, 200), ("PATCH", 11, 404), ("DELETE", 13, 204),
     ("OPTIONS", 13, 200), ("PUT", 13, 405), ("POST", 13, 405), ("TRACE", 13, 405)],
)  # fmt: skip
def test_each_method_reaches_its_viewset_and_every_answer_allows_the_methods_of_all(
    as_alice: LoggedInClient, alice: User, method: str, key: int, status: int
):
    make_mapping(make_patient(alice, id=11), make_doctor(alice, id=12), id=13)
    answer = as_alice.generic(method, f"/api/mappings/{key}/", "{}", "application/json")
    assert (answer.status_code, answer["Allow"]) == (status, ALLOWED)


def test_two_viewsets_for_one_method_are_refused():
    with pytest.raises(ValueError, match="get"):
        as_view_by_method((MappingViewSet, {"get": "history"}), (MappingDoctorsViewSet, {"get": "list"}))
