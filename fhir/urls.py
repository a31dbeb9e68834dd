"""Paths of /fhir: https://hl7.org/fhir/R4/http.html. Each works with and without a slash at its end."""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, path, register_converter
from django.urls.converters import StringConverter

from fhir.bulk import BULK_FILES, BulkExportViewSet
from fhir.capability import CapabilityView
from fhir.everything import PatientEverythingViewSet
from fhir.match import PatientMatchViewSet
from fhir.read_only_views import AuditEventViewSet, CareTeamViewSet, ProvenanceViewSet
from fhir.transactions import BundleView
from fhir.views import PatientFhirViewSet, PractitionerFhirViewSet


class PositiveConverter:
    """A number without leading zeros, which a column of PostgreSQL can hold. R4's ids are texts: `07` is not `7`."""

    regex = "[1-9][0-9]{0,17}"

    def to_python(self, value: str) -> int:
        return int(value)

    def to_url(self, value: int) -> str:
        return str(value)


class IdConverter(StringConverter):
    """An id of R4 (https://hl7.org/fhir/R4/datatypes.html#id), of the types whose ids are no numbers."""

    regex = "[A-Za-z0-9.-]{1,64}"


register_converter(PositiveConverter, "positive")
register_converter(PositiveConverter, "version")
register_converter(IdConverter, "id")

VIEWSETS: list[Any] = [
    PatientFhirViewSet, PractitionerFhirViewSet, CareTeamViewSet, AuditEventViewSet, ProvenanceViewSet,
]  # fmt: skip
# The paths of a resource type below its name, and the action of each method, by the code of R4's interaction.
PATHS = {
    "": {"search-type": ("get", "list"), "create": ("post", "create")},
    "/_search": {"search-type": ("post", "search")},
    "/<{key}:pk>": {"read": ("get", "retrieve"), "update": ("put", "update"), "delete": ("delete", "destroy")},
    "/<{key}:pk>/_history": {"history-instance": ("get", "history")},
    "/<{key}:pk>/_history/<version:version>": {"vread": ("get", "vread")},
}

# The views of R4's operations, each with the action of its method.
OPERATIONS: dict[str, tuple[Any, dict[str, str]]] = {
    "Patient/$match": (PatientMatchViewSet, {"post": "match"}),
    "Patient/<positive:pk>/$everything": (PatientEverythingViewSet, {"get": "everything"}),
    "$export": (BulkExportViewSet, {"get": "kick_off"}),
}
# The status of an export, and its files.
BULK_PATHS: dict[str, tuple[Any, dict[str, str]]] = {
    "$export/<positive:pk>": (BulkExportViewSet, {"get": "status", "delete": "cancel"}),
    **{f"$export/<positive:pk>/{name}": (view, {"get": "download"}) for name, view in BULK_FILES.items()},
}


def with_and_without_slash(route: str, view: Any) -> list[URLPattern]:
    return [path(route, view), path(f"{route}/", view)]


def paths_of(viewset: Any) -> Iterator[URLPattern]:
    for template, actions in PATHS.items():
        route = template.format(key=getattr(viewset, "key_converter", "positive"))
        methods = dict(action for code, action in actions.items() if code in viewset.interactions)
        if methods:
            yield from with_and_without_slash(f"{viewset.resource_type}{route}", viewset.as_view(methods))


base = BundleView.as_view(
    {"post": "process"}, record_viewsets=[one for one in VIEWSETS if "update" in one.interactions]
)

urlpatterns = [
    path("", base),
    *with_and_without_slash(
        "metadata", CapabilityView.as_view(viewsets=VIEWSETS, operations=[view for view, _ in OPERATIONS.values()])
    ),
    *(pattern for viewset in VIEWSETS for pattern in paths_of(viewset)),
    *(
        pattern
        for route, (view, methods) in [*OPERATIONS.items(), *BULK_PATHS.items()]
        for pattern in with_and_without_slash(route, view.as_view(methods))
    ),
]
