"""Every path of the project. Each domain has its own in `urls.py` of its app."""

from importlib import import_module

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

from healthcare import pages
from healthcare.api.schema_view import SchemaView

# What the landing page links, by the names of the routes.
API_ROUTES = {
    "register": "credentials-register",
    "login": "credentials-login",
    "patients": "patient-list",
    "doctors": "doctor-list",
    "mappings": "mapping-list",
}

# Their paths stand in one list: an `include` for each would cost every request one more match.
DOMAINS = [
    "patients.urls",
    "doctors.urls",
    "mappings.urls",
    "accounts.urls",
    "audit.urls",
]
# The routes that clients call most. They are tried first; no path matches two routes.
FREQUENT = ["patient-list", "patient-detail", "doctor-list", "patient-doctors", "doctor-detail", "mapping-list"]


def by_frequency(pattern: URLPattern) -> int:
    return FREQUENT.index(str(pattern.name)) if pattern.name in FREQUENT else len(FREQUENT)


api: list[URLPattern | URLResolver] = [
    *sorted((pattern for domain in DOMAINS for pattern in import_module(domain).urlpatterns), key=by_frequency),
    path("", pages.landing, {"api_routes": API_ROUTES}, name="api"),
    path("docs/", pages.docs, name="docs"),
    path("schema/", SchemaView.as_view(), name="schema"),
]

urlpatterns = [
    path("api/", include(api)),
    path("fhir", import_module("fhir.urls").base),
    path("fhir/", include("fhir.urls")),
    path("", pages.landing, {"api_routes": API_ROUTES}, name="landing"),
    path("healthz", pages.healthz, name="healthz"),
    path("readyz", pages.readyz, name="readyz"),
    path("admin/", admin.site.urls),
]

handler400 = "healthcare.admin.error_pages.bad_request"
handler403 = "healthcare.admin.error_pages.permission_denied"
handler404 = "healthcare.admin.error_pages.page_not_found"
