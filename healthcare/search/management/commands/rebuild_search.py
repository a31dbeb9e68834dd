"""Makes search anew, after an administrator has created the extensions that were missing."""

from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connection, transaction

from healthcare.search.extensions import Extensions
from healthcare.search.index import INDEXES
from healthcare.search.operations import CreateExtensions, CreateFolding, KeepTerms


class Command(BaseCommand):
    help = "Makes the search terms of every record anew, with the extensions that there are by now."

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        CreateExtensions().put_up(connection)
        CreateFolding().put_up(connection)
        for index in INDEXES:
            KeepTerms(**asdict(index)).put_up(connection)
        how = "similarity" if Extensions.of(connection).similarity else "the beginnings of words"
        self.stdout.write(f"Search finds names by {how}.")
