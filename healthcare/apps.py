"""The project as an app, with its management commands, templates and admin site."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig


class HealthcareConfig(AppConfig):
    name = "healthcare"


class AdminConfig(DjangoAdminConfig):
    default_site = "accounts.admin_site.BackOffAdminSite"
