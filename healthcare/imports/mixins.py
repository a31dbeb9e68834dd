"""`POST /…/import/`: creates and updates the records of a file."""

import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, ClassVar

from django.db import transaction
from django.http import HttpRequest
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from healthcare.api.idempotency import KEY_PARAMETER, AnsweredBefore, AnswerErased, Key
from healthcare.api.problems import CONTENT_TYPE, problem
from healthcare.api.schema import PROBLEM
from healthcare.api.viewsets import RecordViewSet
from healthcare.coverage import covered_by_fast_path
from healthcare.imports.file_refused import FileRefused
from healthcare.imports.importer import Importer
from healthcare.imports.locking import allow_long_statements
from healthcare.imports.models import Import, ImportedLine
from healthcare.imports.options import CHOICES, ImportOptions
from healthcare.imports.pipeline import ImportRun, has_failed, run_import
from healthcare.imports.reading import CSV, NDJSON, TOO_LARGE, FileLimits, ReadRecord, read_records
from healthcare.imports.serializers import ImportAnswerSerializer, result_of, summary_of
from healthcare.imports.unpacking import chunks_of, limited

REQUEST_LIMITS = FileLimits()
IN_MEMORY = 1024 * 1024  # bytes of a body; a larger one is in a temporary file
LONGEST_STATEMENT = 60  # seconds, which a batch takes on a busy machine at most
TOO_SLOW = (
    "The import took longer than {} seconds, and nothing was written; send the file in parts, or have it imported by "
    "`manage.py import_records`."
)
WRONG_TYPE = f"Send the file as {CSV} or {NDJSON}."
DESCRIPTIONS = {
    "mode": "`check` writes nothing and answers what `apply` would do.",
    "match": "How a record names one that exists already. With `none` an equal number counts as likely the same.",
    "on_match": "What becomes of a record that exists already.",
    "on_likely": "`hold` does not write a record that is probably there already, or twice in the file.",
    "partial": "`false` writes all or nothing, `true` the records without errors.",
    "empty": "`keep` leaves the field of an empty cell, null or an empty text as it is; `clear` empties it.",
}
IMPORT_PARAMETERS = [
    OpenApiParameter(
        "Content-Encoding",
        {"type": "string", "enum": ["gzip"]},
        OpenApiParameter.HEADER,
        description="How the file is packed, if it is.",
    ),
    *(
        OpenApiParameter(
            name,
            OpenApiTypes.BOOL if "true" in choices else {"type": "string", "enum": [*choices]},
            default=False if "true" in choices else choices[0],
            description=DESCRIPTIONS[name],
        )
        for name, choices in CHOICES.items()
    ),
    OpenApiParameter(
        "map",
        {"type": "array", "items": {"type": "string"}},
        description="`Full Name:name` reads the column or key `Full Name` as `name`; it may be repeated.",
    ),
    OpenApiParameter(
        "date_format",
        OpenApiTypes.STR,
        description="The form of dates, as for strptime: `%d.%m.%Y`. Default: ISO 8601.",
    ),
    OpenApiParameter(
        "encoding", OpenApiTypes.STR, description="A WHATWG label such as `windows-1252`. Default: UTF-8."
    ),
    OpenApiParameter(
        "delimiter", OpenApiTypes.STR, description="One character; by default a comma, a semicolon or a tab is found."
    ),
]


class RolledBackError(Exception):
    """Ends the savepoint of an import that must not be written."""


