"""The OpenAPI description, operation by operation."""

from collections.abc import Iterator
from typing import Any

from healthcare.api.schema_view import description

Operation = dict[str, Any]


def operations() -> Iterator[tuple[str, str, Operation]]:
    for path, item in description()["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def by_name() -> dict[str, Operation]:
    return {operation["operationId"]: operation for _, _, operation in operations()}


def parameters(operation: Operation, place: str) -> set[str]:
    return {parameter["name"] for parameter in operation.get("parameters", []) if parameter["in"] == place}


def resolved(reference: dict[str, str]) -> dict[str, Any]:
    _, components, kind, name = reference["$ref"].split("/")
    found: dict[str, Any] = description()[components][kind][name]
    return found
