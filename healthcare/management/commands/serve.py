"""`manage.py serve [ADDRESS:PORT]`: start the database, migrate, and run the web server."""

from argparse import ArgumentTypeError
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor

from healthcare.embedded.base import DatabaseWrapper, release_servers
from healthcare.operations.database_start import wait_for_database
from healthcare.server.address import AddressError, parse_address, reserve_address
from healthcare.server.metrics_process import listen_for_metrics, serving_metrics
from healthcare.server.processes import run_granian

MAX_WORKERS = 64
DATABASE_SECONDS = 60  # to wait for a database that is not there yet


def parse_worker_count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_WORKERS):
        raise ArgumentTypeError(f"{text} is not a number of workers; give one from 1 to {MAX_WORKERS}.")
    return int(text)


def print_urls(url: str) -> None:
    print(f"API    {url}/api/\nDocs   {url}/api/docs/\nAdmin  {url}/admin/\nStop with Ctrl-C.", flush=True)


class Command(BaseCommand):
    help = "Start or wait for PostgreSQL, bring the database up to date and serve the API until SIGTERM or Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "address", nargs="?", default="127.0.0.1:8000", help="ADDRESS:PORT or PORT, %(default)s if left out"
        )
        parser.add_argument(
            "--no-migrate", action="store_false", dest="migrate", help="serve the database as it is, without migrating"
        )
        parser.add_argument(
            "--workers",
            type=parse_worker_count,
            default=1,
            help=f"number of worker processes, 1 to {MAX_WORKERS}; %(default)s if left out",
        )

    def handle(self, *arguments: Any, **options: Any) -> None:
        try:
            address = parse_address(options["address"])
            listener = reserve_address(address)
            metrics_listener = listen_for_metrics(settings.METRICS, address) if settings.METRICS else None
        except AddressError as error:
            raise CommandError(str(error)) from error
        try:
            with serving_metrics(metrics_listener, options["workers"]) as metrics:
                self.start_database()
                self.migrate(apply=options["migrate"])
                connections.close_all()  # the workers must not inherit this process's connection
                self.print_progress("Starting the web server…")
                run_granian(
                    address,
                    options["workers"],
                    partial(print_urls, address.url),
                    drain_seconds=settings.DRAIN_SECONDS,
                    metrics=metrics,
                )
        finally:
            listener.close()
            release_servers()

    def print_progress(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def start_database(self) -> None:
        database = connections[DEFAULT_DB_ALIAS]
        if isinstance(database, DatabaseWrapper):
            self.print_progress(f"Starting PostgreSQL in {database.home.folder}…")
        else:
            self.print_progress("Connecting to PostgreSQL…")
        wait_for_database(database, DATABASE_SECONDS, self.print_progress)

    def migrate(self, *, apply: bool) -> None:
        """Bring the database up to date, or say what it lacks. Of several hosts that start at once, one migrates."""
        executor = MigrationExecutor(connection)
        pending = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
        if not pending:
            self.print_progress("The database is up to date.")
        elif apply:
            self.print_progress(f"Applying {pending} migrations…")
        else:
            self.print_progress(f"The database lacks {pending} migrations: /readyz answers 503 until they are applied.")
        if apply:
            call_command("migrate", interactive=False, verbosity=0, skip_checks=True, stdout=self.stdout)
