"""The history page of a record: every change with who, when, old and new, and beside it who read a patient's data."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse

from audit.admin.accesses import accesses_to, patient_history_route
from audit.admin.last_changes import last_changes
from audit.admin.restoring import restore_version
from audit.admin.wording import (
    Users,
    access_text,
    actor_of,
    changed_lines,
    is_refusal,
    outcome_text,
    tells_more_than_events,
    value_text,
)
from audit.history import attach_previous, event_model_of, history_kept_since
from audit.models import AccessLog
from audit.patient_data import patient_id_field_of, patient_id_of
from audit.serializers import BOOKKEEPING, EventSerializer
from healthcare.admin.labels import field_label
from healthcare.admin.value_texts import local_time
from healthcare.model_fields import ID_TEXT

CHANGES_PER_PAGE, ACCESSES_PER_PAGE, MOST_ENTRIES = 25, 50, 50
ACTION_WORDS = {"create": "added", "update": "changed", "delete": "deleted", "restore": "restored"}


@dataclass(frozen=True)
class Change:
    """An event in words. `fields` holds the label, the value before and the value after of each changed field."""

    version: int | None
    action: str
    at: str
    actor: str
    reason: str
    request_id: str
    fields: list[tuple[str, str, str]]
    restore_path: str


@dataclass(frozen=True)
class Access:
    at: str
    actor: str
    words: str
    basis: str
    outcome: str
    refused: bool


class HistoryPage:
    """What the page of one record shows. Its queries do not grow with the history."""

    def __init__(self, model_admin: Any, request: HttpRequest, record: Any) -> None:
        self.model_admin, self.request, self.record = model_admin, request, record
        self.before, self.reads_before = read_event_id(request, "before"), read_event_id(request, "reads_before")
        self.model: type[Model] = model_admin.model
        self.is_patient = patient_id_field_of(self.model) == "id"
        self.users = Users(self.user_ids())
        self.may_restore = model_admin.may_restore_versions(request, record)

    @cached_property
    def events(self) -> list[Any]:
        """Those of the page, the latest first, and one more if there is one."""
        events = event_model_of(self.model).objects.filter(id=self.record.pk)
        earlier = events.filter(pgh_id__lt=self.before) if self.before else events
        found = list(earlier.order_by("-pgh_id")[: CHANGES_PER_PAGE + 1])
        attach_previous(found, None)
        return found

    @cached_property
    def accesses(self) -> list[AccessLog]:
        """Those of the page, the latest first, and one more if there is one."""
        return accesses_to(self.record, self.reads_before, ACCESSES_PER_PAGE + 1) if self.is_patient else []

    @cached_property
    def entries(self) -> list[LogEntry]:
        """What the admin did with the record without changing its row, such as a change of a user's groups."""
        kind = ContentType.objects.get_for_model(self.record)
        entries = LogEntry.objects.filter(content_type=kind, object_id=str(self.record.pk), action_flag=CHANGE)
        fields = event_model_of(self.model)._meta.fields
        labels = {name.lower() for field in fields for name in (field.name, str(field.verbose_name))}
        latest = entries.order_by("-id")[:MOST_ENTRIES]
        return [entry for entry in latest if tells_more_than_events(entry.change_message, labels)]

    def user_ids(self) -> Iterator[int | None]:
        for event in self.events:
            yield event.pgh_context.get("actor")
            for field in event._meta.fields:
                if field.related_model is get_user_model() and field.name not in BOOKKEEPING:
                    yield getattr(event, field.attname)
        yield from (access.actor for access in self.accesses)
        yield from (entry.user_id for entry in self.entries)

    def context(self) -> dict[str, Any]:
        changes, accesses = self.events[:CHANGES_PER_PAGE], self.accesses[:ACCESSES_PER_PAGE]
        ends = len(self.events) <= CHANGES_PER_PAGE
        since = history_kept_since() if ends else None
        describe_record = getattr(self.model_admin, "describe_record", str)
        return {
            **self.model_admin.admin_site.each_context(self.request),
            "title": f"History of {self.model_admin.opts.verbose_name} {describe_record(self.record)}",
            "opts": self.model_admin.opts,
            "object": self.record,
            "is_patient": self.is_patient,
            "patient_history": self.patient_history(),
            "changes": [self.change(event) for event in changes],
            "older_changes": "" if ends else f"?before={changes[-1].pk}",
            "newer_changes": self.before is not None,
            "kept_since": local_time(since) if since else "",
            "accesses": [self.access(access) for access in accesses],
            "older_accesses": f"?reads_before={accesses[-1].pk}" if len(self.accesses) > len(accesses) else "",
            "newer_accesses": self.reads_before is not None,
            "entries": [
                (local_time(entry.action_time), self.users.name(entry.user_id), entry.get_change_message())
                for entry in self.entries
            ],
        }

    def change(self, event: Any) -> Change:
        serializer = EventSerializer()
        action = serializer.get_action(event)
        words = "ended" if action == "delete" and event.ended_column() == "ended_at" else ACTION_WORDS[action]
        if action == "update" and event.previous is None:
            words = "the state that archived changes left"
        version = getattr(event, "version", None)
        context = event.pgh_context
        return Change(
            version=version,
            action=words,
            at=local_time(event.pgh_created_at),
            actor=actor_of(context, self.users),
            reason=context.get("reason") or "",
            request_id=context.get("request_id") or "",
            fields=[*self.field_changes(event, serializer.get_changes(event))],
            restore_path=self.restore_path(event) if version != getattr(self.record, "version", None) else "",
        )

    def field_changes(self, event: Any, changes: dict[str, list[Any]]) -> Iterable[tuple[str, str, str]]:
        for name, values in changes.items():
            field = event.pgh_tracked_model._meta.get_field(name)
            before, after = (value_text(field, value, self.users) for value in values)
            yield field_label(field), *changed_lines(before, after)

    def restore_path(self, event: Any) -> str:
        if not self.may_restore:
            return ""
        options = self.model_admin.opts
        name = f"{self.model_admin.admin_site.name}:{options.app_label}_{options.model_name}_restore_version"
        return reverse(name, args=[self.record.pk, event.pk])

    def access(self, access: AccessLog) -> Access:
        return Access(
            at=local_time(access.at),
            actor=self.users.name(access.actor),
            words=access_text(access.action),
            basis=access.get_basis_display(),
            outcome=outcome_text(access.outcome),
            refused=is_refusal(access.outcome),
        )

    def patient_history(self) -> str:
        """The page that says who read the data, for a record about a patient and a user who may view the patient."""
        if self.is_patient or patient_id_field_of(self.model) is None:
            return ""
        route = patient_history_route(self.model_admin.admin_site, self.request)
        return reverse(route, args=[patient_id_of(self.record)]) if route else ""


class EventHistoryPages:
    """The pages of the models whose history `track_history` keeps."""

    restore = staticmethod(restore_version)
    last_changes = staticmethod(last_changes)

    def covers(self, model: type[Model]) -> bool:
        return event_model_of(model) is not None

    def show(self, model_admin: Any, request: HttpRequest, record: Any) -> TemplateResponse:
        page = HistoryPage(model_admin, request, record)
        request.displayed_records = [record, *page.events]  # type: ignore[attr-defined]  # their reads are recorded
        request.current_app = model_admin.admin_site.name
        return TemplateResponse(request, "admin/record_history.html", page.context())


def read_event_id(request: HttpRequest, parameter: str) -> int | None:
    value = request.GET.get(parameter)
    if value is None:
        return None
    if not ID_TEXT.match(value):
        raise BadRequest
    return int(value)
