"""OperationOutcome (https://hl7.org/fhir/R4/operationoutcome.html): how /fhir writes errors."""

from collections.abc import Iterable
from typing import Any

from fhir.issues import Issue
from fhir.json import encode
from healthcare.api.problems import DETAILS, ErrorFormat

FHIR_JSON = "application/fhir+json"
PROBLEM_CODES = "urn:healthcare:problem-code"  # the system of the codes that problems of the API have
# https://hl7.org/fhir/R4/valueset-issue-type.html, by status.
CODES_OF_STATUS = {
    400: "invalid", 401: "login", 403: "forbidden", 404: "not-found", 405: "not-supported", 406: "not-supported",
    408: "timeout", 409: "conflict", 410: "deleted", 411: "required", 412: "conflict", 413: "too-long",
    415: "not-supported", 422: "processing", 429: "throttled", 500: "exception", 503: "transient",
}  # fmt: skip
# The same, by the code of an error in a problem.
CODES_OF_ERRORS = {
    "required": "required", "blank": "required", "null": "required", "unique": "duplicate", "max_length": "too-long",
    "contradiction": "business-rule", "does_not_exist": "not-found", "unknown": "not-supported",
}  # fmt: skip
DETAILS_OF_STATUS = {
    406: "This server answers in JSON; ask for application/fhir+json, or leave `Accept` and `_format` out.",
    410: "This has been deleted; `_history` lists what it was.",
    415: "Send the resource as application/fhir+json.",
}


def outcome(
    issues: Iterable[Issue], *, severity: str = "error", request_id: str = "", code: str | None = None
) -> dict[str, Any]:
    """The resource. Its id is that of the request, which operators ask for. `code` is that of a problem of the API."""
    body: dict[str, Any] = {"resourceType": "OperationOutcome"}
    if request_id:
        body["id"] = request_id
    return body | {"issue": [issue_as_json(issue, severity, code) for issue in issues]}


def issue_as_json(issue: Issue, severity: str, code: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {"severity": severity, "code": issue.code}
    if code:
        entry["details"] = {"coding": [{"system": PROBLEM_CODES, "code": code}]}
    entry["diagnostics"] = issue.diagnostics
    if issue.expression.startswith("http."):
        entry["location"] = [issue.expression]  # R4: for a parameter of the request, "http." and its name
    if issue.expression:
        entry["expression"] = [issue.expression]
    return entry


def issues_of_problem(problem: dict[str, Any]) -> list[Issue]:
    """The issues that a problem of the API (RFC 9457) tells. Its pointers are names of query parameters and headers."""
    status = problem["status"]
    code = CODES_OF_STATUS.get(status, "processing")
    errors = problem.get("errors")
    if errors:
        return [
            Issue(CODES_OF_ERRORS.get(error["code"], code), error["detail"], expression_of_parameter(error["pointer"]))
            for error in errors
        ]
    detail = problem["detail"]
    return [Issue(code, DETAILS_OF_STATUS.get(status, detail) if detail == DETAILS.get(status) else detail)]


def expression_of_parameter(pointer: str) -> str:
    name = pointer.removeprefix("/").replace("~1", "/").replace("~0", "~")
    return f"http.{name}" if name else ""


def outcome_of_problem(problem: dict[str, Any]) -> dict[str, Any]:
    return outcome(issues_of_problem(problem), request_id=problem["request_id"], code=problem.get("code"))


def render_problem(problem: dict[str, Any]) -> str:
    return encode(outcome_of_problem(problem))


ERROR_FORMAT = ErrorFormat("/fhir/", FHIR_JSON, render_problem)
