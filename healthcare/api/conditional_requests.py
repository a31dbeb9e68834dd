"""Conditional requests (RFC 9110 section 13): ETag, If-Match and If-None-Match of one record."""

import hashlib
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.db.models import Model
from django.http import Http404
from rest_framework.exceptions import APIException, ParseError
from rest_framework.generics import GenericAPIView
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.serializer_helpers import ReturnDict

from healthcare.api.exceptions import PreconditionFailed
from healthcare.ownership import Record

TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
ENTITY_TAG_DIGITS = 32
# What proxies make of our tag when they compress the answer: W/ before it (nginx, Varnish, Cloudflare), or the coding
# after it, as in -gzip (Apache, Caddy), --gzip (Jetty) and ;gzip.
REWRITTEN_TAG = re.compile(
    rf'(?:W/)?("[0-9a-f]{{{ENTITY_TAG_DIGITS}}})(?:[-;:.+_]{{1,2}}(?:x-gzip|gzip|gz|brotli|br|zstd|deflate|compress))*"',
    re.IGNORECASE,
)
TAGS = re.compile(rf"[ \t,]*{TAG}(?:[ \t]*,[ \t,]*{TAG})*[ \t,]*")


def entity_tag(content: bytes) -> str:
    """The strong ETag of one record in JSON. It is a keyed hash, so that it reveals nothing about the content.

    It depends on the content rather than the version, because a derived field such as an age changes without an update.
    """
    inner, outer = (state.copy() for state in entity_tag_states(settings.SECRET_KEY))
    inner.update(content)
    outer.update(inner.digest())
    return f'"{outer.hexdigest()[:ENTITY_TAG_DIGITS]}"'


@lru_cache(maxsize=8)
def entity_tag_states(secret: str) -> tuple[Any, Any]:
    """The states of SHA-256 after the padded keys. A copy of them costs half of what `hmac.digest` does."""
    inner, outer = entity_tag_padded_keys(secret)
    return hashlib.sha256(inner), hashlib.sha256(outer)


def entity_tag_padded_keys(secret: str) -> tuple[bytes, bytes]:
    """The inner and the outer padded key of the HMAC-SHA256 of entity tags (RFC 2104), 64 bytes each.

    The key is derived from SECRET_KEY for this purpose alone.
    """
    key = hashlib.sha256(b"healthcare.api.entity_tag" + secret.encode()).digest().ljust(64, b"\0")
    return bytes(byte ^ 0x36 for byte in key), bytes(byte ^ 0x5C for byte in key)


def read_tags(meta: Mapping[str, Any], header: str) -> set[str]:
    """The entity tags of If-Match or If-None-Match, with quotes, or `*`; empty without the header.

    Takes `request.META`. Raises ParseError (400) for anything else. A tag that a proxy has rewritten, weak or not, is
    returned as the tag of ours that it stands for: our tags identify the content, whatever its coding.
    """
    value = meta.get(f"HTTP_{header.upper().replace('-', '_')}")
    if value is None:
        return set()
    if value.strip(" \t") == "*":
        return {"*"}
    if not TAGS.fullmatch(value):
        raise ParseError(f"Send * or a comma-separated list of entity tags, quoted as in the ETag header, in {header}.")
    tags = re.findall(TAG, value)
    return {f'{ours[1]}"' if (ours := REWRITTEN_TAG.fullmatch(tag)) else tag for tag in tags}


def matches(tag: str, tags: set[str]) -> bool:
    """Whether a tag of ours is among those of a request."""
    return bool(tags & {"*", tag})


class ConditionalRequests(GenericAPIView):
    """Adds an ETag to every answer that is one record, and evaluates If-Match and If-None-Match.

    A read answers 304 if the client already has the current ETag. A write calls `check_preconditions` with its record.
    """

    if_match: set[str] = set()
    if_none_match: set[str] = set()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in self.allowed_methods:  # otherwise the answer is 405, whatever the headers are
            self.if_match = read_tags(request.META, "If-Match")
            self.if_none_match = read_tags(request.META, "If-None-Match")

    def check_preconditions(self, record: Model) -> None:
        """Raise PreconditionFailed (412) for a write whose If-Match or If-None-Match names another state of the record.

        Otherwise it pins the record to its version: the write compares the version again, since a concurrent request
        may change the record in between.
        """
        if self.request.method in {"GET", "HEAD"} or not (self.if_match or self.if_none_match):
            return
        tag = entity_tag(JSONRenderer().render(self.get_serializer(record).data))
        if (self.if_match and not matches(tag, self.if_match)) or matches(tag, self.if_none_match):
            raise PreconditionFailed
        if isinstance(record, Record):
            record.pinned = self.if_match != {"*"}

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        data = getattr(response, "data", None)
        if response.status_code in {200, 201} and isinstance(data, ReturnDict):  # one serialized record
            response = self.with_entity_tag(response, JSONRenderer().render(data))
        return super().finalize_response(request, response, *args, **kwargs)

    def with_entity_tag(self, response: Response, content: bytes) -> Response:
        """The answer with its ETag; for a read, 304 or 412 instead if If-None-Match or If-Match require it."""
        tag = entity_tag(content)
        if self.request.method in {"GET", "HEAD"}:
            if self.if_match and not matches(tag, self.if_match):
                return self.handle_exception(PreconditionFailed())
            if matches(tag, self.if_none_match):
                # RFC 9110 section 8.6: the length of the answer with a body. Django would write 0.
                response = Response(status=304, headers={"Content-Length": str(len(content))})
        response["ETag"] = tag
        return response


def write_conflict(record: Record) -> APIException | Http404:
    """The error of a write that found no row: 412 for a record pinned to a version, otherwise 404."""
    return PreconditionFailed() if record.pinned else Http404()


def entity_tags_parameter(name: str, description: str) -> dict[str, Any]:
    one = '(W/)?"[!#-~]*"'
    schema = {"type": "string", "pattern": rf"^(\*|{one}(, ?{one})*)$"}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


IF_MATCH = entity_tags_parameter(
    "If-Match", "ETags of the record, or `*`. If the current ETag is not among them, the answer is 412."
)
IF_NONE_MATCH = entity_tags_parameter(
    "If-None-Match", "ETags that the client has. If the current ETag is among them, the answer is 304 without a body."
)
ETAG = {
    "description": "Identifies this state of the record (RFC 9110).",
    "required": True,
    "schema": {"type": "string"},
}


def describe_conditional_requests(
    operation: dict[str, Any], method: str, problem: Callable[[int], dict[str, Any]]
) -> None:
    """Add the headers and responses of conditional requests to an OpenAPI operation; `problem(412)` describes a 412."""
    answers = [answer for code, answer in operation["responses"].items() if code in {"200", "201"}]
    records = [answer for answer in answers if "application/json" in answer.get("content", {}) and not is_list(answer)]
    in_path = any(place["in"] == "path" for place in operation.get("parameters", []))
    for answer in records:
        answer.setdefault("headers", {})["ETag"] = ETAG
    headers = [IF_MATCH] if (records or not answers) and (method != "POST" or in_path) else []
    if headers:
        operation["responses"] |= {"400": problem(400), "412": problem(412)}
    if headers and method == "GET":
        headers.append(IF_NONE_MATCH)
        operation["responses"]["304"] = {
            "description": "The client already has the current state.",
            "headers": {"ETag": ETAG},
        }
    if headers:
        operation["parameters"] = [*operation.get("parameters", []), *headers]


def is_list(answer: dict[str, Any]) -> bool:
    return any(content.get("schema", {}).get("type") == "array" for content in answer["content"].values())
