"""Imports, and what became of each of their lines. They hold ids, and no value of a file."""

import json
from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

from django.conf import settings
from django.contrib.postgres.indexes import GinIndex
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from healthcare.ownership import OwnedQuerySet


class LineStatus(models.TextChoices):
    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    LIKELY = "likely"
    FAILED = "failed"


class Import(models.Model):
    """An import that was applied. `created_by` is the owner of the records, `caller` who has sent them."""

    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", editable=False, db_index=False
    )
    caller = models.BigIntegerField(help_text="The id of the user who sent it.")
    kind = models.CharField(max_length=30, help_text="Of the records: see `import_kind` of their model.")
    created_at = models.DateTimeField(default=timezone.now)
    parameters = models.JSONField(default=dict, help_text="The options of the request.")
    summary = models.JSONField(default=dict, help_text="The number of lines, by status.")
    undone_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager] = OwnedQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["created_by", "-id"], name="import_list"),
            models.Index(fields=["caller", "-id"], name="import_of_caller"),
        ]

    def __str__(self) -> str:
        return f"import {self.pk}"


# Takes these records out of what lines call likely. Such a line describes somebody who is probably the same, so it
# forgets where it came from as well.
FORGET_LIKELY = """
UPDATE imports_importedline line SET server = '', old_id = NULL, likely = (
    SELECT coalesce(jsonb_agg(one ORDER BY place), '[]')
    FROM jsonb_array_elements(likely) WITH ORDINALITY AS found (one, place)
    WHERE NOT coalesce((one ->> 'id')::bigint = ANY (%(keys)s::bigint[]), false)
)
FROM imports_import parent
WHERE parent.id = line.parent_id AND parent.kind = %(kind)s
AND likely <> '[]' AND likely @> ANY (ARRAY(SELECT jsonb_build_array(jsonb_build_object('id', key))
    FROM unnest(%(keys)s::bigint[]) key))
"""


WRITE_LINES = """
INSERT INTO imports_importedline
    (parent_id, created_by_id, line, status, record_id, version, server, old_id, errors, likely)
SELECT %(parent)s, %(owner)s, line, status, record_id, version, server, old_id, errors::jsonb, likely::jsonb
FROM unnest(
    %(line)s::bigint[], %(status)s::text[], %(record_id)s::bigint[], %(version)s::int[], %(server)s::text[],
    %(old_id)s::bigint[], %(errors)s::text[], %(likely)s::text[]
) AS written(line, status, record_id, version, server, old_id, errors, likely)
"""


class ImportedLineQuerySet(OwnedQuerySet):
    def write(self, parent: Import, lines: dict[str, list[Any]]) -> None:
        """Add lines, given by column. `bulk_create` would take several times as long."""
        as_json = {name: [json.dumps(one) if one else "[]" for one in lines[name]] for name in ("errors", "likely")}
        with connection.cursor() as cursor:
            cursor.execute(WRITE_LINES, {"parent": parent.pk, "owner": parent.created_by_id, **lines, **as_json})

    def about(self, model: type[models.Model], keys: Collection[int]) -> Self:
        """The lines that wrote or matched these records; none of a model that is not imported."""
        kind = getattr(model, "import_kind", None)
        return self.filter(record_id__in=keys, parent__kind=kind) if kind else self.none()

    def forget(self, model: type[models.Model], keys: Collection[int]) -> int:
        """Delete the lines about these records, take the records out of what other lines call likely, and return how
        many lines were deleted."""
        if not keys or not hasattr(model, "import_kind"):
            return 0
        with connection.cursor() as cursor:
            cursor.execute(FORGET_LIKELY, {"keys": [*keys], "kind": model.import_kind})
        return self.about(model, keys).delete()[0]


class ImportedLine(models.Model):
    """A record of the file. `line` is the physical line where it starts."""

    parent = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="lines", db_index=False)
    # Without a constraint, which PostgreSQL would check for each of a million lines. It is that of the import.
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.DO_NOTHING, related_name="+", db_constraint=False, db_index=False,
        editable=False,
    )  # fmt: skip
    line = models.BigIntegerField()
    status = models.CharField(max_length=10, choices=LineStatus.choices)
    record_id = models.BigIntegerField(null=True, help_text="The record that it wrote or matched.")
    version = models.PositiveIntegerField(null=True, help_text="Of the record, right after the import.")
    server = models.TextField(blank=True, help_text="The id of the server that the file comes from.")
    old_id = models.BigIntegerField(null=True, help_text="The record's id on that server.")
    errors = models.JSONField(default=list)
    likely = models.JSONField(default=list, help_text="Records that are probably the same, by id or by line.")

    objects: ClassVar[models.Manager] = ImportedLineQuerySet.as_manager()

    class Meta:
        ordering = ["parent", "line"]
        indexes = [
            models.Index(
                fields=["created_by", "server", "old_id"], condition=Q(old_id__isnull=False), name="import_line_old_id"
            ),
            models.Index(fields=["record_id"], condition=Q(record_id__isnull=False), name="import_line_of_record"),
            GinIndex(
                fields=["likely"], opclasses=["jsonb_path_ops"], condition=~Q(likely=[]), name="import_line_likely"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["parent", "line"], name="import_line_once"),
            models.CheckConstraint(condition=Q(status__in=LineStatus.values), name="import_line_status_known"),
        ]

    def __str__(self) -> str:
        return f"line {self.line} of import {self.parent_id}"


class StagedFile(models.Model):
    """A file that `manage.py import_records` is importing: what it has read, and how far it has written.

    It has no rows before its end has been read, and is deleted when the import is complete.
    """

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", editable=False)
    digest = models.CharField(max_length=64, unique=True, help_text="SHA-256 of the file, the owner and the options.")
    used_at = models.DateTimeField(default=timezone.now)
    rows = models.BigIntegerField(null=True, help_text="Records in the file.")
    written_rows = models.BigIntegerField(default=0, help_text="Of a partial import: records whose batch is written.")
    written_line = models.BigIntegerField(default=0, help_text="The line of the last one of these.")
    parent = models.ForeignKey(
        Import, on_delete=models.CASCADE, null=True, related_name="+", help_text="A partial import that has begun."
    )

    def __str__(self) -> str:
        return f"staged file {self.pk}"


class StagedRowQuerySet(models.QuerySet):
    def forget(self, owner_ids: Iterable[int]) -> int:
        """Delete what has been read from files of these owners, and return the number of rows. They are read again
        when the command is repeated, so that nobody has to find out whom each is about."""
        return self.filter(file__created_by__in=set(owner_ids)).delete()[0]


class StagedRow(models.Model):
    """A record of a staged file, not yet written. It holds data of patients; the API cannot read it."""

    file = models.ForeignKey(StagedFile, on_delete=models.CASCADE, related_name="staged_rows", db_index=False)
    line = models.BigIntegerField()
    content = models.TextField(help_text="The values and the errors of the record, in JSON.")

    objects: ClassVar[models.Manager] = StagedRowQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["file", "line"], name="staged_row_once")]

    def __str__(self) -> str:
        return f"line {self.line} of staged file {self.file_id}"
