"""The project as an app, with its management commands, templates and admin site."""

import logging

from django.apps import AppConfig
from django.conf import settings
from django.contrib.admin.apps import AdminConfig as DjangoAdminConfig
from django.contrib.postgres.indexes import OpClass
from django.core.signals import request_finished, request_started
from django.db.models import OrderBy
from django.db.models.functions import Collate
from django.db.models.indexes import IndexExpression

from healthcare.operations import database_errors
from healthcare.postgresql.base import begin_request, end_request


class HealthcareConfig(AppConfig):
    name = "healthcare"

    def ready(self) -> None:
        IndexExpression.register_wrappers(OrderBy, OpClass, Collate)  # as django.contrib.postgres does
        database_errors.install()
        request_started.connect(begin_request, dispatch_uid="healthcare.postgresql.begin_request")
        request_finished.connect(end_request, dispatch_uid="healthcare.postgresql.end_request")
        if settings.GENERATED_KEY_FILE:
            logging.getLogger("healthcare.settings").warning(
                "SECRET_KEY is published or too weak, so the random key in %s signs instead; set SECRET_KEY to at "
                "least 50 random characters.",
                settings.GENERATED_KEY_FILE,
            )


class AdminConfig(DjangoAdminConfig):
    default_site = "accounts.admin_site.BackOffAdminSite"
