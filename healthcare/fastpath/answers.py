"""What a direct request answers, and how it looks: bytes that the plain way would have sent."""

from typing import NamedTuple

from django.http import HttpRequest

from healthcare.api.conditional_requests import entity_tag
from healthcare.api.problems import CONTENT_TYPE, problem_response

JSON, RETRY = ("Content-Type", "application/json"), ("Retry-After", "5")


class Answer(NamedTuple):
    """The status, the headers that are this answer's own, and the body."""

    status: int
    headers: list[tuple[str, str]]
    content: bytes


def record(status: int, text: str, allow: str) -> Answer:
    """One record, whose JSON is the text."""
    content = encoded(text)
    return Answer(status, [JSON, ("Allow", allow), ("ETag", entity_tag(content))], content)


def failure(request: HttpRequest, status: int, *headers: tuple[str, str]) -> Answer:
    """A problem (RFC 9457)."""
    return Answer(status, [("Content-Type", CONTENT_TYPE), *headers], problem_response(request, status).content)


def encoded(text: str) -> bytes:
    """In UTF-8, with the two separators escaped as DRF's renderer does."""
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").encode()
