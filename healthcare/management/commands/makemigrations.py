"""`manage.py makemigrations`, which does not start the embedded PostgreSQL, notices changed database objects, and
writes operations that let the API go on."""

from typing import Any

from django.core.management.commands import makemigrations
from django.db.migrations.autodetector import MigrationAutodetector as DjangoAutodetector
from django.db.migrations.writer import MigrationWriter

from healthcare.database_objects import DatabaseObjectAutodetector
from healthcare.embedded.base import starting_disabled
from healthcare.management.substitution import substituted
from healthcare.upgrades.autodetector import OnlineAutodetector

# Of django-pgtrigger, which replaces Django's.
Autodetector: type[DjangoAutodetector] = makemigrations.Command.autodetector
CLASS = "class Migration(migrations.Migration):\n"


class MigrationAutodetector(OnlineAutodetector, DatabaseObjectAutodetector, Autodetector):  # type: ignore[misc, valid-type]
    """Compares models, triggers (django-pgtrigger) and database objects with the migrations."""


class Writer(MigrationWriter):
    """Django's, which also writes `atomic`."""

    def as_string(self) -> str:
        text = super().as_string()
        return text if self.migration.atomic else text.replace(CLASS, f"{CLASS}    atomic = False\n", 1)


class Command(makemigrations.Command):
    """Django's command compares the applied migrations if it can connect, and only warns if it cannot."""

    autodetector = MigrationAutodetector

    def handle(self, *app_labels: str, **options: Any) -> None:
        with starting_disabled(), substituted(makemigrations, "MigrationWriter", Writer):
            super().handle(*app_labels, **options)
