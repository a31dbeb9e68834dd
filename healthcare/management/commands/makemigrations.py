"""`manage.py makemigrations`, which does not start the embedded PostgreSQL, and notices changed database objects."""

from typing import Any

from django.core.management.commands import makemigrations

from healthcare.database_objects import DatabaseObjectAutodetector
from healthcare.embedded.base import starting_disabled


class MigrationAutodetector(DatabaseObjectAutodetector, makemigrations.Command.autodetector):  # type: ignore[misc, valid-type]
    """Compares models, triggers (django-pgtrigger) and database objects with the migrations."""


class Command(makemigrations.Command):
    """Django's command compares the applied migrations if it can connect, and only warns if it cannot."""

    autodetector = MigrationAutodetector

    def handle(self, *app_labels: str, **options: Any) -> None:
        with starting_disabled():
            super().handle(*app_labels, **options)
