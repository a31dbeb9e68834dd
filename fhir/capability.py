"""GET /fhir/metadata: what this server does (https://hl7.org/fhir/R4/capabilitystatement.html)."""

from collections.abc import Iterator, Sequence
from typing import Any

from django.conf import settings
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from fhir.operations import OF_SYSTEM
from fhir.outcomes import FHIR_JSON
from fhir.requests import FhirView

FHIR_VERSION = "4.0.1"
INSTANTIATES = ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"]
RELEASED = "2026-11-27"  # when what the statement says changed last


class CapabilityView(FhirView):
    """Built from what the viewsets declare: `resource_type`, `interactions`, and `search_parameters`; and from the
    `operation` and the `resource_type` of the views of operations."""

    authentication_classes = []
    permission_classes = [AllowAny]
    viewsets: Sequence[Any] = ()
    operations: Sequence[Any] = ()

    def get(self, request: Request) -> Response:
        return self.answer(self.statement())

    def statement(self) -> dict[str, Any]:
        return {
            "resourceType": "CapabilityStatement",
            "status": "active",
            "date": RELEASED,
            "kind": "instance",
            "instantiates": [*INSTANTIATES],
            "software": {"name": "Healthcare API", "version": settings.VERSION},
            "implementation": {"description": "Patients, practitioners and who treats whom", "url": self.base},
            "fhirVersion": FHIR_VERSION,
            "format": [FHIR_JSON, "json"],
            "rest": [
                {
                    "mode": "server",
                    "security": {
                        "cors": bool(settings.CORS_ALLOWED_ORIGINS),
                        "description": "Log in at /api/auth/login/, and send the `access` token, or a personal access "
                        "token, as `Authorization: Bearer <token>`. Practitioner can be read without one.",
                    },
                    "resource": [self.resource(viewset) for viewset in self.viewsets],
                    "interaction": [{"code": "transaction"}, {"code": "batch"}],
                    **self.operations_of(OF_SYSTEM),
                }
            ],
        }

    def resource(self, viewset: Any) -> dict[str, Any]:
        interactions = viewset.interactions
        versioned = "vread" in interactions
        writes = "update" in interactions
        searches = "search-type" in interactions
        return {
            "type": viewset.resource_type,
            "interaction": [{"code": code} for code in interactions],
            "versioning": "versioned-update" if versioned and writes else "versioned" if versioned else "no-version",
            "readHistory": versioned,
            "updateCreate": False,
            "conditionalCreate": "create" in interactions,
            "conditionalRead": "not-match" if versioned else "not-supported",
            "conditionalUpdate": False,
            "conditionalDelete": "not-supported",
            **({"searchInclude": sorted(viewset.search_inclusions)} if searches and viewset.search_inclusions else {}),
            **({"searchParam": [*search_parameters(viewset)]} if searches else {}),
            **self.operations_of(viewset.resource_type),
        }

    def operations_of(self, resource_type: str) -> dict[str, Any]:
        operations = [view.operation for view in self.operations if view.resource_type == resource_type]
        listed = [{"name": one.name, "definition": one.definition} for one in operations]
        return {"operation": listed} if listed else {}  # R4 has no empty arrays


def search_parameters(viewset: Any) -> Iterator[dict[str, str]]:
    for name, parameter in viewset.search_parameters.items():
        documentation = {"documentation": parameter.documentation} if parameter.documentation else {}
        yield {"name": name, "type": parameter.type, **documentation}
