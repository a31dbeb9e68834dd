"""`manage.py export_records patients FILE --owner NAME`: write the records of an owner into a file, as the API exports
them."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.http import HttpRequest, QueryDict
from rest_framework.exceptions import ValidationError

from audit.models import AccessLog, Basis
from audit.patient_data import patient_ids_of
from healthcare.api.errors import flatten
from healthcare.exports.formats import FORMATS
from healthcare.exports.stream import UNLIMITED_EXPORT, ExportStream
from healthcare.exports.views import exported_viewsets
from healthcare.operations.backup_errors import BackupError
from healthcare.operations.command_options import operating_system_account
from healthcare.operations.progress import at_intervals
from healthcare.operations.request_ids import LONGEST_REQUEST_ID
from healthcare.operations.unfinished_file import check_target, unfinished_file
from healthcare.rls.context import leave

STANDARD_OUTPUT = Path("-")


class Command(BaseCommand):
    help = (
        "Write the records of an owner into a new file that only this account can read, as the API exports them, "
        "however many there are. Each batch is recorded in the access log. `import_records` reads the file."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=sorted(exported_viewsets()))
        parser.add_argument("file", type=Path, metavar="FILE", help="The new file; - for standard output.")
        parser.add_argument("--owner", default="", metavar="NAME", help="Whose records; not needed for public ones.")
        parser.add_argument("--format", choices=sorted(FORMATS), default="csv")
        parser.add_argument("--bom", action="store_true", help="Begin CSV with a byte order mark, for Excel.")
        parser.add_argument("--fields", default="", metavar="NAMES", help="The columns, separated by commas.")

    def handle(self, *args: Any, **options: Any) -> None:
        kind, path = options["kind"], options["file"]
        try:
            if path == STANDARD_OUTPUT:
                self.write(open_stream(kind, options), sys.stdout.buffer)
                sys.stdout.buffer.flush()
                return
            path = path.absolute()
            check_target(path)
            with unfinished_file(path) as file:
                count = self.write(open_stream(kind, options), file)
        except BackupError as error:
            raise CommandError(f"{path} exists, or its folder does not; give the name of a new file.") from error
        except ValidationError as error:
            texts = [f"--{one['pointer'][1:]}: {one['detail']}" for one in flatten(error.detail)]
            raise CommandError(" ".join(texts)) from error
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"{path} is written: {count:,} {kind}.")

    def write(self, stream: ExportStream, file: Any) -> int:
        """Write the stream, and return the number of its records."""
        report = at_intervals(self.stderr.write)
        try:
            for piece in stream:
                file.write(piece)
                report(f"{stream.count:,} records")
        finally:
            stream.close()
        return stream.count


def open_stream(kind: str, options: dict[str, Any]) -> ExportStream:
    """What a request of the owner would get, without its limits. Raises ValidationError for unknown columns."""
    view: Any = exported_viewsets()[kind]()
    owner = find_exported_owner(options["owner"])
    if owner is None and view.acts_for_owner:
        raise CommandError("--owner: Say whose records to export.")
    asked = {"format": options["format"], "bom": str(options["bom"]), "fields": options["fields"]}
    view.action, view.action_map, view.format_kwarg = "export", {"get": "export"}, None
    view.authentication_classes = []
    view.export_limits = UNLIMITED_EXPORT
    view.request = view.initialize_request(request_of(owner, {name: value for name, value in asked.items() if value}))
    view.written_as = view.choose_columns_and_format(view.request)
    view.lock_name = lambda request: f"export_records {uuid4()}"  # it runs beside the owner's own exports
    if view.record_export:
        view.record_export = lambda records: record_export(view.access_action("export"), records)
    stream: ExportStream = view.open_stream(*view.rows_of_list(view.request))
    return stream


def request_of(owner: Any, parameters: dict[str, str]) -> HttpRequest:
    request: Any = HttpRequest()
    request.method = "GET"
    request.GET = QueryDict(urlencode(parameters))
    request._force_auth_user = owner  # as whom Django REST framework then acts
    return request  # type: ignore[no-any-return]


def record_export(action: str, records: Sequence[Any]) -> None:
    """Record a read by nobody who is logged in, with the account of the operating system."""
    leave()  # a caller of the API records their own reads alone
    AccessLog.objects.record(
        0,
        action,
        patient_ids_of(records),
        basis=Basis.STAFF,
        request_id=f"manage.py export_records by {operating_system_account()}"[:LONGEST_REQUEST_ID],
        outcome=200,
        pure_read=False,
    )


def find_exported_owner(name: str) -> Any:
    users: Any = get_user_model()._default_manager
    user = users.find_by_identifier(name) if name else None
    if name and user is None:
        raise CommandError("--owner: There is no user with this username.")
    return user
