"""`manage.py demo [--patients N] [--seed S]`: fill a database with people who do not exist."""

import datetime
import sys
from argparse import ArgumentTypeError
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection, reset_queries, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from healthcare.demo.parts import Demo
from healthcare.ownership import Record
from healthcare.postgresql.errors import sqlstate_of
from healthcare.postgresql.session import REMOVE_TIMEOUTS

PAST = datetime.timedelta(days=180)
PATIENTS_PER_BATCH = 1000
MOST_PATIENTS = 1_000_000
LOCK_KEY = 7_234_150_944  # an advisory lock: one run at a time
IN_USE = {"55P03", "40P01"}  # SQLSTATE of a lock timeout and of a deadlock


def parse_patients(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and 1 <= int(text) <= MOST_PATIENTS):
        raise ArgumentTypeError(f"{text} is not a number of patients; give one from 1 to {MOST_PATIENTS}.")
    return int(text)


def parse_seed(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ArgumentTypeError(f"{text} is not a seed; give a number of at most 18 digits.")
    return int(text)


class Command(BaseCommand):
    help = (
        "Add people who do not exist, with names in many scripts, doctors, assignments, and half a year of changes and "
        "reads, and print accounts to log in with. All in one transaction: an interrupted run adds nothing. A second "
        "run adds nothing either. With DEBUG=False it needs a database without records."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--patients",
            dest="count",
            type=parse_patients,
            default=200,
            metavar="N",
            help="how many patients; %(default)s if left out",
        )
        parser.add_argument(
            "--seed",
            type=parse_seed,
            default=1,
            metavar="S",
            help="the same seed gives the same people; %(default)s if left out",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.check_migrated()
        autodiscover_modules("demo_data")
        now = timezone.now()
        demo = Demo(options["count"], options["seed"], now - PAST, now)
        try:
            added = self.add(demo)
        except OperationalError as error:
            if sqlstate_of(error) in IN_USE:
                raise CommandError("Other sessions write to the database; try again when none does.") from error
            raise
        if added:
            self.analyze()
            self.stdout.write("\n".join(filter(None, (part.describe() for part in demo.parts.values()))))
        else:
            self.stdout.write(
                "The demo's data is there already; nothing was added. Its passwords were printed by the run that added "
                "it; `manage.py changepassword USERNAME` sets a new one."
            )

    def check_migrated(self) -> None:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            raise CommandError("The database lacks migrations; run `manage.py migrate` first.")

    @transaction.atomic
    def add(self, demo: Demo) -> bool:
        """Add everything and return True, or False if it is there already."""
        with connection.cursor() as cursor:
            cursor.execute(REMOVE_TIMEOUTS)
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
            parts = demo.parts.values()
            if any(part.is_present() for part in parts):
                return False
            cursor.execute("SET LOCAL lock_timeout TO '10s'")
            demo.pasts.begin(model for part in parts for model in part.tables())
            self.check_empty()
            cursor.execute(REMOVE_TIMEOUTS)
        demo.start = min(max(part.earliest_time() for part in parts), demo.now)
        for part in parts:
            part.begin()
        for first in range(0, demo.patients, PATIENTS_PER_BATCH):
            numbers = range(first, min(first + PATIENTS_PER_BATCH, demo.patients))
            for part in parts:
                part.add_patients(numbers)
            reset_queries()  # which DEBUG keeps, with all rows
            self.show_progress(numbers.stop, demo.patients)
        demo.pasts.finish()
        for part in parts:
            part.finish()
        return True

    def analyze(self) -> None:
        """So that queries are planned for what is there now, before autovacuum comes."""
        tables = [
            connection.ops.quote_name(name) for name in connection.introspection.django_table_names(only_existing=True)
        ]
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {', '.join(tables)}")

    def check_empty(self) -> None:
        if settings.DEBUG:
            return
        for model in apps.get_models():
            if issubclass(model, Record) and model._default_manager.exists():
                raise CommandError(
                    f"The database has {model._meta.verbose_name_plural}, and DEBUG is False: this may be a database "
                    "in use. Nothing was added; choose an empty database, or set DEBUG=True for one of development."
                )

    def show_progress(self, done: int, total: int) -> None:
        """On a terminal alone, in one line."""
        if sys.stderr.isatty():
            self.stderr.write(f"\r{done:,} of {total:,} patients", ending="\n" if done == total else "")
            self.stderr.flush()
