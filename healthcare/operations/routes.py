"""The route of a request as a template, for logs and metrics: `/api/doctors/{id}/`, as the OpenAPI description has it.

A path can identify a person, and a client can invent any number of paths; the templates are those of the URL conf.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

from django.contrib.admindocs.utils import replace_metacharacters, replace_named_groups, replace_unnamed_groups
from django.http import HttpRequest
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

UNKNOWN = "other"
ROUTE = "healthcare.route"  # in the WSGI environment
CATCH_ALL = ".*)$"  # the end of the admin's route for every path that it does not know
ROUTE_PARAMETER = re.compile(r"<(?:\w+:)?(\w+)>")


def find_route(request: HttpRequest) -> str:
    """The route of a request, kept in its WSGI environment. One that was refused before its view was looked up has the
    route of its path."""
    route: str | None = request.META.get(ROUTE)
    if route is None:
        match = request.resolver_match
        route = request.META[ROUTE] = route_template(match.route) if match else route_of_path(request.path_info)
    return route


def route_of_environ(environ: dict[str, Any]) -> str:
    """The route of a request that is answered outside Django, by its WSGI environment."""
    return environ.get(ROUTE) or route_of_path(environ.get("PATH_INFO", ""))


@lru_cache(maxsize=1024)  # refusing a request must stay cheap
def route_of_path(path: str) -> str:
    try:
        return route_template(resolve(path).route)
    except Resolver404:
        return UNKNOWN


@lru_cache(maxsize=1024)
def route_template(route: str) -> str:
    """The template of a `ResolverMatch.route`, such as `api/doctors/<int:pk>/`. Of a path that works with and without a
    slash at its end, it is the one without."""
    if route.endswith(CATCH_ALL):
        return UNKNOWN
    if route.endswith("/") and route.removesuffix("/") in url_patterns():
        route = route.removesuffix("/")
    readable = replace_metacharacters(replace_unnamed_groups(replace_named_groups(route)))
    return "/" + ROUTE_PARAMETER.sub(as_placeholder, readable).removeprefix("/")


def as_placeholder(parameter: re.Match[str]) -> str:
    return "{id}" if parameter[1] == "pk" else f"{{{parameter[1]}}}"


@cache
def url_patterns() -> frozenset[str]:
    """Every route of the URL conf as Django writes it."""
    return frozenset(route for route, _ in patterns_below(get_resolver(), ""))


def all_routes() -> list[str]:
    """Every template of the URL conf, and `other`."""
    return sorted({route_template(route) for route, _ in patterns_below(get_resolver(), "")} | {UNKNOWN})


def paths_with(declaration: str) -> frozenset[str]:
    """The paths without parameters whose view is a viewset's action that declares this to be true."""
    return frozenset(
        route_template(route)
        for route, pattern in patterns_below(get_resolver(), "")
        if getattr(pattern.callback, "initkwargs", {}).get(declaration) and "{" not in route_template(route)
    )


def patterns_below(resolver: URLResolver, prefix: str) -> Iterator[tuple[str, URLPattern]]:
    for pattern in resolver.url_patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLPattern):
            yield route, pattern
        else:
            yield from patterns_below(pattern, route)
