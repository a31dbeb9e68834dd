"""Deleting records, which hides them, restoring them, and ending what can be ended once."""

from collections.abc import Sequence
from typing import Any, ClassVar

from django.contrib.admin.models import DELETION
from django.http import HttpRequest

from healthcare.admin.actions import PreviewedAction, Refusals


class EndOnce(PreviewedAction):
    """Sets the time in `end_column`, which is NULL until then, and refuses records in which it is set.

    already: completes the sentence that begins with such a record: "has already ended".
    """

    end_column: ClassVar[str]
    already: ClassVar[str]
    on_change_page = True

    def is_offered_for(self, record: Any) -> bool:
        return getattr(record, self.end_column) is None

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Any]) -> Refusals:
        return {record.pk: self.already for record in records if not self.is_offered_for(record)}


class DeleteRecords(PreviewedAction):
    name = "delete_selected"  # in place of Django's own action, which deletes rows
    permission = "delete"
    label = "Delete selected %(verbose_name_plural)s"
    verb, done = "delete", "deleted"
    explanation = "The API no longer shows them; they stay in the database, and so does everything related to them."
    undone_by = "restore"
    all_or_nothing = True
    log_flag: ClassVar[int] = DELETION
    access_action = "delete"  # as the page that deletes one record

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Any]) -> Refusals:
        obstacles: Refusals = model_admin.deletion_obstacles(records)
        return obstacles

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[Any]) -> str:
        model_admin.records().filter(pk__in=[record.pk for record in records]).end()
        return ""


class RestoreRecords(PreviewedAction):
    name = permission = "restore"
    label = "Restore selected %(verbose_name_plural)s"
    verb, done = "restore", "restored"
    explanation = "The API shows them again, as they were when they were deleted."
    undone_by = "delete_selected"
    on_change_page = True

    def is_offered_for(self, record: Any) -> bool:
        return getattr(record, type(record)._default_manager.all().ended_column) is not None

    def refusals(self, model_admin: Any, request: HttpRequest, records: Sequence[Any]) -> Refusals:
        return {record.pk: "is already active" for record in records if not model_admin.is_hidden(record)}

    def perform(self, model_admin: Any, request: HttpRequest, records: Sequence[Any]) -> str:
        model_admin.records().filter(pk__in=[record.pk for record in records]).restore()
        return ""
