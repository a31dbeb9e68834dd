"""The entries of a batch or a transaction. Each is answered by the view that answers the same request on its own.

An entry becomes a request of its own, which the URL conf resolves and a view answers in the transaction of the Bundle,
so that permissions, roles, scopes of tokens, parameters, preconditions and the access log are those of the view. What
an entry may ask for is listed in `PATH`: a path that is new to /fhir is refused until it is added there.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

from django.core.handlers.wsgi import WSGIRequest
from django.http import Http404
from django.urls import resolve
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request
from rest_framework.response import Response

from audit.middleware import record_refusal
from fhir.exceptions import Invalid
from fhir.issues import Issue
from fhir.json import encode
from fhir.outcomes import FHIR_JSON
from healthcare.api.acting_for import owner_of
from healthcare.api.token_scopes import check_token
from healthcare.ownership import RecordOwner
from healthcare.rls.context import enter

WITH_RESOURCE = {"POST", "PUT"}
METHODS_OF_ENTRY = {"GET", "HEAD", "DELETE"} | WITH_RESOURCE
# A type of resources, a resource, its history or one of its versions; `metadata` looks like a type.
PATH = re.compile(
    r"(?P<type>[A-Za-z]{1,64})(?:/(?P<id>[A-Za-z0-9.-]{1,64})(?:/_history(?:/[A-Za-z0-9.-]{1,64})?)?)?/?", re.ASCII
)
# https://hl7.org/fhir/R4/http.html#transaction: the elements of `request` that are headers of a single request.
HEADERS_OF_ENTRY = {
    "ifMatch": "HTTP_IF_MATCH",
    "ifNoneMatch": "HTTP_IF_NONE_MATCH",
    "ifNoneExist": "HTTP_IF_NONE_EXIST",
}
# Of the request with the Bundle, what is about that one alone: its body, and the record in its path.
OF_THE_BUNDLE = {
    "CONTENT_TYPE", "CONTENT_LENGTH", "HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_IDEMPOTENCY_KEY",
    "HTTP_IF_MODIFIED_SINCE", "HTTP_IF_UNMODIFIED_SINCE", *HEADERS_OF_ENTRY.values(),
}  # fmt: skip


@dataclass
class BundleEntry:
    """An entry of a Bundle. `url` is below the base, without the base itself."""

    place: int
    method: str
    url: str
    full_url: str = ""
    resource: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)  # by their names in the WSGI environment

    @property
    def expression(self) -> str:
        return f"Bundle.entry[{self.place}]"

    @property
    def target(self) -> tuple[str, str] | None:
        """The type and the id in the path; None for a path without an id."""
        match = PATH.fullmatch(self.url.partition("?")[0])
        return (match["type"], match["id"]) if match and match["id"] else None

    @property
    def condition(self) -> tuple[str, str] | None:
        """The type of resources and the condition of a conditional create; None for any other entry."""
        condition = self.headers.get("HTTP_IF_NONE_EXIST")
        return (self.url.partition("?")[0].rstrip("/"), condition) if self.method == "POST" and condition else None

    def check(self) -> None:
        """Raises Invalid for what no entry may ask for."""
        request = f"{self.expression}.request"
        if self.method not in METHODS_OF_ENTRY:
            problem = Issue("not-supported", "Send the whole resource by PUT; this server has no PATCH.", request)
            raise Invalid(problem, status=405)
        if "#" in self.url or not PATH.fullmatch(self.url.partition("?")[0]):
            known = "Write a path below the base: a type, `Type/id`, `Type/id/_history`, or that and a version."
            raise Invalid(Issue("not-supported", known, f"{request}.url"))
        if self.method in WITH_RESOURCE and self.resource is None:
            raise Invalid(Issue("required", "Send the resource.", f"{self.expression}.resource"))
        if self.method not in WITH_RESOURCE and self.resource is not None:
            raise Invalid(Issue("structure", "Send no resource with this method.", f"{self.expression}.resource"))

    def expression_of(self, expression: str) -> str:
        """The place in the Bundle that an expression in the answer to this entry means."""
        if expression.startswith("Bundle.entry["):
            return expression
        if expression.startswith("http."):  # R4: a parameter or a header of the request
            return f"{self.expression}.request"
        _, _, element = expression.partition(".")
        return f"{self.expression}.resource{element and '.'}{element}" if expression else self.expression


def read_entry(place: int, sent: dict[str, Any], base: str) -> BundleEntry:
    """The entry at this place of a Bundle whose structure is valid."""
    request = sent["request"]
    headers = {
        header: request[name].encode().decode("latin-1")  # as WSGI decodes headers (PEP 3333)
        for name, header in HEADERS_OF_ENTRY.items()
        if name in request
    }
    url = request["url"].removeprefix(f"{base}/").removeprefix("/")
    return BundleEntry(place, request["method"], url, sent.get("fullUrl", ""), sent.get("resource"), headers)


class EntryRequest(WSGIRequest):
    """The request that an entry stands for. It has the headers of the request with the Bundle, and no token is read
    again: see `EntryAuthentication`."""

    def __init__(self, entry: BundleEntry, bundle: Request) -> None:
        body = b"" if entry.resource is None else encode(entry.resource).encode()
        path, _, query = entry.url.partition("?")
        environ = {name: value for name, value in bundle.META.items() if name not in OF_THE_BUNDLE}
        environ |= {
            "REQUEST_METHOD": entry.method,
            "PATH_INFO": f"/fhir/{path}",
            "QUERY_STRING": query.encode().decode("latin-1"),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": BytesIO(body),
        }
        super().__init__(environ | ({"CONTENT_TYPE": FHIR_JSON} if body else {}) | entry.headers)
        self.bundle = bundle
        self.request_id = bundle._request.request_id  # type: ignore[attr-defined]
        self.refused_accesses: list[dict[str, Any]] = []


class EntryAuthentication(BaseAuthentication):
    """The caller of the Bundle, whom its own request has authenticated, with what depends on the view: whether the
    caller acts for another owner there, and whether the token allows it."""

    def authenticate(self, request: Request) -> tuple[Any, Any]:
        entry: Any = request._request
        bundle: Request = entry.bundle
        view = (request.parser_context or {})["view"]
        user, session, owner = bundle.user, bundle.auth, owner_of(bundle)
        scope: str = session.scope  # type: ignore[union-attr]
        entry.record_owner = owner if getattr(view, "acts_for_owner", False) else RecordOwner(user.pk)
        if owner.role:
            # The settings of the transaction: those of another entry, or of a savepoint that was rolled back.
            enter(user.pk, request, narrowed(entry.record_owner, scope))
        if scope:
            check_token(view, request.method, scope)
        return user, session


def narrowed(owner: RecordOwner, scope: str) -> RecordOwner:
    """The owner with the role that the policies of the database see: with a token that only reads, `read`."""
    return RecordOwner(owner.pk, owner.username, "read") if owner.role and scope == "read" else owner


def answer_entry(entry: BundleEntry, bundle: Request, on_error: Callable[[Exception], Response]) -> Response:
    """Answer an entry by its view. `on_error` answers for an exception outside the view; it may raise it again.

    A refused access is recorded with those of the request with the Bundle, after the end of its transaction.
    """
    try:
        entry.check()
        request = EntryRequest(entry, bundle)
        match = request.resolver_match = resolve(request.path_info)
        view = standard_view(match.func)
    except (Invalid, Http404) as error:
        return on_error(error)
    response: Response = view(request, *match.args, **match.kwargs)
    for access in request.refused_accesses:
        record_refusal(bundle._request, access)
    return response


def standard_view(view: Any) -> Any:
    """The view without the fast path, which has a transaction of its own."""
    while hasattr(view, "fast_actions"):
        view = view.__wrapped__
    return view
