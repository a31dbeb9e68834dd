"""The fast POST of `healthcare.api.search_by_post`: a list with its query parameters in the body."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse, QueryDict, UnreadablePostError

from healthcare.api.pagination import query_around_cursor
from healthcare.api.search_by_post import query_text
from healthcare.fastpath.actions import STANDARD_PATH_HEADERS, NotExpressibleError, read_json_body
from healthcare.fastpath.lists import FastList, ListParameters
from healthcare.fastpath.reads import read_query

LONGEST_BODY = 4096  # bytes: it is read before the caller is authenticated


class FastListByPost(FastList):
    """`POST /…/search/`: 200 and 401. Its statements are those of the list."""

    answered_as = "list"

    def respond(self, request: HttpRequest, kwargs: dict[str, Any]) -> HttpResponse | None:
        return super().respond(request, kwargs) if self.is_expressible(request) else None

    def is_expressible(self, request: HttpRequest) -> bool:
        return "HTTP_IDEMPOTENCY_KEY" not in request.META and STANDARD_PATH_HEADERS.isdisjoint(request.META)

    def cache_key(self, request: HttpRequest, kwargs: dict[str, Any]) -> None:
        """Nothing is cached: the path and the query do not tell what is searched for."""

    def read_parameters(self, request: HttpRequest, kwargs: dict[str, Any]) -> ListParameters:
        in_url = read_query(request.GET, {"cursor"})
        if int(request.META.get("CONTENT_LENGTH") or 0) > LONGEST_BODY:
            raise NotExpressibleError
        try:
            body = read_json_body(request)
        except UnreadablePostError as error:
            raise NotExpressibleError from error
        if not body.keys() <= self.known_parameters - in_url.keys():
            raise NotExpressibleError
        values = {name: value for name, value in body.items() if value is not None}
        if not all(isinstance(value, str | int | float) for value in values.values()):
            raise NotExpressibleError
        texts = {name: query_text(value) for name, value in values.items()}
        parameters = self.parse(QueryDict(urlencode({**texts, **in_url})))
        return parameters._replace(link_query=query_around_cursor({}))  # no URL repeats what is in a body
