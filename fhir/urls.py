"""Paths of /fhir: https://hl7.org/fhir/R4/http.html. Each works with and without a slash at its end."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, re_path

from fhir.capability import CapabilityView
from fhir.views import PatientFhirViewSet, PractitionerFhirViewSet

KEY = r"(?P<pk>[1-9][0-9]{0,17})"  # ids of records; any other id is of no resource
VERSION = r"(?P<version>[1-9][0-9]{0,8})"
VIEWSETS: list[Any] = [PatientFhirViewSet, PractitionerFhirViewSet]
# The paths of a resource type below its name, and the action of each method, by the code of R4's interaction.
PATHS = {
    "": {"search-type": ("get", "list"), "create": ("post", "create")},
    f"/{KEY}": {"read": ("get", "retrieve"), "update": ("put", "update"), "delete": ("delete", "destroy")},
    f"/{KEY}/_history": {"history-instance": ("get", "history")},
    f"/{KEY}/_history/{VERSION}": {"vread": ("get", "vread")},
}


def paths_of(viewset: Any) -> Iterator[URLPattern]:
    for path, actions in PATHS.items():
        methods = dict(action for code, action in actions.items() if code in viewset.interactions)
        if methods:
            yield re_path(rf"^{viewset.resource_type}{path}/?$", viewset.as_view(methods))


urlpatterns = [
    re_path(r"^metadata/?$", CapabilityView.as_view(viewsets=VIEWSETS)),
    *(pattern for viewset in VIEWSETS for pattern in paths_of(viewset)),
]
