"""Errors of /fhir, and the handler that answers every error by an OperationOutcome."""

from collections.abc import Sequence
from typing import Any

from rest_framework.exceptions import APIException
from rest_framework.response import Response

from fhir.issues import Issue
from fhir.json import encode
from fhir.outcomes import FHIR_JSON, outcome, outcome_of_problem
from healthcare.api.errors import exception_handler as handle_as_problem
from healthcare.api.idempotency import AnsweredBefore


class Invalid(APIException):
    """The resource or the request is not valid: 400, or 422 where it is valid and breaks a rule of this server."""

    status_code = 400

    def __init__(self, *issues: Issue, status: int = 400) -> None:
        super().__init__(issues[0].diagnostics)
        self.issues: Sequence[Issue] = issues
        self.status_code = status


class EntryFailed(APIException):
    """An entry of a transaction was answered with an error, whose OperationOutcome is the answer to the whole."""

    def __init__(self, body: dict[str, Any], status: int) -> None:
        super().__init__()
        self.body = body
        self.status_code = status


class ResourceDeleted(APIException):
    """410, as R4 asks for a read of what has been deleted (https://hl7.org/fhir/R4/http.html#read)."""

    status_code = 410


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """The answer for an exception of a view. None for an unexpected exception: `RequestMiddleware` answers 500."""
    response = handle_as_problem(exc, context)
    if response is None or isinstance(exc, AnsweredBefore):
        return response
    if isinstance(exc, Invalid):
        body = outcome(exc.issues, request_id=response.data["request_id"])
    elif isinstance(exc, EntryFailed):
        body = exc.body
    else:
        body = outcome_of_problem(response.data)
    response.data, response.content_type = encode(body), FHIR_JSON
    return response
