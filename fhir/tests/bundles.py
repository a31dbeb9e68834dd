"""Bundles for tests: batches and transactions, and their answers."""

import json
from typing import Any

from rest_framework.test import APIClient

from fhir.tests.test_interactions import ASHA, send

BASE = "http://testserver/fhir"
URN = "urn:uuid:00000000-0000-4000-8000-00000000000"  # and one digit
FAUCI = {"resourceType": "Practitioner", "name": [{"text": "Dr. Anthony"}]}


def entry(method: str, url: str, resource: Any = None, full_url: str = "", **request: str) -> dict[str, Any]:
    """An entry of a Bundle. `request` are the other elements of its request, such as ifMatch."""
    found: dict[str, Any] = {"fullUrl": full_url} if full_url else {}
    if resource is not None:
        found["resource"] = resource
    return found | {"request": {"method": method, "url": url, **request}}


def changed(key: int, name: str = "Changed", kind: str = "Patient", **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": str(key), "name": [{"text": name}], **elements}


def linked(reference: str) -> dict[str, Any]:
    """A patient with a link to another resource."""
    return {**ASHA, "link": [{"other": {"reference": reference}, "type": "seealso"}]}


def bundle(kind: str, *entries: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind} | ({"entry": [*entries]} if entries else {})


def batch(client: APIClient, *entries: Any, **headers: str) -> Any:
    return send(client, "POST", "", bundle("batch", *entries), **headers)


def transaction(client: APIClient, *entries: Any, **headers: str) -> Any:
    return send(client, "POST", "", bundle("transaction", *entries), **headers)


def statuses(answer: Any) -> list[str]:
    """The status of each entry of the answer, whose own status is 200."""
    assert answer.status_code == 200, answer.content
    assert answer.resource["type"] in {"batch-response", "transaction-response"}
    return [one["response"]["status"] for one in answer.resource["entry"]]


def expressions(answer: Any) -> list[tuple[str, list[str]]]:
    assert answer.resource["resourceType"] == "OperationOutcome", answer.content
    return [(issue["code"], issue.get("expression", [])) for issue in answer.resource["issue"]]


def outcomes(answer: Any) -> list[Any]:
    """The code and the expressions of the first issue of each entry; None for an entry without one."""
    found = [one["response"].get("outcome") for one in answer.resource["entry"]]
    return [one and (one["issue"][0]["code"], one["issue"][0].get("expression", [])) for one in found]


def body_of(answer: Any) -> Any:
    return json.loads(answer.content.decode().replace(answer.headers["X-Request-Id"], "<request id>"))
