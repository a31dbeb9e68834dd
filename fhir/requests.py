"""What every view of /fhir does with a request: content types, parameters, preferences, errors."""

from collections.abc import Callable, Set
from typing import Any, ClassVar

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from fhir.entries import EntryAuthentication, EntryRequest
from fhir.exceptions import Invalid, exception_handler
from fhir.issues import Issue
from fhir.json import encode
from fhir.outcomes import outcome
from fhir.rendering import ANSWER_FORMAT, PARSERS, FhirNegotiation, FhirRenderer, written
from healthcare.api.exceptions import LimitedErrors
from healthcare.api.preferences import read_preferences
from healthcare.api.unknown_parameters import printable_parameter, suggest
from healthcare.coverage import covered_by_fast_path

EVERYWHERE = frozenset({ANSWER_FORMAT, "_pretty"})  # parameters of every interaction
RETURN = ("representation", "minimal", "operationoutcome")  # of `Prefer: return=`, the default first


def base_url(request: HttpRequest | Request) -> str:
    """[base] of R4: the URL below which the resources are."""
    return f"{request.scheme}://{request.get_host()}/fhir"


@covered_by_fast_path
class FhirView(APIView):
    """A view of /fhir. `parameters` are the query parameters of its actions, by action, besides EVERYWHERE."""

    schema: Any = None  # the CapabilityStatement describes /fhir, and the OpenAPI description does not
    renderer_classes = [FhirRenderer]
    parser_classes = PARSERS
    content_negotiation_class = FhirNegotiation
    parameters: ClassVar[dict[str, Set[str]]] = {}

    def get_authenticators(self) -> list[BaseAuthentication]:
        return [EntryAuthentication()] if isinstance(self.request, EntryRequest) else super().get_authenticators()

    def get_exception_handler(self) -> Callable[..., Any]:
        return exception_handler

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        action = getattr(self, "action", None)
        self.preferences = read_preferences(request.META)
        if request.method in self.allowed_methods:  # otherwise the answer is 405, whatever the parameters are
            self.check_query(request, self.parameters.get(action or "", frozenset()) | EVERYWHERE)

    def check_query(self, request: Request, known: Set[str]) -> None:
        """Raises ValidationError (400) for unknown query parameters; a search overrides it."""
        unknown = sorted(request.query_params.keys() - known)
        if unknown:
            found = unknown[: LimitedErrors.LIMIT]
            problem = "This interaction has no such parameter"
            raise LimitedErrors(
                {printable_parameter(name): suggest(name, known, problem, "remove it") for name in found}, len(unknown)
            )

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """The methods of the path are in `Allow`; DRF's description of a view is no resource."""
        return Response(None)

    @property
    def base(self) -> str:
        return base_url(self.request)

    def answer(self, resource: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
        return Response(encode(resource), status, headers=headers)

    def answer_not_modified(self, resource: dict[str, Any], headers: dict[str, str]) -> Response:
        """304, with the length that the answer with the resource has (RFC 9110 section 8.6)."""
        length = len(written(encode(resource), self.request))
        return Response(None, 304, headers=headers | {"Content-Length": str(length)})

    def answer_write(self, resource: Callable[[], dict[str, Any]], status: int, headers: dict[str, str]) -> Response:
        """The answer to a create or an update, as `Prefer: return=` wants it (https://hl7.org/fhir/R4/http.html#ops)."""
        wanted = self.preferences.get("return", "")
        if wanted and wanted not in RETURN:
            raise Invalid(Issue("invalid", f"Write `Prefer: return=` with one of: {', '.join(RETURN)}.", "http.Prefer"))
        if wanted:
            name = "OperationOutcome" if wanted == "operationoutcome" else wanted
            headers = headers | {"Preference-Applied": f"return={name}"}
        if wanted == "minimal":
            return Response(None, status, headers=headers)
        if wanted == "operationoutcome":
            written = outcome([Issue("informational", "The resource has been stored.")], severity="information")
            return Response(encode(written), status, headers=headers)
        return Response(encode(resource()), status, headers=headers)
