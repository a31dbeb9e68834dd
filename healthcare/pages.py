"""Pages outside the API: the landing page, the documentation and the two health checks. Read-only and public.

They do not run in a transaction as API requests do: all but /readyz must answer while the database is unreachable.
"""

from collections.abc import Callable

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from healthcare.api.health_checks import report_health
from healthcare.operations import health, readiness

LINKS = {"docs": "docs", "schema": "schema", "admin": "admin:index", "health": "healthz"}


def public_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    view.is_page = True  # type: ignore[attr-defined]  # for `middleware.find_page`
    # Exempt from the CSRF check: its 403 would come before the 405 of an unsafe method.
    return csrf_exempt(transaction.non_atomic_requests(require_safe(view)))


@public_page
def landing(request: HttpRequest, api_routes: dict[str, str]) -> HttpResponse:
    """Return a page to browsers, and links as JSON to every other client: those of `api_routes`, by the names of the
    routes, and of the pages here."""
    response: HttpResponse
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        response = HttpResponse(render_to_string("healthcare/landing.html"))
    else:
        links = {name: request.build_absolute_uri(reverse(view)) for name, view in LINKS.items()}
        api_links = {name: request.build_absolute_uri(reverse(view)) for name, view in api_routes.items()}
        response = JsonResponse({"api": api_links} | links)
    patch_vary_headers(response, ["Accept"])
    return response


@public_page
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI from local files."""
    return HttpResponse(render_to_string("healthcare/docs.html"))


@public_page
def healthz(request: HttpRequest) -> HttpResponse:
    """Report that this process is alive, without a query."""
    return health_response(request, ())


@public_page
def readyz(request: HttpRequest) -> HttpResponse:
    """Report whether requests can succeed, else 503. `manage.py serve` answers it before Django, in every state."""
    monitor = health.monitor
    return health_response(request, monitor.failed() if monitor.is_running else tuple(readiness.evaluate(connection)))


def health_response(request: HttpRequest, failed: tuple[str, ...]) -> HttpResponse:
    answer = report_health(failed, request.request_id)  # type: ignore[attr-defined]
    return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
