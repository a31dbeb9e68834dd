"""Bundles of several resources: https://hl7.org/fhir/R4/bundle.html."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from rest_framework.exceptions import ValidationError

from fhir.elements import instant
from healthcare.api.cursors import Keyset

DEFAULT_COUNT, MAXIMUM_COUNT = 20, 500
CURSOR_PARAMETER = "_cursor"  # of `next` links: R4 leaves the parameters of paging to the server


def read_count(parameters: Mapping[str, str]) -> int:
    """`_count`; above 500 it is capped, as R4 allows (https://hl7.org/fhir/R4/search.html#count)."""
    text = parameters.get("_count")
    if text is None:
        return DEFAULT_COUNT
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValidationError({"_count": ["Write a whole number from 0 on."]})
    return min(int(text), MAXIMUM_COUNT)


def page(rows: Keyset, parameters: Mapping[str, str]) -> tuple[list[Any], str | None]:
    """The rows of the page that `_count` and `_cursor` ask for, and the cursor of the next page."""
    count = read_count(parameters)
    try:
        cursor = rows.read(parameters.get(CURSOR_PARAMETER))
    except ValidationError as error:
        raise ValidationError({CURSOR_PARAMETER: ["Use a link of this Bundle, unchanged."]}) from error
    found = rows.fetch(cursor, count + 1) if count else []
    following = rows.cursor(found[count - 1], back=False).text() if len(found) > count else None
    return found[:count], following


def parameters_of_page(parameters: Mapping[str, str]) -> dict[str, str]:
    """Those that `page` reads, for the `self` link."""
    return {name: text for name, text in parameters.items() if name in {"_count", CURSOR_PARAMETER}}


def bundle(
    kind: str,
    url: str,
    entries: Sequence[dict[str, Any]],
    *,
    used: Mapping[str, str | Sequence[str]],
    total: int | None = None,
    following: str | None = None,
) -> dict[str, Any]:
    """A Bundle of this type. `used` are the parameters that selected its entries, which its `self` link repeats."""
    links = [{"relation": "self", "url": link(url, used)}]
    if following:
        links.append({"relation": "next", "url": link(url, {**used, CURSOR_PARAMETER: following})})
    body: dict[str, Any] = {"resourceType": "Bundle", "type": kind}
    if total is not None:
        body["total"] = total
    return body | {"link": links} | ({"entry": [*entries]} if entries else {})  # R4 has no empty arrays


def link(url: str, parameters: Mapping[str, str | Sequence[str]]) -> str:
    query = urlencode(parameters, doseq=True)
    return f"{url}?{query}" if query else url


def history_entry(url: str, resource: dict[str, Any] | None, method: str, version: int, at: datetime.datetime) -> Any:
    """A version of a resource at `url`; a deletion has no resource (https://hl7.org/fhir/R4/http.html#history)."""
    statuses = {"POST": "201", "PUT": "200", "DELETE": "204"}
    path = url.split("/fhir/", 1)[1]
    return {
        "fullUrl": url,
        **({} if resource is None else {"resource": resource}),
        "request": {"method": method, "url": path.rsplit("/", 1)[0] if method == "POST" else path},
        "response": {"status": statuses[method], "etag": f'W/"{version}"', "lastModified": instant(at)},
    }
