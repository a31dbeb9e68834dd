"""The OpenAPI description of every call is what its app declares: its name, what it takes, and how it answers."""

from healthcare.api.schema_view import description
from healthcare.tests.declarations import all_operations, described_rows
from healthcare.tests.openapi import by_name, operations, parameters, resolved

PAGING = {"limit", "cursor", "count"}
BINARY = {"type": "string", "format": "binary"}
SENT_BY_EMAIL = {"auth_password_reset", "auth_email_verify", "auth_email"}  # what is accepted comes by e-mail


def acting_operations() -> set[str]:
    """The operations that can act for another owner."""
    acting = {"/" + row.route.replace("<int:pk>", "{id}") for row in described_rows() if row.roles}
    return {operation["operationId"] for _, path, operation in operations() if path in acting}


def test_the_description_has_every_call_of_the_contract():
    described = {(method, path) for method, path, _ in operations()}
    contract = {
        (method, "/" + row.route.replace("<int:pk>", "{id}"))
        for row in described_rows()
        if row.access != "PAGE"
        for method in row.methods
    }
    assert described == contract


def test_operations_have_the_names_that_their_apps_declare():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert set(names) == set(all_operations())


def test_a_public_operation_requires_no_token():
    for name, operation in by_name().items():
        assert operation["security"] == ([] if all_operations()[name].public else [{"Bearer": []}]), name
    assert description()["components"]["securitySchemes"]["Bearer"]["scheme"] == "bearer"


def test_every_body_is_json_but_for_files():
    for name, operation in by_name().items():
        bodies = {"text/csv", "application/x-ndjson"} if name.endswith("_import") else {"application/json"}
        assert {*operation.get("requestBody", {}).get("content", bodies)} == bodies, name
        for status, answer in operation["responses"].items():
            is_empty = status in {"204", "304"} or (name in SENT_BY_EMAIL and status == "202")
            expected: set[str] = set() if is_empty else {*all_operations()[name].answers}
            if status >= "400":
                expected = {"application/problem+json"}
            assert {*answer.get("content", {})} == expected, (name, status)


def test_every_error_refers_to_the_shared_problem():
    for name, operation in by_name().items():
        for status, answer in operation["responses"].items():
            if status >= "400":
                body = answer["content"]["application/problem+json"]
                assert body["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)
                assert body["example"]["status"] == int(status)


def test_the_errors_of_an_operation_follow_from_what_it_takes():
    statuses = {name: {s for s in operation["responses"] if s >= "400"} for name, operation in by_name().items()}
    assert all(answered >= {"429", "503"} for answered in statuses.values())
    statuses = {name: answered - {"429", "503"} for name, answered in statuses.items()}
    assert statuses["patients_list"] == {"400", "401", "403"}
    assert statuses["patients_create"] == {"400", "401", "403", "404", "409", "410", "411", "413", "415", "422"}
    assert statuses["patients_retrieve"] == {"400", "401", "403", "404", "410", "412"}
    assert statuses["patients_update"] == {"400", "401", "403", "404", "410", "411", "412", "413", "415"}
    assert statuses["doctors_destroy"] == {"400", "401", "404", "409", "412"}
    assert statuses["auth_login"] == {"400", "401", "403", "411", "413", "415"}
    assert statuses["auth_register"] == {"400", "403", "409", "410", "411", "413", "415", "422"}


def test_every_answer_names_its_headers():
    for name, operation in by_name().items():
        declared, keyed = all_operations()[name], "Idempotency-Key" in parameters(operation, "header")
        for status, answer in operation["responses"].items():
            expected = {"X-Request-Id"}
            expected |= {"Link", "X-Total-Count"} if status == "200" and declared.paged else set()
            expected |= {"ETag"} if status < "400" and declared.etag else set()
            expected |= {"X-Acting-For"} if name in acting_operations() and status not in {"401", "429"} else set()
            expected |= {"Location"} if status == "201" else set()
            expected |= {"Idempotency-Replayed"} if status < "300" and keyed else set()
            expected |= {"Link"} if status == "410" else set()
            expected |= {"Retry-After"} if status in {"429", "503"} else set()
            expected |= {"RateLimit", "RateLimit-Policy"} if status == "429" else set()
            expected |= {"WWW-Authenticate"} if status == "401" else set()
            assert {*answer["headers"]} == expected, (name, status)
            assert all(resolved(header)["description"] for header in answer["headers"].values())


UNPAGED_LISTS = {"patients_audience", "patients_duplicates"}


def test_a_list_is_a_bare_array_with_keyset_parameters():
    for name, operation in by_name().items():
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        declared = all_operations()[name]
        assert (schema.get("type") == "array") == (declared.paged or name in UNPAGED_LISTS), name
        assert parameters(operation, "query") == (PAGING if declared.paged else set()) | declared.query, name


def test_preconditions_and_idempotency_keys_are_described():
    for method, _, operation in operations():
        name = operation["operationId"]
        declared = all_operations()[name]
        expected = set(declared.preconditions)
        expected |= {"Idempotency-Key"} if method == "POST" and declared.idempotency_key else set()
        expected |= {"X-Acting-For"} if name in acting_operations() else set()
        expected |= {"Content-Encoding"} if name.endswith("_import") else set()
        expected |= {"Prefer"} if method in {"POST", "PUT", "PATCH"} or "requestBody" in operation else set()
        assert parameters(operation, "header") == expected, name
        assert ("304" in operation["responses"]) == ("If-None-Match" in declared.preconditions), name


def test_files_are_binary_and_a_file_is_required():
    for name, operation in by_name().items():
        if name.endswith("_import"):
            body = operation["requestBody"]
            assert body["required"], name
            assert all(one["schema"] == BINARY for one in body["content"].values()), name
        for media_type, one in operation["responses"].get("200", {}).get("content", {}).items():
            assert (one["schema"] == BINARY) == (media_type != "application/json"), name


def test_a_problem_describes_the_results_of_an_import_that_a_record_has_stopped():
    described, answer = (description()["components"]["schemas"][name] for name in ("Problem", "ImportAnswer"))
    for name in ("results", "summary"):
        assert described["properties"][name] == answer["properties"][name]
        assert name not in described["required"]


def test_the_two_paths_to_a_patients_doctors_name_each_other():
    doctors, same_doctors = by_name()["mappings_doctors"], by_name()["patients_doctors"]
    assert "/api/patients/{id}/doctors/" in doctors["description"]
    assert "/api/mappings/{id}/" in same_doctors["description"]
    whose = next(p for p in by_name()["mappings_partial_update"]["parameters"] if p["in"] == "path")
    assert whose["description"] == "The id of an assignment."
    whose = next(parameter for parameter in doctors["parameters"] if parameter["in"] == "path")
    assert whose["description"] == "The id of a patient of yours."
