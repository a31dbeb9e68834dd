"""Django's command with the autodetector of our `makemigrations`: both must have the same one."""

from django.core.management.commands import migrate

from healthcare.management.commands.makemigrations import MigrationAutodetector


class Command(migrate.Command):
    autodetector = MigrationAutodetector
