"""Versions of resources as HTTP tells them (https://hl7.org/fhir/R4/http.html#versioning)."""

from typing import Any

from django.utils.http import http_date


def version_tag(version: int) -> str:
    return f'W/"{version}"'


def weak(tags: set[str]) -> set[str]:
    """Entity tags as R4 writes them; If-Match of a client may lack the W/."""
    return {tag if tag == "*" or tag.startswith("W/") else f"W/{tag}" for tag in tags}


def version_headers(row: Any) -> dict[str, str]:
    return {"ETag": version_tag(row.version), "Last-Modified": http_date(row.updated_at.timestamp())}
