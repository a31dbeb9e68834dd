"""What is no API: the landing page, the documentation and the two health checks. Read-only, open to anyone.

No page is one transaction, as API calls are: all but /readyz must answer while the database is away.
"""

from collections.abc import Callable
from functools import cache

from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from healthcare.api.problems import problem_response

LINKS = {"docs": "docs", "schema": "schema", "admin": "admin:index", "health": "healthz"}
API_LINKS = {
    "register": "credentials-register",
    "login": "credentials-login",
    "patients": "patient-list",
    "doctors": "doctor-list",
    "mappings": "mapping-list",
}


def page(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    # Exempt from the CSRF check, whose 403 would come before the 405 of an unsafe method.
    return csrf_exempt(transaction.non_atomic_requests(require_safe(view)))


@page
def landing(request: HttpRequest) -> HttpResponse:
    """A page for browsers; for every other client the links as JSON."""
    response: HttpResponse
    if request.get_preferred_type(["application/json", "text/html"]) == "text/html":
        response = HttpResponse(render_to_string("healthcare/landing.html"))
    else:
        links = {name: request.build_absolute_uri(reverse(view)) for name, view in LINKS.items()}
        api_links = {name: request.build_absolute_uri(reverse(view)) for name, view in API_LINKS.items()}
        response = JsonResponse({"api": api_links} | links)
    patch_vary_headers(response, ["Accept"])
    return response


@page
def docs(request: HttpRequest) -> HttpResponse:
    """Swagger UI, from local files."""
    return HttpResponse(render_to_string("healthcare/docs.html"))


@page
def healthz(request: HttpRequest) -> HttpResponse:
    """Whether this process is alive; asks nothing of the database."""
    return JsonResponse({"status": "ok"})


@page
def readyz(request: HttpRequest) -> HttpResponse:
    """Whether this process can serve: the database answers and every migration is applied. Else 503."""
    applied = MigrationRecorder(connection).applied_migrations()
    if not required_migrations() <= applied.keys():
        detail = "The database lacks migrations; run `python3 manage.py migrate`."
        return problem_response(request, 503, detail, {"Retry-After": "5"})
    return JsonResponse({"status": "ok"})


@cache
def required_migrations() -> set[tuple[str, str]]:
    """Every migration of the code, as (app, name). Read once: it cannot change in a running process."""
    return {*MigrationLoader(None).disk_migrations}
