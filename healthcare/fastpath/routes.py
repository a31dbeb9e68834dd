"""Which viewset of records a path leads to, for the routes that have at most one number in them."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.converters import IntConverter

from healthcare.api.unknown_parameters import shape
from healthcare.api.viewsets import RecordViewSet

NUMBER = re.compile(r"(?<=/)[0-9]+(?=/)")
LONGEST = 18  # digits of a number that every id's type can hold


class Route(NamedTuple):
    """A route as the URL conf has it, its viewset, the actions by method, and what the number in it is called."""

    template: str
    viewset: Any
    actions: dict[str, str]
    numbers: tuple[str, ...]


class Place(NamedTuple):
    """Where a request goes: the route, its action, and the number in the path by its name."""

    route: Route
    action: str
    kwargs: dict[str, int]


def find(path: str, method: str) -> Place | None:
    """The place of a path; None where no viewset's route is known to lead."""
    numbers = NUMBER.findall(path)
    route = routes(settings.ROOT_URLCONF).get(NUMBER.sub("{}", path) if numbers else path)
    if route is None or len(numbers) != len(route.numbers) or (numbers and len(numbers[0]) > LONGEST):
        return None
    action = route.actions.get(method.lower())
    return action and Place(route, action, dict(zip(route.numbers, map(int, numbers), strict=True)))  # type: ignore[return-value]


@cache
def routes(urlconf: str) -> dict[str, Route | None]:
    """The viewsets' routes by the shape of their paths; of two with one shape the first, as Django resolves them."""
    found: dict[str, Route | None] = {}
    for template, pattern in walk(get_resolver(urlconf), ""):
        places: dict[str, Any] = pattern.pattern.converters
        viewset: Any = getattr(pattern.callback, "cls", object)
        known = len(places) < 2 and all(isinstance(one, IntConverter) for one in places.values())
        route = None
        known = known and not hasattr(pattern.callback, "views_by_method")  # several viewsets: the standard path
        if known and issubclass(viewset, RecordViewSet):
            route = Route(template, viewset, pattern.callback.actions, tuple(places))  # type: ignore[attr-defined]
        found.setdefault(f"/{shape(template)}", route)
    return found


def walk(resolver: URLResolver, before: str) -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        template = before + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from walk(entry, template)
        else:
            yield template, entry
