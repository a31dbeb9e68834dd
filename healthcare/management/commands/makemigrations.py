"""`manage.py makemigrations`, which does not start the embedded PostgreSQL."""

from typing import Any

from django.core.management.commands import makemigrations

from healthcare.embedded.base import starting_disabled


class Command(makemigrations.Command):
    """Django's command compares the applied migrations if it can connect, and only warns if it cannot."""

    def handle(self, *app_labels: str, **options: Any) -> None:
        with starting_disabled():
            super().handle(*app_labels, **options)
