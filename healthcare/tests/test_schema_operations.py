"""What the OpenAPI description says of every call: its name, what it takes, and how it answers."""

from healthcare.api.schema_view import description
from healthcare.tests.contract_matrix import ROWS
from healthcare.tests.openapi import Operation, by_name, is_list, operations, parameters, resolved

OPERATIONS = {
    "auth_register", "auth_login", "auth_refresh", "auth_logout", "auth_me", "auth_me_update", "auth_password",
    "auth_sessions_list", "auth_sessions_destroy",
    "patients_list", "patients_create", "patients_retrieve", "patients_update", "patients_partial_update",
    "patients_destroy", "patients_restore", "patients_doctors", "patients_history_list", "patients_access_log",
    "patients_duplicates", "patients_merge", "patients_unmerge",
    "doctors_list", "doctors_create", "doctors_retrieve", "doctors_update", "doctors_partial_update", "doctors_destroy",
    "doctors_restore", "doctors_history_list", "doctors_patients",
    "mappings_list", "mappings_create", "mappings_doctors", "mappings_partial_update", "mappings_destroy",
    "mappings_history_list",
}  # fmt: skip
OPEN = {"auth_register", "auth_login", "auth_refresh", "doctors_list", "doctors_retrieve"}
# POSTs that ignore an Idempotency-Key: tokens are never kept.
UNKEYED = {"auth_login", "auth_refresh"}
# Single records, whose state has a tag: those that are read, and those that are written.
READ = {"auth_me", "patients_retrieve", "doctors_retrieve"}
WRITTEN = {
    "auth_me_update", "mappings_partial_update", "mappings_destroy", "patients_merge", "patients_unmerge",
    *(f"{of}_{name}" for of in ("patients", "doctors") for name in ("update", "partial_update", "destroy", "restore")),
}  # fmt: skip
PAGED = {"limit", "cursor", "count"}
# What else a query may say.
THEN, ORDERED = {"as_of", "fields"}, {"as_of", "fields", "ordering"}
QUERY = {
    "patients_list": ORDERED | {
        "deleted", "search", "include", "doctor", "gender", "identifier", "age_min", "age_max",
        *(f"{moment}_{side}" for moment in ("birth_date", "created", "updated") for side in ("after", "before")),
    },
    "patients_create": {"on_duplicate"}, "patients_retrieve": THEN | {"include"},
    "patients_doctors": {"as_of", "active"}, "doctors_patients": {"as_of", "active"},
    "doctors_list": ORDERED | {"deleted", "search", "specialization", "hospital", "license_number"},
    "doctors_retrieve": THEN,
    "mappings_list": ORDERED | {"active", "patient", "doctor", "role"}, "mappings_doctors": {"as_of", "active"},
}  # fmt: skip


def is_keyed(operation: Operation) -> bool:
    return "Idempotency-Key" in parameters(operation, "header")


def is_tagged(name: str) -> bool:
    return name in READ | (WRITTEN - {"mappings_destroy"}) | {
        f"{of}_create" for of in ("patients", "doctors", "mappings")
    }


def test_it_describes_every_call_of_the_contract():
    described = {(method, path) for method, path, _ in operations()}
    contract = {
        (method, "/" + row.route.replace("<int:pk>", "{id}"))
        for row in ROWS
        if row.access != "PAGE"
        for method in row.methods
    }
    assert described == contract


def test_operations_keep_their_names():
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    assert set(names) == OPERATIONS


def test_what_is_open_asks_for_no_token():
    for name, operation in by_name().items():
        assert operation["security"] == ([] if name in OPEN else [{"Bearer": []}]), name
    assert description()["components"]["securitySchemes"]["Bearer"]["scheme"] == "bearer"


def test_bodies_are_json_alone():
    for name, operation in by_name().items():
        assert {*operation.get("requestBody", {}).get("content", {"application/json": {}})} == {"application/json"}, (
            name
        )
        for status, answer in operation["responses"].items():
            expected = set() if status in {"204", "304"} else {"application/json"}
            if status >= "400":
                expected = {"application/problem+json"}
            assert {*answer.get("content", {})} == expected, (name, status)


def test_every_error_is_the_one_problem():
    for name, operation in by_name().items():
        for status, answer in operation["responses"].items():
            if status >= "400":
                body = answer["content"]["application/problem+json"]
                assert body["schema"] == {"$ref": "#/components/schemas/Problem"}, (name, status)
                assert body["example"]["status"] == int(status)


def test_the_errors_of_an_operation_follow_from_what_it_takes():
    statuses = {name: {s for s in operation["responses"] if s >= "400"} for name, operation in by_name().items()}
    assert statuses["patients_list"] == {"400", "401", "503"}
    assert statuses["patients_create"] == {"400", "401", "409", "411", "413", "415", "422", "503"}
    assert statuses["patients_retrieve"] == {"400", "401", "404", "410", "412", "503"}
    assert statuses["patients_update"] == {"400", "401", "404", "410", "411", "412", "413", "415", "503"}
    assert statuses["doctors_destroy"] == {"400", "401", "404", "409", "412", "503"}
    assert statuses["auth_login"] == {"400", "401", "411", "413", "415", "429", "503"}
    assert statuses["auth_register"] == {"400", "409", "411", "413", "415", "422", "429", "503"}


def test_every_answer_names_its_headers():
    for name, operation in by_name().items():
        for status, answer in operation["responses"].items():
            expected = {"X-Request-Id"}
            expected |= {"Link", "X-Total-Count"} if status == "200" and is_list(name) else set()
            expected |= {"ETag"} if status < "400" and status != "204" and is_tagged(name) else set()
            expected |= {"Idempotency-Replayed"} if status < "300" and is_keyed(operation) else set()
            expected |= {"Link"} if status == "410" else set()
            expected |= {"Retry-After"} if status in {"429", "503"} else set()
            expected |= {"WWW-Authenticate"} if status == "401" else set()
            assert {*answer["headers"]} == expected, (name, status)
            assert all(resolved(header)["description"] for header in answer["headers"].values())


def test_a_list_is_a_bare_array_with_keyset_parameters():
    for name, operation in by_name().items():
        schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
        assert (schema.get("type") == "array") == (is_list(name) or name == "patients_duplicates"), name
        assert parameters(operation, "query") == (PAGED if is_list(name) else set()) | QUERY.get(name, set()), name


def test_the_headers_that_make_a_call_conditional_or_safe_to_repeat_are_described():
    for method, _, operation in operations():
        name = operation["operationId"]
        expected = {"If-Match"} if name in READ | WRITTEN else set()
        expected |= {"If-None-Match"} if name in READ else set()
        expected |= {"Idempotency-Key"} if method == "POST" and name not in UNKEYED else set()
        expected |= {"Prefer"} if method in {"POST", "PUT", "PATCH"} else set()
        assert parameters(operation, "header") == expected, name
        assert ("304" in operation["responses"]) == (name in READ), name


def test_both_ways_to_a_patients_doctors_name_each_other():
    doctors, twin = by_name()["mappings_doctors"], by_name()["patients_doctors"]
    assert "/api/patients/{id}/doctors/" in doctors["description"]
    assert "/api/mappings/{id}/" in twin["description"]
    whose = next(p for p in by_name()["mappings_partial_update"]["parameters"] if p["in"] == "path")
    assert whose["description"] == "The id of an assignment."
    whose = next(parameter for parameter in doctors["parameters"] if parameter["in"] == "path")
    assert whose["description"] == "The id of a patient of yours."