@covered_by_fast_path
class ImportMixin(RecordViewSet):
    """Adds `POST …/import/` to a viewset of records. `importer_class` says how its records are imported."""

    importer_class: ClassVar[type[Importer]]

    @classmethod
    def takes_key(cls, method: str | None, action: str | None) -> bool:
        """An import reads its own key: the body is too large for the memory."""
        return action != "import_records" and super().takes_key(method, action)

    @classmethod
    def access_action(cls, action: str) -> str:
        name = "import" if action == "import_records" else action
        return super().access_action(name)  # type: ignore[misc,no-any-return]

    @extend_schema(
        summary="Import a file of records",
        description="CSV with a header, or NDJSON; gzip with `Content-Encoding: gzip`. At most 20 MiB packed, 200 MiB "
        "unpacked and 50,000 records. 422 with `results` and `summary` where a record stops an `apply` that is not "
        "`partial`; then nothing is written. 409 with the code `import_running` while another import is running.",
        parameters=[KEY_PARAMETER, *IMPORT_PARAMETERS],
        request={CSV: OpenApiTypes.BINARY, NDJSON: OpenApiTypes.BINARY},
        responses={200: ImportAnswerSerializer, 409: PROBLEM, 422: PROBLEM},
    )
    @action(
        detail=False, methods=["post"], url_path="import", filter_backends=[], pagination_class=None, accepts_files=True
    )
    def import_records(self, request: Request) -> Response:
        options = ImportOptions.parse(dict(request.query_params.lists()))
        media_type, gzipped = media_type_of(request), is_gzipped(request)
        with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as body:
            receive(request._request, body)
            key = self.find_import_key(request, body) if options.mode == "apply" else None
            if key is not None:
                try:
                    key.claim()
                except AnsweredBefore as before:
                    return self.replay(before.response)
            body.seek(0)
            run = ImportRun(
                self.importer_class,
                owner=self.owner,
                caller_id=request.user.pk or 0,
                options=options,
                is_text=media_type == CSV,
                lenient=self.handling == "lenient",
            )
            records = read_records(
                chunks_of(body),
                media_type=media_type,
                gzipped=gzipped,
                options=options.read,
                limits=REQUEST_LIMITS,
                check_columns=run.refuse_unknown_columns,
            )
            response = self.respond(run, records)
        if key is not None and run.record is not None and response.status_code == 200:
            key.store(Response({"import": run.record.pk}))
        return response

    def respond(self, run: ImportRun, records: Iterable[ReadRecord]) -> Response:
        results: list[dict[str, Any]] = []
        is_written = True
        try:
            with transaction.atomic():
                allow_long_statements(LONGEST_STATEMENT)
                results += (row.result() for row in run_import(run, in_time(records, run.importer.longest_run)))
                if run.is_check or has_failed(run):
                    raise RolledBackError
        except RolledBackError:
            is_written = False
            for result in results:
                if result["id"] is not None and run.has_created(result["id"]):
                    result["id"] = None
        finally:
            run.close()
        self.note_reads(run.patients if is_written else run.patients_on_record())
        summary = summary_of(run.summary)
        if is_written or run.is_check:
            number = run.record.pk if run.record is not None and is_written else None
            return Response({"import": number, "results": results, "summary": summary})
        detail = "Nothing was written: correct the records that failed, or send `partial=true` to write the others."
        body = problem(self.request._request, 422, detail) | {"results": results, "summary": summary}
        return Response(body, 422, content_type=CONTENT_TYPE)

    def find_import_key(self, request: Request, body: IO[bytes]) -> Key | None:
        acting_for = self.owner.pk if self.owner.role else None
        return Key.of(request._request, request.user.pk, acting_for=acting_for, body=body)

    def replay(self, stored: Response) -> Response:
        """The answer to the first request again. The key refers to the import, whose lines hold the results."""
        record = Import.objects.filter(pk=stored.data["import"]).first()
        if record is None:
            raise AnswerErased
        lines = ImportedLine.objects.filter(parent=record).order_by("line")
        results = [result_of(line) for line in lines.iterator()]
        self.note_reads(self.importer_class.patients_in(results))
        stored.data = {"import": record.pk, "results": results, "summary": summary_of(record.summary)}
        return stored


def media_type_of(request: Request) -> str:
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type not in {CSV, NDJSON}:
        raise FileRefused(415, "unsupported_media_type", WRONG_TYPE)
    return media_type


def is_gzipped(request: Request) -> bool:
    return str(request.META.get("HTTP_CONTENT_ENCODING", "")).strip().lower().endswith("gzip")


def receive(request: HttpRequest, body: IO[bytes]) -> None:
    """Write the body of the request to a file. Raises FileRefused (413), and ParseError for one that is cut short."""
    announced = int(request.META.get("CONTENT_LENGTH") or 0)
    if announced > (REQUEST_LIMITS.packed or announced):
        raise FileRefused(413, "too_large", TOO_LARGE)
    received = 0
    for chunk in limited(chunks_of(request), REQUEST_LIMITS.packed, TOO_LARGE):  # type: ignore[arg-type]
        received += len(chunk)
        body.write(chunk)
    if received < announced:
        raise ParseError("The body is shorter than its Content-Length; send all of it.")


def in_time(records: Iterable[ReadRecord], seconds: int) -> Iterator[ReadRecord]:
    """The records. Raises FileRefused (413) when the import has taken too long."""
    deadline = time.monotonic() + seconds
    for record in records:
        if time.monotonic() > deadline:
            raise FileRefused(413, "too_slow", TOO_SLOW.format(seconds))
        yield record
