"""Conditional requests (RFC 9110 section 13): ETag, If-Match and If-None-Match of one record."""

import hashlib
import hmac
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
TAGS = re.compile(rf"[ \t,]*{TAG}(?:[ \t]*,[ \t,]*{TAG})*[ \t,]*")


def entity_tag(content: bytes) -> str:
    """The strong ETag of one record in JSON. Keyed, so that it tells nothing of what it stands for.

    It follows the content and not the version alone, because a derived field, such as an age, changes by itself.
    """
    digest = hmac.digest(entity_tag_key(settings.SECRET_KEY), content, "sha256")
    return f'"{digest.hex()[:ENTITY_TAG_DIGITS]}"'


@lru_cache(maxsize=8)
def entity_tag_key(secret: str) -> bytes:
    """The key of the HMAC-SHA256 of entity tags, 32 bytes, derived from SECRET_KEY for this purpose alone."""
    return hashlib.sha256(b"healthcare.api.entity_tag" + secret.encode()).digest()


def read_tags(meta: Mapping[str, Any], header: str) -> set[str]:
    """The entity tags of If-Match or If-None-Match as they stand there, or `*`; empty without the header.

    Takes `request.META`. Raises ParseError (400) for anything else.
    """
    value = meta.get(f"HTTP_{header.upper().replace('-', '_')}")
    if value is None:
        return set()
    if value.strip(" \t") == "*":
        return {"*"}
    if not TAGS.fullmatch(value):
        raise ParseError(f"{header} takes * or entity tags in double quotes, as the ETag header gives them.")
    return set(re.findall(TAG, value))


def matches(tag: str, tags: set[str], *, weakly: bool = False) -> bool:
    """Whether a strong tag is among these; compared weakly, a weak one with the same text will do."""
    return bool(tags & ({"*", tag, f"W/{tag}"} if weakly else {"*", tag}))


class ConditionalRequests(GenericAPIView):
    """Adds an ETag to every answer that is one record, and evaluates If-Match and If-None-Match.

    A read whose ETag the client already has answers 304. A write calls `check_preconditions` with the record it found.
    """

    if_match: set[str] = set()
    if_none_match: set[str] = set()

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in self.allowed_methods:  # else it is a 405, whatever the headers say
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
        if (self.if_match and not matches(tag, self.if_match)) or matches(tag, self.if_none_match, weakly=True):
            raise PreconditionFailed
        if isinstance(record, Record):
            record.pinned = self.if_match != {"*"}

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        data = getattr(response, "data", None)
        if response.status_code in {200, 201} and isinstance(data, ReturnDict):  # what a serializer made of one record
            response = self.tagged(response, JSONRenderer().render(data))
        return super().finalize_response(request, response, *args, **kwargs)

    def tagged(self, response: Response, content: bytes) -> Response:
        """The answer with its ETag; for a read 304 in its place when the client has it already, 412 when it asks to."""
        tag = entity_tag(content)
        if self.request.method in {"GET", "HEAD"}:
            if self.if_match and not matches(tag, self.if_match):
                return self.handle_exception(PreconditionFailed())
            if matches(tag, self.if_none_match, weakly=True):
                # The length that the whole answer has, or none (RFC 9110 section 8.6): Django would write 0.
                response = Response(status=304, headers={"Content-Length": str(len(content))})
        response["ETag"] = tag
        return response


def write_conflict(record: Record) -> APIException | Http404:
    """The error of a write that found no row: 412 for a record pinned to a version, else 404."""
    return PreconditionFailed() if record.pinned else Http404()


def parameter(name: str, description: str) -> dict[str, Any]:
    one = '(W/)?"[!#-~]*"'
    schema = {"type": "string", "pattern": rf"^(\*|{one}(, ?{one})*)$"}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


IF_MATCH = parameter("If-Match", "ETags, or `*`: the record must still be in one of these states, else 412.")
IF_NONE_MATCH = parameter("If-None-Match", "ETags that the client holds: with the current one among them it is 304.")
ETAG = {"description": "Names this state of the record (RFC 9110).", "required": True, "schema": {"type": "string"}}


def describe(operation: dict[str, Any], method: str, problem: Callable[[int], dict[str, Any]]) -> None:
    """Add to an OpenAPI operation of `ConditionalRequests` what it takes and answers; `problem(412)` is that answer."""
    answers = [answer for code, answer in operation["responses"].items() if code in {"200", "201"}]
    one = [answer for answer in answers if answer.get("content") and not lists(answer)]
    in_path = any(place["in"] == "path" for place in operation.get("parameters", []))
    for answer in one:
        answer.setdefault("headers", {})["ETag"] = ETAG
    taken = [IF_MATCH] if (one or not answers) and (method != "POST" or in_path) else []
    if taken:
        operation["responses"] |= {"400": problem(400), "412": problem(412)}
    if taken and method == "GET":
        taken.append(IF_NONE_MATCH)
        operation["responses"]["304"] = {"description": "The client has it already.", "headers": {"ETag": ETAG}}
    if taken:
        operation["parameters"] = [*operation.get("parameters", []), *taken]


def lists(answer: dict[str, Any]) -> bool:
    return any(content.get("schema", {}).get("type") == "array" for content in answer["content"].values())
