"""Django's command with the autodetector of our `makemigrations`, which afterwards narrows the privileges in the
database: see `healthcare.rls.privileges`."""

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from healthcare.management.commands.makemigrations import MigrationAutodetector
from healthcare.rls.privileges import narrow_privileges


class Command(migrate.Command):
    autodetector = MigrationAutodetector

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if not (options["plan"] or options["check_unapplied"] or options["prune"]):
            narrow_privileges(connections[options["database"]])
