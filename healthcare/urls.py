"""Every path of the project. The domains' own paths are in their rooms."""

from django.contrib import admin
from django.urls import include, path

from healthcare import pages
from healthcare.api.schema_view import SchemaView

urlpatterns = [
    path("", pages.landing, name="landing"),
    path("healthz", pages.healthz, name="healthz"),
    path("readyz", pages.readyz, name="readyz"),
    path("admin/", admin.site.urls),
    path("api/", pages.landing, name="api"),
    path("api/docs/", pages.docs, name="docs"),
    path("api/schema/", SchemaView.as_view(), name="schema"),
    path("api/", include("accounts.urls")),
    path("api/", include("patients.urls")),
    path("api/", include("doctors.urls")),
    path("api/", include("mappings.urls")),
]
